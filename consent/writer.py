"""The way into the ledger: where a transaction begins and ends for every write of consent.

`submit` returns once its command is durable, with a signed checkpoint that covers it; requests
inside a process share their commits (`consent.group_commit`). `write` commits a batch of an import.
`decide` is for what depends on what is known already, or writes more than events.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from consent.choices import Batch, Record, Recorded, Recorder
from consent.errors import ConsentError
from consent.group_commit import GroupCommit
from consent.ledger.notary import Notary
from consent.subjects import Identifier, SubjectRef

Decide: TypeAlias = Callable[[Session, Sequence[SubjectRef], datetime], Sequence[Record]]
Then: TypeAlias = Callable[[Session, Sequence[Recorded], datetime], None]


Beside: TypeAlias = Callable[[Session, Sequence[Recorded | ConsentError | None]], None]
"""Told what became of each command of a batch, before the commit."""


def _nothing_more(*_: object) -> None:
    """What follows where nothing does."""


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

    def write(
        self, commands: Sequence[Record], beside: Beside = _nothing_more
    ) -> list[Committed | ConsentError]:
        """Record many commands in one transaction of their own.

        Args:
            commands: what to record.
            beside: writes what belongs to them, behind the ledger's lock: kept with them, or not
                at all.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused; nothing was written.
            LedgerRolledBackError: the ledger does not extend what was signed.
        """
        return self._committed(self._write(commands, beside))

    def decide(
        self,
        people: Sequence[Identifier],
        decide: Decide,
        then: Then = _nothing_more,
    ) -> list[Committed]:
        """Decide on what is known of people, and record that, with no other writer in between.

        One transaction: `decide` and `then` may write to other tables in it. Both are called again
        where another node's write made the first try fail.

        Args:
            people: whom it is about; who is unknown is made.
            decide: given the people's refs, in their order, says what to record. Nothing that
                others write changes between its reading and our writing.
            then: told what was recorded, in the order of the commands, before the commit. What it
                locks comes behind the ledger's lock.

        Raises:
            UnknownSubjectError: a ref names nobody.
            ConsentError: a command breaks a rule; nothing was written.
            LedgerRolledBackError: the ledger does not extend what was signed.
        """
        try:
            batch = self._decided(people, decide, then)
        except IntegrityError:
            batch = self._decided(people, decide, then)
        return [one for one in self._committed(batch) if isinstance(one, Committed)]

    def _decided(self, people: Sequence[Identifier], decide: Decide, then: Then) -> Batch:
        with self._begin() as session:
            now = self._clock()
            commands = decide(session, self._recorder.hold(session, people, now), now)
            batch = self._recorder.apply(session, commands, now)
            recorded = []
            for result in batch.results:
                if not isinstance(result, Recorded):
                    raise result or RuntimeError("a command was not carried out")
                recorded.append(result)
            then(session, recorded, now)
        return batch

    def _write(self, commands: Sequence[Record], beside: Beside = _nothing_more) -> Batch:
        with self._begin() as session:
            batch = self._recorder.apply(session, commands, self._clock())
            beside(session, batch.results)
            return batch

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
