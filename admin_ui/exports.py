"""Writes the ledger out for an auditor, from the command line."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from consent.export import IMPERSONAL, Disclosures, export
from governance.audit.trail import CLI

if TYPE_CHECKING:
    from admin_ui.services import Services


def export_ledger(
    services: "Services",
    directory: Path,
    also: Collection[str],
    progress: Callable[[int, int], None],
) -> int:
    """Write tiles, checkpoint, verifier key and explanation; returns how many entries.

    Args:
        services: the installation.
        directory: where to; must not hold anything yet.
        also: claims to disclose beside those that point at nobody, such as `subject`.
        progress: told how many tiles are done, and of how many.

    Raises:
        ExportError: something is there already, or it cannot be written.
    """
    claims = IMPERSONAL | set(also)
    written = export(
        directory,
        log=services.log,
        snapshot=services.database.snapshot,
        checkpoint=services.notary.certify(),
        vkey=services.verifier_key,
        disclosures=Disclosures(services.cipher, claims),
        progress=progress,
    )
    with services.database.begin() as session:
        services.trail.record(
            session,
            actor=CLI,
            action="ledger.exported",
            object="ledger",
            details={"entries": written.size, "claims": sorted(claims)},
            now=services.clock(),
        )
    return written.size
