"""How one file is to be read: its kind, its mapping, its encoding. What decides over its rows."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from consent.importer import hubspot, salesforce
from consent.importer.hubspot import HubSpotMapping
from consent.importer.mapping import ENCODINGS, MappingFile
from consent.importer.rows import CsvTable, UnreadableFileError, open_csv
from consent.importer.statements import Reading
from consent.importer.table import TableReading
from consent.ledger.canonical import encode
from policies.model import PolicySet

_FORMAT: Final = "tutela/import-plan/1"


class Kind(StrEnum):
    """What is exported from where."""

    HUBSPOT = "hubspot"
    SALESFORCE = "salesforce"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the rows of a file are read."""

    kind: Kind
    system: str
    """Whose the record IDs are, and part of every fact's id."""
    reading: Callable[[Sequence[str], PolicySet], Reading]
    mapping: MappingFile | None = None
    encoding: str | None = None
    """As it was declared; None: UTF-8."""

    @property
    def method(self) -> str:
        """How the choices came to us, as their evidence says it."""
        return f"import.{self.system}"

    def digest(self, policies: PolicySet) -> str:
        """A hash of all that decides what becomes of a row."""
        parts = {
            "kind": self.kind.value,
            "system": self.system,
            "mapping": "" if self.mapping is None else self.mapping.digest,
            "encoding": self.encoding or "",
            "policy": policies.hash,
            "format": _FORMAT,
        }
        return sha256(encode(parts)).hexdigest()

    @property
    def form(self) -> str:
        """A hash of how rows are read, whatever the policy."""
        parts = [self.kind.value, self.system, "" if self.mapping is None else self.mapping.digest]
        return sha256(encode(parts)).hexdigest()

    def open(self, source: Path | BinaryIO) -> AbstractContextManager[CsvTable]:
        """The table in a file.

        Raises:
            UnreadableFileError: it is not there, empty, or not text as declared.
        """
        declared = self.encoding
        return open_csv(
            source,
            encoding=None if declared in {None, "utf-8"} else ENCODINGS[declared or ""],
            delimiter=None if self.mapping is None else self.mapping.delimiter,
            only_text=declared is None and self.kind is Kind.CSV,
        )


def plan_of(kind: Kind, mapping: MappingFile | None = None, encoding: str | None = None) -> Plan:
    """The plan for a file.

    Args:
        kind: what it is.
        mapping: needed for a table of any origin, allowed for Salesforce.
        encoding: a name of `ENCODINGS`; that of the mapping counts where this is None.

    Raises:
        UnreadableFileError: the mapping is missing, or is for another kind; or the encoding is not
            known.
    """
    if mapping is not None and mapping.kind != kind:
        raise UnreadableFileError(f"The mapping is for {mapping.kind}, and not for {kind}.")
    if encoding is not None and encoding not in ENCODINGS:
        raise UnreadableFileError(f"The encoding must be one of {', '.join(ENCODINGS)}.")
    declared = encoding or (mapping.encoding if mapping is not None else None)
    match kind:
        case Kind.HUBSPOT:
            return Plan(kind, hubspot.SYSTEM, HubSpotMapping, None, declared)
        case Kind.SALESFORCE:
            settings = mapping.settings if mapping is not None else None
            of_objects = partial(salesforce.reading_of, settings=settings or salesforce.DEFAULTS)
            return Plan(kind, salesforce.SYSTEM, of_objects, mapping, declared)
        case Kind.CSV:
            if mapping is None or mapping.table is None:
                raise UnreadableFileError(
                    "A mapping is needed, which says what the columns mean. Nothing was imported."
                )
            of_table = partial(TableReading, mapping=mapping.table)
            return Plan(kind, mapping.table.system, of_table, mapping, declared)
