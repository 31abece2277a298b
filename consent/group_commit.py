"""One transaction for all who wait: whoever comes first writes for those who came meanwhile.

A commit costs a disk's flush whatever it holds, and the ledger's lock admits one writer at a
time. So threads queue their commands, one of them leads, and the others get their results from
it. A group that fails as a whole is tried again command by command, so that no one's fault is
another's.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from sqlalchemy.exc import DBAPIError

C = TypeVar("C")
R = TypeVar("R")

MAX_GROUP: Final = 256
"""Commands in one transaction, so that the first of them is not kept waiting."""


@dataclass(slots=True)
class _Waiting(Generic[C, R]):
    command: C
    turn: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    """Whether the turn that came is to write for the next group."""
    result: R | None = None
    error: BaseException | None = None


class GroupCommit(Generic[C, R]):
    """Runs `write` over groups of commands, one group at a time.

    Args:
        write: carries out commands in one transaction and gives one result each, in order.
        alone: carries out one command of a group that failed, in a transaction of its own.
        key: commands of the same key never share a transaction; None: any may.
    """

    def __init__(
        self,
        write: Callable[[Sequence[C]], Sequence[R]],
        alone: Callable[[C], R],
        key: Callable[[C], str | None],
    ) -> None:
        self._write = write
        self._alone = alone
        self._key = key
        self._mutex = threading.Lock()
        self._queue: list[_Waiting[C, R]] = []
        self._writing = False

    def submit(self, command: C) -> R:
        """Carry out one command together with those of other threads.

        Raises:
            Exception: whatever `write`, or then `alone`, raised for this command.
        """
        waiting: _Waiting[C, R] = _Waiting(command)
        with self._mutex:
            self._queue.append(waiting)
            leads = not self._writing
            self._writing = True
        if not leads:
            waiting.turn.wait()
            leads = waiting.leads
        if leads:
            self._lead()
        if waiting.error is not None:
            raise waiting.error
        if waiting.result is None:
            raise RuntimeError("the writer of this group was interrupted")
        return waiting.result

    def _lead(self) -> None:
        """Write for all who wait, then hand over to the next who came."""
        with self._mutex:
            group, self._queue = self._queue[:MAX_GROUP], self._queue[MAX_GROUP:]
        try:
            for one_round in self._rounds(group):
                self._settle(one_round)
        finally:
            with self._mutex:
                successor = self._queue[0] if self._queue else None
                self._writing = successor is not None
            for waiting in group:
                waiting.turn.set()
            if successor is not None:
                successor.leads = True
                successor.turn.set()

    def _settle(self, group: Sequence[_Waiting[C, R]]) -> None:
        try:
            results = self._write([waiting.command for waiting in group])
        except Exception as error:  # noqa: BLE001 - every waiting thread must get its answer
            if len(group) == 1 and not isinstance(error, DBAPIError):
                group[0].error = error
                return
            for waiting in group:
                self._settle_alone(waiting)
        else:
            for waiting, result in zip(group, results, strict=True):
                waiting.result = result

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
