"""The table of jobs' runs.

Trust: whoever can write here can make a job run, not run, or start again from a checkpoint of
their making; the work itself checks what it finds. Nothing here is about a person.
"""

from enum import StrEnum
from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint

from consent.columns import Ref, UtcDateTime
from governance.database import metadata


class RunState(StrEnum):
    """Where a run is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    MISSED = "missed"
    """Its time passed while nobody could run it, and the job's rule says not to make up for it."""
    CANCELLED = "cancelled"


CURRENT: Final = (RunState.RUNNING, RunState.PAUSED)
"""A job has at most one run in these states, on all nodes together."""

job_run = Table(
    "job_run",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("job", Ref, nullable=False),
    Column("scheduled_for", UtcDateTime, nullable=False),
    Column("state", Ref, nullable=False),
    Column("owner", Ref),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("heartbeat_at", UtcDateTime),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("phase", Text),
    Column("message", Text),
    Column("checkpoint", Text),
    Column("result", Text),
    Column("error", Ref),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    UniqueConstraint("job", "scheduled_for"),
)
"""One tick of one job. `owner` and `attempts` together are the fencing token of whoever works on
it; `crashes` counts owners that vanished since the last checkpoint."""

_current = job_run.c.state.in_([state.value for state in CURRENT])
Index(
    "uq_job_run_current",
    job_run.c.job,
    unique=True,
    sqlite_where=_current,
    postgresql_where=_current,
)
