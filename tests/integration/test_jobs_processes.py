"""Several processes on one database, some of them killed: each tick is worked on exactly once."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from governance.database import Database, metadata, utcnow
from governance.jobs.job import Job
from governance.jobs.models import RunState, job_run
from governance.jobs.runner import JobRunner
from governance.jobs.schedule import CatchUp, Every
from tests.fakes.databases import Engine
from tests.fakes.job_node import STEPS, effect, work

SECOND = timedelta(seconds=1)
SKEWS = {"sqlite": (0.0, 2.0), "postgresql": (0.0, 2.0, -3.0)}


class Nodes:
    """Processes that run jobs, and a way to lose one."""

    def __init__(self, url: str, skews: tuple[float, ...]) -> None:
        self._url = url
        self._random = random.Random(20260301)
        self._nodes = [self._started(skew) for skew in skews]

    def _started(self, skew: float) -> tuple[float, subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "tests.fakes.job_node", self._url, str(skew)]
        return skew, subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill_one_and_replace_it(self) -> None:
        number = self._random.randrange(len(self._nodes))
        skew, process = self._nodes[number]
        process.kill()
        process.communicate()
        self._nodes[number] = self._started(skew)

    def stop(self) -> None:
        for _, process in self._nodes:
            process.communicate(timeout=120)  # closes its standard input, which ends it
            assert process.returncode == 0

    def kill(self) -> None:
        for _, process in self._nodes:
            process.kill()
            process.communicate()


@contextmanager
def running(url: str, skews: tuple[float, ...]) -> Iterator[Nodes]:
    nodes = Nodes(url, skews)
    try:
        yield nodes
        nodes.stop()
    finally:
        nodes.kill()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(session.connection(), tables=[job_run])
        effect.create(session.connection())
    yield database
    database.dispose()


def effects(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(select(func.count()).select_from(effect)).scalar_one()


def wait_until(true: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def wait_for_work(database: Database, steps: int) -> None:
    wanted = effects(database) + steps
    wait_until(lambda: effects(database) >= wanted)


def finish_what_is_left(database: Database) -> None:
    job = Job("tick", Every(SECOND), work, CatchUp.EACH)
    unfinished = select(func.count()).where(
        job_run.c.state.not_in([RunState.DONE, RunState.MISSED])
    )

    def finished() -> bool:
        JobRunner(database, utcnow, [job], lease=2 * SECOND).run_due()
        with database.read() as connection:
            return connection.execute(unfinished).scalar_one() == 0

    wait_until(finished)


def check_each_tick_was_worked_on_exactly_once(database: Database) -> int:
    with database.read() as connection:
        ticks = connection.scalars(
            select(job_run.c.scheduled_for)
            .where(job_run.c.state == RunState.DONE)
            .order_by(job_run.c.scheduled_for)
        ).all()
        rows = connection.execute(select(effect.c.scheduled_for, effect.c.step)).all()
    assert list(ticks) == [ticks[0] + number * SECOND for number in range(len(ticks))]
    assert Counter(tuple(row) for row in rows) == Counter(
        (tick, step) for tick in ticks for step in range(STEPS)
    )
    return len(ticks)


def test_each_tick_runs_once_while_nodes_are_killed(
    database: Database, database_url: str, engine_name: Engine
) -> None:
    with running(database_url, SKEWS[engine_name][:2]) as nodes:
        for _ in range(2):
            wait_for_work(database, STEPS + 2)
            nodes.kill_one_and_replace_it()
        wait_for_work(database, STEPS)
    finish_what_is_left(database)
    assert check_each_tick_was_worked_on_exactly_once(database) >= 3


@pytest.mark.soak
def test_each_tick_runs_once_for_five_minutes_of_kills(
    database: Database, database_url: str, engine_name: Engine
) -> None:
    with running(database_url, SKEWS[engine_name]) as nodes:
        for _ in range(15):
            time.sleep(20)
            nodes.kill_one_and_replace_it()
    finish_what_is_left(database)
    assert check_each_tick_was_worked_on_exactly_once(database) >= 295
