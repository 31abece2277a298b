"""One transaction for all who wait: whoever comes first writes for those who came meanwhile.

A commit costs a disk's flush whatever it holds, and the ledger's lock admits one writer at a
time. So threads queue their commands, one of them leads, and the others get their results from
it. What follows a commit (the checkpoint) is done while the next group is writing already, in
the order of the commits. A group that fails as a whole is tried again command by command, so
that no one's fault is another's.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

C = TypeVar("C")
W = TypeVar("W")
R = TypeVar("R")

MAX_GROUP: Final = 256
"""Commands in one transaction, so that the first of them is not kept waiting."""

_SOON: Final = 0.002
"""Seconds without a newcomer after which a group starts without those who might still come."""


@dataclass(slots=True)
class _Waiting(Generic[C, R]):
    command: C
    turn: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    """Whether the turn that came is to write for the next group."""
    result: R | None = None
    error: BaseException | None = None


class GroupCommit(Generic[C, W, R]):
    """Runs `write` over groups of commands, one group at a time.

    Args:
        write: carries out commands in one transaction.
        conclude: gives one result a command, in order, for what `write` returned. Called in the
            order of the writes, one at a time, while the next `write` may run.
        alone: carries out one command of a group that failed, in a transaction of its own.
        key: commands of the same key never share a transaction; None: any may.
    """

    def __init__(
        self,
        write: Callable[[Sequence[C]], W],
        conclude: Callable[[W], Sequence[R]],
        alone: Callable[[C], R],
        key: Callable[[C], str | None],
    ) -> None:
        self._write = write
        self._conclude = conclude
        self._alone = alone
        self._key = key
        self._mutex = threading.Lock()
        self._came = threading.Condition(self._mutex)
        self._concluding = threading.Lock()
        self._queue: list[_Waiting[C, R]] = []
        self._writing = False
        self._gathering = False
        self._inside = 0
        self._most = 0
        """How many threads were inside at once since the last group: as many are worth a wait."""

    def submit(self, command: C) -> R:
        """Carry out one command together with those of other threads.

        Raises:
            Exception: whatever `write`, or then `alone`, raised for this command.
        """
        waiting: _Waiting[C, R] = _Waiting(command)
        with self._mutex:
            self._queue.append(waiting)
            self._inside += 1
            self._most = max(self._most, self._inside)
            if self._gathering:
                self._came.notify()
            leads = not self._writing
            self._writing = True
        try:
            if not leads:
                waiting.turn.wait()
                leads = waiting.leads
            if leads:
                self._lead()
        finally:
            with self._mutex:
                self._inside -= 1
        if waiting.error is not None:
            raise waiting.error
        if waiting.result is None:
            raise RuntimeError("the writer of this group was interrupted")
        return waiting.result

    def _lead(self) -> None:
        """Write for all who wait, hand over to the next who came, and conclude what was written."""
        group = self._gather()
        try:
            try:
                written = [(one, self._written(one)) for one in self._rounds(group)]
                self._concluding.acquire()  # before the next group can write: the order stays
            finally:
                self._hand_over()
            try:
                for one_round, outcome in written:
                    self._settle(one_round, outcome)
            finally:
                self._concluding.release()
        finally:
            for waiting in group:
                waiting.turn.set()

    def _gather(self) -> list[_Waiting[C, R]]:
        """Those who wait, and those who follow one soon after the other."""
        with self._mutex:
            self._gathering = True
            while len(self._queue) < self._most and self._came.wait(_SOON):
                pass
            self._gathering = False
            self._most = self._inside
            group, self._queue = self._queue[:MAX_GROUP], self._queue[MAX_GROUP:]
        return group

    def _hand_over(self) -> None:
        with self._mutex:
            successor = self._queue[0] if self._queue else None
            self._writing = successor is not None
        if successor is not None:
            successor.leads = True
            successor.turn.set()

    def _written(self, group: Sequence[_Waiting[C, R]]) -> W | Exception:
        try:
            return self._write([waiting.command for waiting in group])
        except Exception as error:  # noqa: BLE001 - every waiting thread must get its answer
            return error

    def _settle(self, group: Sequence[_Waiting[C, R]], written: W | Exception) -> None:
        if isinstance(written, Exception):
            self._settle_failed(group, written)
            return
        try:
            results = self._conclude(written)
        except Exception as error:  # noqa: BLE001 - every waiting thread must get its answer
            self._settle_failed(group, error)
        else:
            for waiting, result in zip(group, results, strict=True):
                waiting.result = result

    def _settle_failed(self, group: Sequence[_Waiting[C, R]], error: Exception) -> None:
        if len(group) == 1 and not isinstance(error, DBAPIError):
            group[0].error = error
            return
        for waiting in group:
            self._settle_alone(waiting)

    def _settle_alone(self, waiting: _Waiting[C, R]) -> None:
        try:
            waiting.result = self._alone(waiting.command)
        except Exception as error:  # noqa: BLE001 - the waiting thread must get its answer
            waiting.error = error

    def _rounds(self, group: Sequence[_Waiting[C, R]]) -> list[list[_Waiting[C, R]]]:
        """Split a group so that no two commands of a round share a key."""
        rounds: list[dict[object, _Waiting[C, R]]] = []
        for waiting in group:
            # What has no key of its own conflicts with nothing but itself.
            key = self._key(waiting.command) or id(waiting)
            free = next((one for one in rounds if key not in one), None)
            if free is None:
                free = {}
                rounds.append(free)
            free[key] = waiting
        return [list(one.values()) for one in rounds]
