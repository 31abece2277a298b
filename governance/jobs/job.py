"""What a job is, and what its function works with while it runs."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy.orm import Session

from consent.ledger.canonical import JSONValue
from governance.database import Database
from governance.jobs import runs
from governance.jobs.errors import (
    InvalidJobError,
    RunInterruptedError,
    RunnerStoppedError,
    RunPausedError,
)
from governance.jobs.models import RunState
from governance.jobs.runs import Lease, Progress, Run
from governance.jobs.schedule import CatchUp, Schedule

Result: TypeAlias = Mapping[str, JSONValue] | None
"""What a run says of its work: counts and ids, nothing about a person."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
_PROGRESS_EVERY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do at each tick of a schedule, at most once a tick, never twice at a time.

    Raises:
        InvalidJobError: the name is not like `ledger.verify`.
    """

    name: str
    schedule: Schedule
    run: "Callable[[JobContext], Result]"
    """Does the work, in units of work well shorter than a lease. Raising means that it failed."""
    catch_up: CatchUp = CatchUp.LATEST
    """What becomes of ticks that passed while no node was up."""
    late_after: timedelta = timedelta(minutes=1)
    """How late a tick may still run under `CatchUp.SKIP`."""

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise InvalidJobError("a job's name is written like ledger.verify")


class JobContext:
    """One attempt at one run.

    `checkpoint` and `progress` raise a `RunInterruptedError` when this attempt is to end: an
    operator paused or cancelled the run, the process is shutting down, or another node has taken
    the run over. A job lets it pass. Work committed without a checkpoint is then done again.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        run: Run,
        held: Lease,
        lease: timedelta,
        stopping: threading.Event,
    ) -> None:
        self.database: Final = database
        self.clock: Final = clock
        self.run: Final = run
        self._held = held
        self._lease = lease
        self._stopping = stopping
        self._progress = run.progress
        self._written = time.monotonic()
        self._interruption: RunInterruptedError | None = None

    @property
    def last_checkpoint(self) -> Mapping[str, Any] | None:
        """Where an earlier attempt got to; None if there is nothing to resume."""
        return self.run.checkpoint

    def checkpoint(self, data: Mapping[str, JSONValue], session: Session | None = None) -> None:
        """Say where to go on from if this attempt ends here.

        Args:
            data: all that a later attempt needs; replaces the checkpoint before.
            session: the unit of work that the checkpoint is about. Both are then kept or neither
                is, and work of an attempt that was taken over is never kept. Without one, the
                checkpoint is a unit of work of its own.

        Raises:
            RunInterruptedError: the attempt is to end. A unit of work that was passed must then
                be rolled back, as happens when the exception passes `Database.begin`.
        """
        self._raise_if_told()
        if session is not None:
            self._hold(session, data)
            return
        with self.database.begin() as own:
            self._hold(own, data)
        self._raise_if_told()

    def progress(
        self,
        done: int,
        total: int | None = None,
        phase: str | None = None,
        message: str | None = None,
    ) -> None:
        """Say how far the work is. Cheap enough for each batch: written once a second at most.

        Raises:
            RunInterruptedError: the attempt is to end.
        """
        self._raise_if_told()
        self._progress = Progress(done, total, phase, message)
        if time.monotonic() - self._written >= _PROGRESS_EVERY:
            self.beat()
            self._raise_if_told()

    def beat(self) -> None:
        """Prolong the lease and write progress. The runner calls this at regular times.

        Raises:
            LeaseLostError, RunCancelledError: the run is somebody else's, or nobody's.
        """
        with self.database.begin() as session:
            self._hold(session, None)

    def finish(self, result: Result) -> None:
        """The work is done. For the runner."""
        with self.database.begin() as session:
            runs.finish(session, self._held, self.clock(), progress=self._progress, result=result)

    def fail(self, code: str) -> None:
        """The work cannot be done. For the runner."""
        with self.database.begin() as session:
            runs.fail(session, self._held, self.clock(), code, progress=self._progress)

    def release(self) -> None:
        """Somebody else may go on. For the runner."""
        with self.database.begin() as session:
            runs.release(session, self._held)

    def _hold(self, session: Session, data: Mapping[str, JSONValue] | None) -> None:
        try:
            state = runs.hold(
                session,
                self._held,
                self.clock(),
                self._lease,
                progress=self._progress,
                checkpoint=data,
            )
        except RunInterruptedError as error:
            self._interruption = error
            raise
        self._written = time.monotonic()
        if state is RunState.PAUSED:
            # What was just written is kept; the next call ends the attempt.
            self._interruption = RunPausedError("an operator paused the run")

    def _raise_if_told(self) -> None:
        if self._interruption is not None:
            raise self._interruption
        if self._stopping.is_set():
            raise RunnerStoppedError("the process is shutting down")
