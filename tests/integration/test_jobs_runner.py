import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from consent.errors import LedgerError
from governance.audit.models import audit_log
from governance.database import Database, metadata
from governance.jobs import runs
from governance.jobs.errors import InvalidJobError, RunInterruptedError
from governance.jobs.job import Job, JobContext, Result
from governance.jobs.models import RunState, job_run
from governance.jobs.runner import JobRunner
from governance.jobs.runs import Progress, Run
from governance.jobs.schedule import CatchUp, Every
from tests.fakes.clock import START, FrozenClock

HOUR = timedelta(hours=1)
HOURLY = Every(HOUR)
SECOND = timedelta(seconds=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(
            session.connection(), tables=[job_run, *audit_log.append_only, audit_log.head]
        )
    yield database
    database.dispose()


def nothing(_: JobContext) -> Result:
    return None


def job(run: Callable[[JobContext], Result] = nothing, catch_up: CatchUp = CatchUp.LATEST) -> Job:
    return Job("sweep", HOURLY, run, catch_up)


def history(database: Database, name: str = "sweep") -> list[Run]:
    with database.read() as connection:
        return runs.history(connection, name)[::-1]


# --- ticks -------------------------------------------------------------------------------------


def test_tick_runs_once_and_says_what_it_did(database: Database, clock: FrozenClock) -> None:
    def work(context: JobContext) -> Result:
        context.progress(3, 3, "rows")
        return {"rows": 3}

    runner = JobRunner(database, clock, [job(work)])
    assert runner.run_due() == 1
    assert runner.run_due() == 0
    (run,) = history(database)
    assert (run.state, run.scheduled_for, run.result) == (RunState.DONE, START, {"rows": 3})
    assert run.progress == Progress(3, 3, "rows")
    assert (run.owner, run.attempts) == (runner.owner, 1)
    clock.advance(HOUR)
    assert runner.run_due() == 1


def test_nodes_with_clocks_seconds_apart_run_a_tick_once(database: Database) -> None:
    made = 0
    clocks = [FrozenClock(START + offset * SECOND) for offset in (-4, 0, 5)]
    nodes = [JobRunner(database, clock, [job()]) for clock in clocks]
    for _ in range(3 * 60):
        for node, clock in zip(nodes, clocks, strict=True):
            made += node.run_due()
            clock.advance(timedelta(minutes=1))
    ticks = [run.scheduled_for for run in history(database)]
    assert made == len(ticks) == len(set(ticks))
    # The fast and the slow clock disagree about which tick is the latest, and about nothing else.
    assert ticks == [START + hour * HOUR for hour in range(ticks[0].hour - START.hour, 3)]
    assert all(run.state is RunState.DONE for run in history(database))


@pytest.mark.parametrize(
    ("catch_up", "states"),
    [
        (CatchUp.SKIP, ["missed"]),
        (CatchUp.LATEST, ["missed", "done"]),
        (CatchUp.EACH, ["done"] * 4),
    ],
)
def test_ticks_of_a_night_without_nodes_are_made_up_for_by_rule(
    database: Database, clock: FrozenClock, catch_up: CatchUp, states: list[str]
) -> None:
    JobRunner(database, clock, [job(catch_up=catch_up)]).run_due()
    clock.advance(4 * HOUR + timedelta(minutes=10))
    JobRunner(database, clock, [job(catch_up=catch_up)]).run_due()
    assert [run.state for run in history(database)[1:]] == states
    clock.set(START + 5 * HOUR)
    JobRunner(database, clock, [job(catch_up=catch_up)]).run_due()
    latest = history(database)[-1]
    assert (latest.state, latest.scheduled_for) == (RunState.DONE, START + 5 * HOUR)


def test_next_ticks_are_known(database: Database, clock: FrozenClock) -> None:
    runner = JobRunner(database, clock, [job()])
    clock.advance(timedelta(minutes=10))
    assert runner.next_ticks() == {"sweep": START + HOUR}


def test_jobs_have_names_of_their_own(database: Database, clock: FrozenClock) -> None:
    with pytest.raises(InvalidJobError):
        JobRunner(database, clock, [job(), job()])
    with pytest.raises(InvalidJobError):
        Job("Sweep it", HOURLY, nothing)


# --- failing, stopping, resuming ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [(LedgerError("row 5 of alice"), "LEDGER_ERROR"), (ValueError("alice"), "ValueError")],
)
def test_failed_job_leaves_a_code_and_not_its_message(
    database: Database, clock: FrozenClock, error: Exception, code: str
) -> None:
    def work(context: JobContext) -> Result:
        context.checkpoint({"row": 4})
        raise error

    JobRunner(database, clock, [job(work)]).run_due()
    (run,) = history(database)
    assert (run.state, run.error, run.checkpoint) == (RunState.FAILED, code, {"row": 4})


