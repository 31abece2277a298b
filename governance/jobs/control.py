"""What operators do to runs: pause, resume, retry, cancel, run now. Each act is in the trail.

Each method is a unit of work. A run that is being worked on notices at its next checkpoint or
report of progress, and at the latest with its next heartbeat.
"""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from governance.audit.trail import Actor, Trail
from governance.database import Database
from governance.jobs import runs
from governance.jobs.errors import RunStateError, UnknownRunError
from governance.jobs.models import RunState, job_run

_UNOWNED: Final = {"owner": None, "lease_until": None}


class JobControl:
    """The operators' side of `governance.jobs.runner`."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        jobs: Collection[str],
    ) -> None:
        """Collaborators, and the names of the jobs that there are."""
        self._database = database
        self._trail = trail
        self._clock = clock
        self._jobs = frozenset(jobs)

    def pause(self, run_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Let a running run stop at its next checkpoint and wait. Later ticks wait behind it.

        Raises:
            UnknownRunError: no run has this id.
            RunStateError: it is not running.
        """
        self._move(run_id, "paused", (RunState.RUNNING,), RunState.PAUSED, actor, reason)

    def resume(self, run_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Let a paused run go on from its checkpoint, on any node.

        Raises:
            UnknownRunError: no run has this id.
            RunStateError: it is not paused.
        """
        self._move(
            run_id, "resumed", (RunState.PAUSED,), RunState.QUEUED, actor, reason, **_UNOWNED
        )

    def cancel(self, run_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """End a run for good. What it has done stays done.

        Raises:
            UnknownRunError: no run has this id.
            RunStateError: it has ended already.
        """
        self._move(
            run_id,
            "cancelled",
            (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED),
            RunState.CANCELLED,
            actor,
            reason,
            finished_at=self._clock(),
            lease_until=None,
        )

    def retry(self, run_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Let a run that failed, was cancelled or missed run now, from its checkpoint.

        Raises:
            UnknownRunError: no run has this id.
            RunStateError: it has not ended, or is done.
        """
        self._move(
            run_id,
            "retried",
            (RunState.FAILED, RunState.CANCELLED, RunState.MISSED),
            RunState.QUEUED,
            actor,
            reason,
            **_UNOWNED,
            crashes=0,
            error=None,
            message=None,
            finished_at=None,
        )

    def run_now(self, job: str, *, actor: Actor, reason: str | None = None) -> str:
        """Queue a run of a job beside its schedule; returns the run's id.

        Raises:
            UnknownRunError: there is no such job.
        """
        if job not in self._jobs:
            raise UnknownRunError("no job has this name")
        now = self._clock()
        with self._database.begin() as session:
            runs.enqueue(session, job, [now], now)
            run_id = session.execute(
                select(job_run.c.id).where(job_run.c.job == job, job_run.c.scheduled_for == now)
            ).scalar_one()
            self._record(session, "run_now", run_id, job, actor, reason, now)
        return str(run_id)

    def _move(
        self,
        run_id: str,
        verb: str,
        before: Collection[RunState],
        after: RunState,
        actor: Actor,
        reason: str | None,
        **values: Any,
    ) -> None:
        with self._database.begin() as session:
            job = session.scalar(
                update(job_run)
                .where(job_run.c.id == run_id, job_run.c.state.in_(before))
                .values(state=after, **values)
                .returning(job_run.c.job)
            )
            if job is None:
                state = runs.get(session, run_id).state
                raise RunStateError(f"a run that is {state} cannot be {verb}")
            self._record(session, verb, run_id, job, actor, reason, self._clock())

    def _record(
        self,
        session: Session,
        verb: str,
        run_id: str,
        job: str,
        actor: Actor,
        reason: str | None,
        now: datetime,
    ) -> None:
        self._trail.record(
            session,
            actor=actor,
            action=f"job.{verb}",
            object=f"run:{run_id}",
            reason=reason,
            details={"job": job},
            now=now,
        )
