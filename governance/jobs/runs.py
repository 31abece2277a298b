"""Runs of jobs in the database: who may work on what, how far it is, how it ended.

Guarantees, on any number of nodes whose clocks differ by a few seconds:
- a tick becomes at most one run: `(job, scheduled_for)` is unique, the first insert wins;
- a job has at most one current run: a partial unique index says so;
- whoever claims a run holds a lease. When it ends without a heartbeat, another may take over, and
  from then on everything the old holder writes through its lease is refused (`LeaseLostError`).

A checkpoint that is written in the transaction of the work it describes makes that work happen
exactly once, however often its process is killed.

The lease must be longer than the clocks' differences, a heartbeat's interval and the longest unit
of work of a job together. If it is not, work is done twice but still committed once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.ledger.canonical import JSONValue
from consent.subjects import Reader
from governance.jobs.errors import LeaseLostError, RunCancelledError, UnknownRunError
from governance.jobs.models import CURRENT, RunState, job_run
from governance.jobs.schedule import Missed

MAX_CRASHES: Final = 5
"""A run that took so many owners with it, without a checkpoint in between, has failed."""

CRASHED: Final = "CRASHED_TOO_OFTEN"

_c = job_run.c


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a run, as long as nobody took it over."""

    run_id: str
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: `done` of `total` (None: nobody knows) in a phase, in a sentence."""

    done: int = 0
    total: int | None = None
    phase: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it stands in the table."""

    id: str
    job: str
    scheduled_for: datetime
    state: RunState
    owner: str | None
    attempts: int
    lease_until: datetime | None
    heartbeat_at: datetime | None
    progress: Progress
    checkpoint: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    error: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


# --- before it runs ----------------------------------------------------------------------------


def enqueue(session: Session, job: str, ticks: Sequence[datetime], now: datetime) -> int:
    """Make a run of each tick that has none yet; returns how many are new."""
    return sum(_insert(session, job, tick, now, RunState.QUEUED) for tick in ticks)


def record_missed(session: Session, job: str, missed: Missed, now: datetime) -> None:
    """Say that the ticks of a gap will not run, in one row: that of the last of them."""
    _insert(
        session,
        job,
        missed.last,
        now,
        RunState.MISSED,
        message="The service was not there to run it in time.",
        result=_text(
            {
                "count": missed.count,
                "first": missed.first.isoformat(),
                "last": missed.last.isoformat(),
            }
        ),
        finished_at=now,
    )


def supersede(session: Session, job: str, now: datetime) -> int:
    """Mark queued runs that never started as missed, but the latest; returns how many."""
    latest = (
        select(func.max(_c.scheduled_for))
        .where(_c.job == job, _c.state == RunState.QUEUED)
        .scalar_subquery()
    )
    return _changed(
        session,
        update(job_run)
        .where(
            _c.job == job,
            _c.state == RunState.QUEUED,
            _c.attempts == 0,
            _c.scheduled_for < latest,
        )
        .values(
            state=RunState.MISSED,
            finished_at=now,
            message="A later tick was due before this one could run.",
        ),
    )


def claim(
    session: Session, job: str, owner: str, now: datetime, lease: timedelta
) -> tuple[Run, Lease] | None:
    """Take the job's next run: one whose owner has vanished, else the oldest that is queued.

    None if there is none, if another run of the job is current, or if another node was faster.
    A run that has crashed too often is failed instead.
    """
    current = session.execute(
        select(job_run).where(_c.job == job, _c.state.in_(CURRENT))
    ).one_or_none()
    if current is not None:
        if current.state == RunState.PAUSED or now < current.lease_until:
            return None
        return _take(session, current, owner, now, lease, crashes=current.crashes + 1)
    queued = session.execute(
        select(job_run)
        .where(_c.job == job, _c.state == RunState.QUEUED)
        .order_by(_c.scheduled_for)
        .limit(1)
    ).one_or_none()
    if queued is None:
        return None
    try:
        with session.begin_nested():
            return _take(session, queued, owner, now, lease, crashes=queued.crashes)
    except IntegrityError:
        # Another node made another run of this job current since we looked.
        return None


