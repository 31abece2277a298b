"""Import an export: read it twice, record what may be recorded, account for every row.

The first reading takes in the file as a whole: how many rows, who is who, who denies what. The
second judges each row and writes in batches, each of which is kept when the next one fails.

Guarantees:

- Every row has one outcome and its reasons. Opt-outs enter as long as a person can be told.
- A consent counts only if no row of the file denies it for that person from now on. When rows deny
  and grant at different times, here or elsewhere, the registers decide by time
  (`consent.registers`).
- Idempotent: a fact's event id is derived from its content, so that the same file, in any order of
  its rows, changes nothing the second time, also after the person chose otherwise in between.
- Resumable: what a `Keeper` is told of a batch is committed with the batch, or not at all.
- A dry run writes nothing, and tells the same.

Non-goals: what a CRM calls a list or a campaign; merging people.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from consent.importer.batches import Batches, Collaborators, Keeper
from consent.importer.facts import Source
from consent.importer.outcomes import RowResult, Summary, Tally
from consent.importer.plan import Plan
from consent.importer.rows import Row, UnreadableFileError
from consent.importer.survey import Survey

BATCH: Final = 1000
"""Rows in one transaction."""

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


class FileImport:
    """Imports exports. This is where a transaction begins and ends: one a batch."""

    def __init__(self, parts: Collaborators, batch: int = BATCH) -> None:
        self._parts = parts
        self._batch = batch

    def run(
        self,
        source: Path | BinaryIO,
        plan: Plan,
        *,
        dry_run: bool = False,
        keeper: Keeper | None = None,
        progress: Progress = lambda _done, _total: None,
        report: Callable[[RowResult], None] = lambda _result: None,
        actor: str = "system:import",
    ) -> Summary:
        """Import the file. What was recorded before an error stays, and is found the next time.

        Args:
            source: a regular file or an open one; it is read twice.
            plan: how its rows are read.
            dry_run: write nothing, and tell what would become of each row.
            keeper: keeps what becomes of each batch, and knows where to go on.
            progress: told after each batch how many rows are done, and of how many.
            report: given what became of each row that is done now, in their order.
            actor: who records it: an opaque reference.

        Raises:
            UnreadableFileError: the file as a whole cannot be imported.
            LedgerRolledBackError: the ledger may not be extended.
            sqlalchemy.exc.DBAPIError: the database refused a batch.
        """
        parts = self._parts
        now, policies = parts.clock(), parts.policies()
        with plan.open(source) as table:
            reading = plan.reading(table.header, policies)
            survey = Survey()
            for row in table.rows():
                survey.learn(row, reading.read(row, now))
            export = parts.fingerprint(survey.export())
            origin = Source(plan.system, plan.method, policies, parts.fingerprint, export)
            batches = Batches(parts, origin, survey, now, actor, keeper, dry_run=dry_run)
            tally = Tally() if keeper is None else keeper.tally
            if keeper is not None:
                keeper.begin(table.header, survey.rows)
            rows = islice(table.rows(), tally.rows, None)
            progress(tally.rows, survey.rows)
            for some in _in_batches(rows, self._batch):
                for result in batches.take([(row, reading.read(row, now)) for row in some]):
                    tally.add(result)
                    report(result)
                progress(tally.rows, survey.rows)
            warnings = tuple(reading.warnings)
        if tally.rows != survey.rows:
            raise UnreadableFileError("The file was changed while it was read. Import it again.")
        return replace(
            tally.summary(dry_run=dry_run),
            ignored_columns=tuple(reading.ignored),
            warnings=warnings,
        )


def _in_batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch
