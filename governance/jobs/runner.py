"""Runs jobs on their schedules, in this process, among any number of processes.

APScheduler wakes us at each tick and every few seconds; it decides nothing and stores nothing.
What is due, who runs it and where it goes on is decided in the database (`governance.jobs.runs`).
So a wake-up too many, too few or too late does no harm, and a process killed in the middle is
replaced: when its lease has ended, the next wake-up of any node takes its run over.

Non-goal: quick tasks. A run costs some five transactions.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final

import structlog
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from consent.errors import ConsentError
from governance.database import Database
from governance.errors import DatabaseError, GovernanceError
from governance.jobs import runs
from governance.jobs.errors import (
    InvalidJobError,
    RunInterruptedError,
    RunnerStoppedError,
)
from governance.jobs.job import Job, JobContext
from governance.jobs.runs import Lease, Run
from governance.jobs.schedule import CatchUp, due, next_tick
from policies.errors import PolicyError

LEASE: Final = timedelta(seconds=30)
POLL: Final = timedelta(seconds=5)
_BEATS_A_LEASE: Final = 6
_UNAVAILABLE: Final = (SQLAlchemyError, DatabaseError)
_OURS: Final = (PolicyError, ConsentError, GovernanceError)

_log = structlog.get_logger()


class JobRunner:
    """Runs jobs in threads of this process, from `start` to `stop`."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        jobs: Sequence[Job],
        *,
        lease: timedelta = LEASE,
        poll: timedelta = POLL,
        at_once: int = 4,
    ) -> None:
        """Collaborators and measures. Starts nothing.

        Args:
            database: where runs are claimed and recorded.
            clock: the present.
            jobs: what to do, the same on every node.
            lease: how long a run may go without a heartbeat before another node takes it over.
            poll: how often to look for runs that were given back or whose owner vanished.
            at_once: how many runs this process works on at a time.

        Raises:
            InvalidJobError: two jobs have the same name.
        """
        self.jobs: Final = tuple(jobs)
        if len({job.name for job in self.jobs}) < len(self.jobs):
            raise InvalidJobError("two jobs have the same name")
        self.owner: Final = f"node-{secrets.token_hex(6)}"
        self._database = database
        self._clock = clock
        self._lease = lease
        self._poll = poll
        self._at_once = at_once
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._active: set[str] = set()
        self._pool = ThreadPoolExecutor(at_once, "job")
        self._scheduler: Any = None
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        """Begin to run jobs. Returns at once: the scheduler's modules load behind our back."""
        self._starting = threading.Thread(target=self._start, name="job-scheduler-start")
        self._starting.start()

    def stop(self, timeout: float = 30.0) -> bool:
        """End gracefully: runs give themselves back at their next checkpoint, and others go on.

        Returns:
            Whether all had ended after `timeout` seconds. What has not is taken over by another
            node once its lease has ended.
        """
        self._stopping.set()
        if self._starting is not None:
            self._starting.join()
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
        with self._changed:
            ended = self._changed.wait_for(lambda: not self._active, timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def run_due(self) -> int:
        """Run everything that is due now, in this thread; returns how many runs were made."""
        made = 0
        for job in self.jobs:
            self._enqueue(job)
            while not self._stopping.is_set() and (claimed := self._claim(job)):
                self._work(job, *claimed)
                made += 1
        return made

    def next_ticks(self) -> Mapping[str, datetime | None]:
        """When each job is due next, by name."""
        now = self._clock()
        return {job.name: next_tick(job.schedule, now) for job in self.jobs}

    # --- waking up -----------------------------------------------------------------------------

    def _start(self) -> None:
        from apscheduler.schedulers.background import BackgroundScheduler
        from apscheduler.triggers.interval import IntervalTrigger

        # It warns of wake-ups that it left out, which the next one makes good.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        scheduler = BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        for job in self.jobs:
            scheduler.add_job(self._wake, job.schedule.trigger(), args=[job])
        scheduler.add_job(
            self._wake_all,
            IntervalTrigger(seconds=self._poll.total_seconds(), timezone=UTC),
            next_run_time=datetime.now(UTC),
        )
        scheduler.start()
        self._scheduler = scheduler
        _log.info("job runner started", owner=self.owner, count=len(self.jobs))

    def _wake_all(self) -> None:
        for job in self.jobs:
            self._wake(job)

    def _wake(self, job: Job) -> None:
        try:
            self._enqueue(job)
            self._start_next(job)
        except _UNAVAILABLE as error:
            # Nothing is lost: what is due stays due until it is in the database.
            _log.warning("job not looked at", job=job.name, error=type(error).__name__)

    def _enqueue(self, job: Job) -> None:
        now = self._clock()
        with self._database.read() as connection:
            last = runs.latest_tick(connection, job.name, now)
        todo = due(job.schedule, job.catch_up, job.late_after, last, now)
        if not todo.run and todo.missed is None:
            return
        with self._database.begin() as session:
            if todo.missed is not None:
                runs.record_missed(session, job.name, todo.missed, now)
            runs.enqueue(session, job.name, todo.run, now)
            if job.catch_up is not CatchUp.EACH:
                runs.supersede(session, job.name, now)

    def _start_next(self, job: Job) -> None:
        with self._changed:
            busy = job.name in self._active or len(self._active) >= self._at_once
            if busy or self._stopping.is_set():
                return
            self._active.add(job.name)
        claimed = None
        try:
            claimed = self._claim(job)
        finally:
            if claimed is None:
                self._end(job)
            else:
                self._pool.submit(self._work_and_go_on, job, *claimed)

    def _end(self, job: Job) -> None:
        with self._changed:
            self._active.remove(job.name)
            self._changed.notify_all()

    def _claim(self, job: Job) -> tuple[Run, Lease] | None:
        now = self._clock()
        with self._database.read() as connection:
            if not runs.claimable(connection, job.name, now):
                return None
        with self._database.begin() as session:
            return runs.claim(session, job.name, self.owner, now, self._lease)

    # --- working -------------------------------------------------------------------------------

    def _work_and_go_on(self, job: Job, run: Run, held: Lease) -> None:
        try:
            self._work(job, run, held)
        finally:
            self._end(job)
        # There may be more of this job, and others may have waited for a free thread.
        self._wake_all()

    def _work(self, job: Job, run: Run, held: Lease) -> None:
        log = _log.bind(job=job.name, reference=run.id, attempt=run.attempts)
        context = JobContext(self._database, self._clock, run, held, self._lease, self._stopping)
        try:
            with _Heartbeat(context, self._lease / _BEATS_A_LEASE, log):
                outcome = self._attempt(job, context, log)
            log.info("job run ended", outcome=outcome)
        except RunInterruptedError as error:
            log.info("job run ended", outcome=error.code)
        except _UNAVAILABLE as error:
            # The lease ends by itself; whoever takes over then goes on from the checkpoint.
            log.warning("job run left behind", error=type(error).__name__)

    def _attempt(self, job: Job, context: JobContext, log: Any) -> str:
        try:
            context.finish(job.run(context))
        except RunnerStoppedError as error:
            context.release()
            return error.code
        except (RunInterruptedError, OperationalError, DatabaseError):
            raise
        except Exception as error:
            # Whatever a job does wrong ends its run alone.
            code = error.code if isinstance(error, _OURS) else type(error).__name__
            log.exception("job failed", code=code)
            context.fail(code)
            return code
        return "done"


class _Heartbeat:
    """Prolongs a lease from a thread of its own while the job works."""

    def __init__(self, context: JobContext, interval: timedelta, log: Any) -> None:
        self._context = context
        self._seconds = interval.total_seconds()
        self._log = log
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="job-heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._seconds):
            try:
                self._context.beat()
            except RunInterruptedError:
                return  # the context has noted it, and tells the job
            except _UNAVAILABLE as error:
                self._log.warning("heartbeat missed", error=type(error).__name__)