def _take(
    session: Session, row: Row[Any], owner: str, now: datetime, lease: timedelta, *, crashes: int
) -> tuple[Run, Lease] | None:
    unchanged = and_(_c.id == row.id, _c.state == row.state, _c.attempts == row.attempts)
    if row.lease_until is not None:
        # A heartbeat may have come since we looked.
        unchanged = and_(unchanged, _c.lease_until <= now)
    if crashes >= MAX_CRASHES:
        _changed(
            session,
            update(job_run)
            .where(unchanged)
            .values(state=RunState.FAILED, error=CRASHED, crashes=crashes, finished_at=now),
        )
        return None
    taken = session.execute(
        update(job_run)
        .where(unchanged)
        .values(
            state=RunState.RUNNING,
            owner=owner,
            attempts=row.attempts + 1,
            crashes=crashes,
            lease_until=now + lease,
            heartbeat_at=now,
            started_at=row.started_at or now,
            finished_at=None,
            error=None,
        )
        .returning(job_run)
    ).one_or_none()
    if taken is None:
        return None
    return _run_of(taken), Lease(taken.id, owner, taken.attempts)


# --- while it runs -----------------------------------------------------------------------------


def hold(
    session: Session,
    held: Lease,
    now: datetime,
    lease: timedelta,
    *,
    progress: Progress | None = None,
    checkpoint: Mapping[str, JSONValue] | None = None,
) -> RunState:
    """Prolong the lease, and note progress and a checkpoint where given.

    Returns:
        RUNNING, or PAUSED if an operator wants the run to stop. What was noted is kept even so.

    Raises:
        LeaseLostError: another node has the run.
        RunCancelledError: an operator cancelled it.
    """
    values: dict[str, Any] = {"heartbeat_at": now, "lease_until": now + lease}
    if progress is not None:
        values |= _progress_values(progress)
    if checkpoint is not None:
        values |= {"checkpoint": _text(checkpoint), "crashes": 0}
    return RunState(_write(session, held, values))


def finish(
    session: Session,
    held: Lease,
    now: datetime,
    *,
    progress: Progress | None = None,
    result: Mapping[str, JSONValue] | None = None,
) -> None:
    """The run has done its work, even if it was to be paused just now.

    Raises:
        LeaseLostError, RunCancelledError: as `hold`.
    """
    _end(session, held, now, RunState.DONE, progress, result=_text(result))


def fail(
    session: Session, held: Lease, now: datetime, code: str, *, progress: Progress | None = None
) -> None:
    """The run ended in an error, of which only the code is kept.

    Raises:
        LeaseLostError, RunCancelledError: as `hold`.
    """
    _end(session, held, now, RunState.FAILED, progress, error=code)


def release(session: Session, held: Lease) -> None:
    """Give a run back that this process cannot go on with. It resumes from its checkpoint.

    Raises:
        LeaseLostError, RunCancelledError: as `hold`.
    """
    state = case((_c.state == RunState.RUNNING, RunState.QUEUED), else_=_c.state)
    _write(session, held, {"state": state, "owner": None, "lease_until": None})


def _end(
    session: Session,
    held: Lease,
    now: datetime,
    state: RunState,
    progress: Progress | None,
    **values: Any,
) -> None:
    if progress is not None:
        values |= _progress_values(progress)
    _write(session, held, {"state": state, "finished_at": now, "lease_until": None, **values})


def _write(session: Session, held: Lease, values: dict[str, Any]) -> str:
    """Change a run that is held. Returns its state after the change."""
    state: str | None = session.scalar(
        update(job_run)
        .where(
            _c.id == held.run_id,
            _c.owner == held.owner,
            _c.attempts == held.attempt,
            _c.state.in_(CURRENT),
        )
        .values(values)
        .returning(_c.state)
    )
    if state is not None:
        return state
    if session.scalar(select(_c.state).where(_c.id == held.run_id)) == RunState.CANCELLED:
        raise RunCancelledError("the run was cancelled")
    raise LeaseLostError("the run was taken over by another node, or resumed")


