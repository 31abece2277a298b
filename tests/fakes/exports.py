"""HubSpot exports as files, and an importer over the core."""

import csv
import hashlib
import hmac
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consent.importer.batches import Collaborators
from consent.importer.outcomes import Summary
from consent.importer.plan import Kind, plan_of
from consent.importer.run import BATCH, FileImport
from governance.vault.identify import mask
from tests.fakes.core import Core

BASIS = "Legal basis for processing contact's data"
EXPLANATION = "Legal basis explanation"
STATUS = "Marketing Information subscription status"
OPT_OUT = "Opted out of email: Marketing Information"
UPDATES = "Opted out of email: Product Updates"
ALL = "Unsubscribed from all email"
CONSENT = "Freely given consent from contact"

COLUMNS = ("Record ID", "Email", ALL, OPT_OUT, UPDATES, BASIS, EXPLANATION, STATUS, "Notes")
PROOF = {BASIS: CONSENT, EXPLANATION: 'web form 2025-04-02 "Newsletter v2"', STATUS: "Opted in"}
"""What a row needs to be consent."""


def contact(record: str = "", email: str = "", **more: str) -> dict[str, str]:
    """A row; further cells by the short names above are given in a mapping with `|`."""
    return {"Record ID": record, "Email": email, **more}


def write_export(
    path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str] = COLUMNS
) -> Path:
    """Write an export as HubSpot does: UTF-8 with a byte order mark, every heading once."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8-sig"))
    return path


def fingerprint(data: bytes) -> bytes:
    """A keyed hash under a key of the tests."""
    return hmac.digest(b"key of the tests", data, hashlib.sha256)


def collaborators(core: Core) -> Collaborators:
    """What the importer of one node works with."""
    return Collaborators(
        core.writer,
        core.directory,
        lambda: core.policies,
        fingerprint,
        core.clock,
        core.database.begin,
        core.database.read,
        mask=mask,
    )


@dataclass(frozen=True)
class HubSpotImport:
    """Imports HubSpot exports, without keeping a record of the import."""

    importer: FileImport

    def run(self, path: Path, **options: Any) -> Summary:
        """Import a file; the options are those of `FileImport.run`."""
        return self.importer.run(path, plan_of(Kind.HUBSPOT), **options)


def hubspot_import(core: Core, batch: int = BATCH) -> HubSpotImport:
    """The importer of one node."""
    return HubSpotImport(FileImport(collaborators(core), batch))
