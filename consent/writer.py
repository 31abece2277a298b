"""The way into the ledger: where a transaction begins and ends for every write of consent.

`submit` returns once its command is durable, with a signed checkpoint that covers it; requests
inside a process share their commits (`consent.group_commit`). `write` commits a batch of an import.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent.choices import Batch, Record, Recorded, Recorder
from consent.errors import ConsentError
from consent.group_commit import GroupCommit
from consent.ledger.notary import Notary


@dataclass(frozen=True, slots=True)
class Committed:
    """What is durable, and the signed checkpoint (a note) that covers it."""

    recorded: Recorded
    checkpoint: str


class ConsentWriter:
    """Commits commands, in groups across threads. One a process, made after fork."""

    def __init__(
        self,
        begin: Callable[[], AbstractContextManager[Session]],
        recorder: Recorder,
        notary: Notary,
        clock: Callable[[], datetime],
    ) -> None:
        self._begin = begin
        self._recorder = recorder
        self._notary = notary
        self._clock = clock
        self._group = GroupCommit(self._write, self._committed, self._again, _idempotency_key)

    def submit(self, command: Record) -> Committed:
        """Record one command, together with those of other threads.

        Raises:
            ConsentError: the command breaks a rule; nothing of it was written.
            LedgerRolledBackError: the ledger does not extend what was signed.
        """
        outcome = self._group.submit(command)
        if isinstance(outcome, ConsentError):
            raise outcome
        return outcome

    def write(self, commands: Sequence[Record]) -> list[Committed | ConsentError]:
        """Record many commands in one transaction of their own.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused; nothing was written.
            LedgerRolledBackError: the ledger does not extend what was signed.
        """
        return self._committed(self._write(commands))

    def _write(self, commands: Sequence[Record]) -> Batch:
        with self._begin() as session:
            return self._recorder.apply(session, commands, self._clock())

    def _again(self, command: Record) -> Committed | ConsentError:
        """A second and last try. What the first had committed after all is found by its id."""
        events = tuple(replace(new, derived=True) for new in command.events)
        again = [replace(command, events=events)]
        try:
            (outcome,) = self.write(again)
        except IntegrityError:  # the first try's commit arrived only now: look for it once more
            (outcome,) = self.write(again)
        return outcome

    def _committed(self, batch: Batch) -> list[Committed | ConsentError]:
        checkpoint = ""
        if any(isinstance(result, Recorded) for result in batch.results):
            grown = batch.appended
            checkpoint = self._notary.certify(*((grown.before, grown.after) if grown else ()))
        return [
            Committed(result, checkpoint) if isinstance(result, Recorded) else result
            for result in batch.results
            if result is not None
        ]


def _idempotency_key(command: Record) -> str | None:
    return command.idempotency.key if command.idempotency is not None else None