# --- reading and keeping -----------------------------------------------------------------------


def latest_tick(reader: Reader, job: str, now: datetime) -> datetime | None:
    """The job's latest tick that is not in the future: a node with a fast clock decides nothing."""
    latest: datetime | None = reader.execute(
        select(func.max(_c.scheduled_for)).where(_c.job == job, _c.scheduled_for <= now)
    ).scalar_one()
    return latest


def claimable(reader: Reader, job: str, now: datetime) -> bool:
    """Whether `claim` may find something. Asked first, as a claim takes a write lock on SQLite."""
    return (
        reader.execute(
            select(_c.id)
            .where(
                _c.job == job,
                or_(
                    _c.state == RunState.QUEUED,
                    and_(_c.state == RunState.RUNNING, _c.lease_until <= now),
                ),
            )
            .limit(1)
        ).first()
        is not None
    )


def get(reader: Reader, run_id: str) -> Run:
    """One run.

    Raises:
        UnknownRunError: there is none with this id.
    """
    row = reader.execute(select(job_run).where(_c.id == run_id)).one_or_none()
    if row is None:
        raise UnknownRunError("no run has this id")
    return _run_of(row)


def history(
    reader: Reader, job: str | None = None, *, before: datetime | None = None, limit: int = 50
) -> list[Run]:
    """Runs by their ticks, the latest first: of one job or of all, ticks before an instant."""
    query = select(job_run).order_by(_c.scheduled_for.desc(), _c.job).limit(limit)
    if job is not None:
        query = query.where(_c.job == job)
    if before is not None:
        query = query.where(_c.scheduled_for < before)
    return [_run_of(row) for row in reader.execute(query)]


def remove_finished(session: Session, before: datetime) -> int:
    """Delete runs that ended before an instant, but the latest of each job; returns how many."""
    other = job_run.alias()
    latest = select(func.max(other.c.scheduled_for)).where(other.c.job == _c.job).scalar_subquery()
    return _changed(
        session, delete(job_run).where(_c.finished_at < before, _c.scheduled_for < latest)
    )


# --- inside ------------------------------------------------------------------------------------


def _insert(
    session: Session, job: str, tick: datetime, now: datetime, state: RunState, **values: Any
) -> bool:
    dialect = session.get_bind().dialect.name
    statement = sqlite.insert(job_run) if dialect == "sqlite" else postgresql.insert(job_run)
    inserted = session.execute(
        statement.values(
            id=str(uuid7()),
            job=job,
            scheduled_for=tick,
            state=state,
            attempts=0,
            crashes=0,
            queued_at=now,
            **values,
        )
        .on_conflict_do_nothing(index_elements=[_c.job, _c.scheduled_for])
        .returning(_c.id)
    )
    return inserted.first() is not None


def _changed(session: Session, statement: Any) -> int:
    count: int = session.execute(statement).rowcount  # type: ignore[attr-defined]
    return count


def _progress_values(progress: Progress) -> dict[str, Any]:
    return {
        "done": progress.done,
        "total": progress.total,
        "phase": progress.phase,
        "message": progress.message,
    }


def _text(value: Mapping[str, JSONValue] | None) -> str | None:
    return None if value is None else json.dumps(value, allow_nan=False, sort_keys=True)


def _value(text: str | None) -> Mapping[str, Any] | None:
    value: Mapping[str, Any] | None = None if text is None else json.loads(text)
    return value


def _run_of(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        job=row.job,
        scheduled_for=row.scheduled_for,
        state=RunState(row.state),
        owner=row.owner,
        attempts=row.attempts,
        lease_until=row.lease_until,
        heartbeat_at=row.heartbeat_at,
        progress=Progress(row.done or 0, row.total, row.phase, row.message),
        checkpoint=_value(row.checkpoint),
        result=_value(row.result),
        error=row.error,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
