"""A node that runs jobs, as a process of its own: `python -m tests.fakes.job_node URL …`.

Its job adds a row per step for each tick, in the transaction of its checkpoint, so that the table
shows what was done twice or not at all.
"""

import sys
import time
from datetime import datetime, timedelta

from sqlalchemy import Column, Integer, MetaData, Table, insert

from consent.columns import Ref, UtcDateTime
from governance.database import Database, utcnow
from governance.jobs.job import Job, JobContext, Result
from governance.jobs.runner import JobRunner
from governance.jobs.schedule import CatchUp, Every

STEPS = 4

# Not of the service's metadata: what other tests of this process see must not depend on this one.
effect = Table(
    "test_effect",
    MetaData(),
    Column("scheduled_for", UtcDateTime, nullable=False),
    Column("step", Integer, nullable=False),
    Column("owner", Ref, nullable=False),
)


def work(context: JobContext) -> Result:
    """Four steps, each with a little time in which the process may be killed."""
    first = (context.last_checkpoint or {"step": 0})["step"]
    for step in range(first, STEPS):
        with context.database.begin() as session:
            session.execute(
                insert(effect).values(
                    scheduled_for=context.run.scheduled_for, step=step, owner=context.run.owner
                )
            )
            time.sleep(0.01)
            context.checkpoint({"step": step + 1}, session)
    return {"steps": STEPS}


def main(url: str, skew_seconds: float) -> None:
    """Run jobs until killed, or until standard input ends."""
    skew = timedelta(seconds=skew_seconds)

    def clock() -> datetime:
        return utcnow() + skew

    database = Database.open(url)
    job = Job("tick", Every(timedelta(seconds=1)), work, CatchUp.EACH)
    runner = JobRunner(
        database, clock, [job], lease=timedelta(seconds=2), poll=timedelta(seconds=0.5)
    )
    runner.start()
    sys.stdin.read()
    runner.stop()
    database.dispose()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