def test_result_that_is_no_json_is_a_failure(database: Database, clock: FrozenClock) -> None:
    def work(_: JobContext) -> Result:
        return {"rate": object()}  # type: ignore[dict-item]

    JobRunner(database, clock, [job(work)]).run_due()
    assert history(database)[0].error == "TypeError"


def test_failed_job_does_not_stop_the_others(database: Database, clock: FrozenClock) -> None:
    def work(_: JobContext) -> Result:
        raise ValueError

    JobRunner(database, clock, [job(work), Job("other", HOURLY, nothing)]).run_due()
    assert history(database, "other")[0].state is RunState.DONE


def test_unreachable_database_leaves_the_run_to_whoever_comes_next(
    database: Database, clock: FrozenClock
) -> None:
    def work(_: JobContext) -> Result:
        raise OperationalError("SELECT 1", {}, Exception("gone"))

    with capture_logs() as logged:
        JobRunner(database, clock, [job(work)]).run_due()
    assert logged[-1]["event"] == "job run left behind"
    assert history(database)[0].state is RunState.RUNNING
    clock.advance(timedelta(seconds=30))
    JobRunner(database, clock, [job()]).run_due()
    assert history(database)[0].state is RunState.DONE


def test_run_resumes_from_its_checkpoint(database: Database, clock: FrozenClock) -> None:
    seen: list[int] = []

    def work(context: JobContext) -> Result:
        start = (context.last_checkpoint or {"row": 0})["row"]
        for row in range(start, 6):
            seen.append(row)
            context.checkpoint({"row": row + 1})
            if row == 2 and context.run.attempts == 1:
                raise OperationalError("SELECT 1", {}, Exception("gone"))
        return {"rows": 6}

    JobRunner(database, clock, [job(work)]).run_due()
    clock.advance(timedelta(seconds=30))
    JobRunner(database, clock, [job(work)]).run_due()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert history(database)[0].attempts == 2


def test_work_and_checkpoint_of_one_transaction_are_kept_together(
    database: Database, clock: FrozenClock
) -> None:
    def work(context: JobContext) -> Result:
        start = (context.last_checkpoint or {"row": 0})["row"]
        for row in range(start, 4):
            with context.database.begin() as session:
                runs.enqueue(session, f"effect_{row}", [START], START)
                context.checkpoint({"row": row + 1}, session)
                if row == 2 and context.run.attempts == 1:
                    raise OperationalError("SELECT 1", {}, Exception("gone"))
        return None

    JobRunner(database, clock, [job(work)]).run_due()
    assert history(database)[0].checkpoint == {"row": 2}
    assert history(database, "effect_2") == []
    clock.advance(timedelta(seconds=30))
    JobRunner(database, clock, [job(work)]).run_due()
    assert all(len(history(database, f"effect_{row}")) == 1 for row in range(4))


def test_run_that_was_taken_over_cannot_commit_its_work(
    database: Database, clock: FrozenClock
) -> None:
    other = JobRunner(database, clock, [job()])

    def stalls(context: JobContext) -> Result:
        clock.advance(timedelta(seconds=30))
        other.run_due()
        with context.database.begin() as session:
            runs.enqueue(session, "effect", [START], START)
            context.checkpoint({"row": 1}, session)
        return {"too": "late"}

    with capture_logs() as logged:
        JobRunner(database, clock, [job(stalls)]).run_due()
    assert logged[-1]["outcome"] == "RUN_LEASE_LOST"
    assert history(database, "effect") == []
    (run,) = history(database)
    assert (run.state, run.owner, run.result) == (RunState.DONE, other.owner, None)


