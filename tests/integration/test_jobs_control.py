from collections.abc import Iterator
from datetime import timedelta

import pytest

from consent.ledger.log import MerkleLog
from governance.audit.models import audit_log
from governance.audit.trail import Actor, ActorKind, Trail
from governance.database import Database, metadata
from governance.jobs import runs
from governance.jobs.control import JobControl
from governance.jobs.errors import RunStateError, UnknownRunError
from governance.jobs.job import Job, JobContext, Result
from governance.jobs.models import RunState, job_run
from governance.jobs.runner import JobRunner
from governance.jobs.runs import Run
from governance.jobs.schedule import Every
from tests.fakes.clock import FrozenClock

ENGINEER = Actor(ActorKind.ACCOUNT, "0198-erin", "engineer")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(
            session.connection(), tables=[job_run, *audit_log.append_only, audit_log.head]
        )
    yield database
    database.dispose()


@pytest.fixture
def control(database: Database, clock: FrozenClock) -> JobControl:
    return JobControl(database, Trail(MerkleLog(audit_log)), clock, ["sweep"])


def runner(
    database: Database, clock: FrozenClock, seen: list[int], control: JobControl | None = None
) -> JobRunner:
    """Counts to four; with `control`, a run's first attempt has itself paused at two."""

    def work(context: JobContext) -> Result:
        for number in range((context.last_checkpoint or {"next": 0})["next"], 4):
            seen.append(number)
            if control is not None and number == 2 and context.run.attempts == 1:
                control.pause(context.run.id, actor=ENGINEER, reason="too slow")
            context.checkpoint({"next": number + 1})
        return {"count": 4}

    return JobRunner(database, clock, [Job("sweep", Every(timedelta(hours=1)), work)])


def only_run(database: Database) -> Run:
    with database.read() as connection:
        (run,) = runs.history(connection)
    return run


def enqueue(database: Database, clock: FrozenClock) -> str:
    with database.begin() as session:
        runs.enqueue(session, "sweep", [clock()], clock())
    return only_run(database).id


def actions(database: Database) -> list[tuple[str, str | None]]:
    with database.read() as connection:
        records = Trail(MerkleLog(audit_log)).read(connection)
    return [(record.action, record.reason) for record in records[::-1][1:]]


def test_run_is_paused_and_resumed_where_it_was(
    database: Database, clock: FrozenClock, control: JobControl
) -> None:
    seen: list[int] = []
    node = runner(database, clock, seen, control)
    node.run_due()
    run = only_run(database)
    assert (run.state, run.checkpoint, seen) == (RunState.PAUSED, {"next": 3}, [0, 1, 2])
    clock.advance(timedelta(hours=3))
    assert node.run_due() == 0
    control.resume(run.id, actor=ENGINEER)
    assert node.run_due() == 2
    assert seen == [0, 1, 2, 3, *range(3)]
    assert actions(database)[:2] == [("job.paused", "too slow"), ("job.resumed", None)]


def test_cancelled_run_does_not_run_until_it_is_retried(
    database: Database, clock: FrozenClock, control: JobControl
) -> None:
    run_id = enqueue(database, clock)
    control.cancel(run_id, actor=ENGINEER, reason="not today")
    seen: list[int] = []
    node = runner(database, clock, seen)
    assert node.run_due() == 0
    assert only_run(database).finished_at == clock()
    control.retry(run_id, actor=ENGINEER)
    node.run_due()
    assert only_run(database).state is RunState.DONE
    assert actions(database) == [("job.cancelled", "not today"), ("job.retried", None)]


def test_failed_run_is_retried_from_its_checkpoint(
    database: Database, clock: FrozenClock, control: JobControl
) -> None:
    run_id = enqueue(database, clock)
    with database.begin() as session:
        claimed = runs.claim(session, "sweep", "a", clock(), timedelta(seconds=30))
        assert claimed is not None
        lease = timedelta(seconds=30)
        runs.hold(session, claimed[1], clock(), lease, checkpoint={"next": 3})
        runs.fail(session, claimed[1], clock(), "X")
    control.retry(run_id, actor=ENGINEER)
    assert only_run(database).error is None
    seen: list[int] = []
    runner(database, clock, seen).run_due()
    assert seen == [3]


def test_job_runs_now_beside_its_schedule(
    database: Database, clock: FrozenClock, control: JobControl
) -> None:
    seen: list[int] = []
    node = runner(database, clock, seen)
    node.run_due()
    clock.advance(timedelta(minutes=20))
    run_id = control.run_now("sweep", actor=ENGINEER)
    assert node.run_due() == 1
    clock.advance(timedelta(minutes=40))
    assert node.run_due() == 1
    with database.read() as connection:
        assert runs.get(connection, run_id).result == {"count": 4}
    with pytest.raises(UnknownRunError):
        control.run_now("nothing", actor=ENGINEER)


def test_what_a_state_does_not_allow_is_refused_and_not_recorded(
    database: Database, clock: FrozenClock, control: JobControl
) -> None:
    run_id = enqueue(database, clock)
    for act in (control.pause, control.resume, control.retry):
        with pytest.raises(RunStateError, match="queued"):
            act(run_id, actor=ENGINEER)
    runner(database, clock, []).run_due()
    for act in (control.pause, control.resume, control.retry, control.cancel):
        with pytest.raises(RunStateError, match="done"):
            act(run_id, actor=ENGINEER)
    with pytest.raises(UnknownRunError):
        control.cancel("nothing", actor=ENGINEER)
    assert actions(database) == []