def test_paused_run_ends_its_attempt_and_keeps_its_last_checkpoint(
    database: Database, clock: FrozenClock
) -> None:
    seen: list[int] = []

    def work(context: JobContext) -> Result:
        for row in range((context.last_checkpoint or {"row": 0})["row"], 4):
            seen.append(row)
            if row == 1 and context.run.attempts == 1:
                with database.begin() as session:
                    session.execute(job_run.update().values(state=RunState.PAUSED))
            context.checkpoint({"row": row + 1})
        return None

    runner = JobRunner(database, clock, [job(work)])
    runner.run_due()
    (run,) = history(database)
    assert (run.state, run.checkpoint) == (RunState.PAUSED, {"row": 2})
    with database.begin() as session:
        session.execute(job_run.update().values(state=RunState.QUEUED, lease_until=None))
    runner.run_due()
    assert seen == [0, 1, 2, 3]
    assert history(database)[0].state is RunState.DONE


def test_cancelled_run_ends_at_its_next_report(database: Database, clock: FrozenClock) -> None:
    ended: list[str] = []

    def work(context: JobContext) -> Result:
        with database.begin() as session:
            session.execute(job_run.update().values(state=RunState.CANCELLED))
        for step in ("checkpoint", "progress"):
            try:
                if step == "checkpoint":
                    context.checkpoint({"row": 1})
                else:
                    context.progress(1)
            except RunInterruptedError as error:
                ended.append(error.code)
        return None

    JobRunner(database, clock, [job(work)]).run_due()
    assert ended == ["RUN_CANCELLED"] * 2
    assert history(database)[0].state is RunState.CANCELLED


def test_stopped_runner_gives_its_run_back(database: Database, clock: FrozenClock) -> None:
    def work(context: JobContext) -> Result:
        context.checkpoint({"row": 1})
        stopping.stop()
        context.checkpoint({"row": 2})
        return None

    stopping = JobRunner(database, clock, [job(work)])
    stopping.run_due()
    (run,) = history(database)
    assert (run.state, run.owner, run.checkpoint) == (RunState.QUEUED, None, {"row": 1})
    JobRunner(database, clock, [job()]).run_due()
    assert history(database)[0].state is RunState.DONE


# --- with the scheduler ------------------------------------------------------------------------


def test_started_runner_runs_what_is_due_and_stops(database: Database, clock: FrozenClock) -> None:
    ran = threading.Event()

    def work(_: JobContext) -> Result:
        ran.set()
        return None

    runner = JobRunner(database, clock, [job(work)])
    runner.start()
    assert ran.wait(20)
    assert runner.stop(timeout=20)
    assert [run.state for run in history(database)] == [RunState.DONE]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("job")]


def test_runner_stops_in_the_middle_of_a_run(database: Database, clock: FrozenClock) -> None:
    begun = threading.Event()

    def work(context: JobContext) -> Result:
        begun.set()
        while True:
            context.progress(1)

    runner = JobRunner(database, clock, [job(work)])
    runner.start()
    assert begun.wait(20)
    assert runner.stop(timeout=20)
    assert history(database)[0].state is RunState.QUEUED


def test_backlog_is_worked_off_without_waiting_for_the_next_wake_up(
    database: Database, clock: FrozenClock
) -> None:
    all_done = threading.Event()
    ran: list[object] = []

    def work(context: JobContext) -> Result:
        ran.append(context.run.scheduled_for)
        if len(ran) == 6:
            all_done.set()
        return None

    each = job(work, CatchUp.EACH)
    JobRunner(database, clock, [job(catch_up=CatchUp.EACH)]).run_due()
    clock.advance(6 * HOUR)
    runner = JobRunner(database, clock, [each], poll=timedelta(hours=1))
    runner.start()
    assert all_done.wait(30)
    runner.stop()
    assert ran == sorted(ran, key=str)


def test_heartbeat_keeps_a_long_run_alive(database: Database) -> None:
    clock = FrozenClock()
    lease = timedelta(seconds=0.6)
    beaten = threading.Event()

    def work(context: JobContext) -> Result:
        clock.advance(lease / 2)
        while history(database)[0].heartbeat_at == START:
            beaten.wait(0.02)
        return None

    JobRunner(database, clock, [job(work)], lease=lease).run_due()
    (run,) = history(database)
    assert (run.state, run.attempts) == (RunState.DONE, 1)
    assert run.heartbeat_at == START + lease / 2


def test_database_that_is_gone_does_not_end_the_runner(
    database: Database, clock: FrozenClock
) -> None:
    runner = JobRunner(database, clock, [job()])
    with database.begin() as session:
        job_run.drop(session.connection())
    with capture_logs() as logged:
        runner._wake_all()
    assert [line["event"] for line in logged] == ["job not looked at"]
    with database.begin() as session:
        job_run.create(session.connection())
    runner.run_due()
    assert history(database)[0].state is RunState.DONE
