import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from governance.database import Database, metadata
from governance.jobs import runs
from governance.jobs.errors import LeaseLostError, RunCancelledError, UnknownRunError
from governance.jobs.models import RunState, job_run
from governance.jobs.runs import Lease, Progress, Run
from governance.jobs.schedule import Missed
from tests.fakes.clock import START, FrozenClock

LEASE = timedelta(seconds=30)
HOUR = timedelta(hours=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    with database.begin() as session:
        metadata.create_all(session.connection(), tables=[job_run])
    yield database
    database.dispose()


def enqueue(database: Database, *hours: int, job: str = "sweep") -> int:
    ticks = [START + hour * HOUR for hour in hours or (0,)]
    with database.begin() as session:
        return runs.enqueue(session, job, ticks, START)


def claim(
    database: Database, clock: FrozenClock, owner: str = "a", job: str = "sweep"
) -> tuple[Run, Lease] | None:
    with database.begin() as session:
        return runs.claim(session, job, owner, clock(), LEASE)


def claimed(database: Database, clock: FrozenClock, owner: str = "a") -> Lease:
    taken = claim(database, clock, owner)
    assert taken is not None
    return taken[1]


def hold(database: Database, held: Lease, clock: FrozenClock, **what: object) -> RunState:
    with database.begin() as session:
        return runs.hold(session, held, clock(), LEASE, **what)  # type: ignore[arg-type]


def finish(database: Database, held: Lease, clock: FrozenClock) -> None:
    with database.begin() as session:
        runs.finish(session, held, clock(), result={"rows": 3})


def read(database: Database, run_id: str) -> Run:
    with database.read() as connection:
        return runs.get(connection, run_id)


def set_state(database: Database, run_id: str, state: RunState) -> None:
    with database.begin() as session:
        session.execute(job_run.update().where(job_run.c.id == run_id).values(state=state))


def test_tick_becomes_one_run_however_often_it_is_made(database: Database) -> None:
    assert enqueue(database, 0, 1) == 2
    assert enqueue(database, 0, 1, 2) == 1
    assert enqueue(database, 0, job="other") == 1


def test_tick_becomes_one_run_when_nodes_race(database: Database) -> None:
    made: list[int] = []
    ready = threading.Barrier(4)

    def race() -> None:
        for hour in range(10):
            ready.wait()
            made.append(enqueue(database, hour))

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == 10


def test_one_of_many_racing_nodes_gets_the_run(database: Database, clock: FrozenClock) -> None:
    for hour in range(5):
        enqueue(database, hour, 100 + hour)  # the second gives losers something to grab at
        taken: list[Lease] = []
        ready = threading.Barrier(4)

        def race(owner: str, ready: threading.Barrier, taken: list[Lease]) -> None:
            ready.wait()
            got = claim(database, clock, owner)
            if got is not None:
                taken.append(got[1])

        threads = [
            threading.Thread(target=race, args=(owner, ready, taken))
            for owner in ("a", "b", "c", "d")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        finish(database, taken[0], clock)


def test_database_refuses_a_second_current_run_of_a_job(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database, 0, 1)
    claimed(database, clock)
    with database.read() as connection:
        waiting = connection.scalar(select(job_run.c.id).where(job_run.c.state == RunState.QUEUED))
    assert waiting is not None
    for state in (RunState.RUNNING, RunState.PAUSED):
        with pytest.raises(Exception, match=r"(?i)unique"):
            set_state(database, waiting, state)


def test_runs_of_a_job_come_one_after_another_oldest_first(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database, 2, 0, 1)
    seen = []
    while (taken := claim(database, clock)) is not None:
        run, held = taken
        assert claim(database, clock, "b") is None
        seen.append(run.scheduled_for)
        finish(database, held, clock)
    assert seen == [START, START + HOUR, START + 2 * HOUR]


def test_jobs_do_not_wait_for_each_other(database: Database, clock: FrozenClock) -> None:
    enqueue(database, 0)
    enqueue(database, 0, job="other")
    assert claim(database, clock) is not None
    assert claim(database, clock, job="other") is not None


def test_heartbeat_keeps_the_run(database: Database, clock: FrozenClock) -> None:
    enqueue(database)
    held = claimed(database, clock)
    for _ in range(3):
        clock.advance(LEASE - timedelta(seconds=1))
        assert claim(database, clock, "b") is None
        assert hold(database, held, clock) is RunState.RUNNING


def test_run_without_heartbeat_is_taken_over_with_its_checkpoint(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database)
    dead = claimed(database, clock)
    hold(database, dead, clock, checkpoint={"row": 17}, progress=Progress(17, 40, "rows"))
    clock.advance(LEASE)
    taken = claim(database, clock, "b")
    assert taken is not None
    run, held = taken
    assert (run.owner, run.attempts, run.checkpoint) == ("b", 2, {"row": 17})
    assert run.progress == Progress(17, 40, "rows")
    assert run.started_at == START
    assert held != dead


def test_dead_owner_that_wakes_up_can_write_nothing(database: Database, clock: FrozenClock) -> None:
    enqueue(database)
    dead = claimed(database, clock)
    clock.advance(LEASE)
    alive = claimed(database, clock, "b")
    hold(database, alive, clock, checkpoint={"row": 2})
    with pytest.raises(LeaseLostError):
        hold(database, dead, clock, checkpoint={"row": 1})
    with pytest.raises(LeaseLostError):
        finish(database, dead, clock)
    with pytest.raises(LeaseLostError), database.begin() as session:
        runs.fail(session, dead, clock(), "X")
    with pytest.raises(LeaseLostError), database.begin() as session:
        runs.release(session, dead)
    assert read(database, alive.run_id).checkpoint == {"row": 2}
    finish(database, alive, clock)


def test_same_owner_cannot_write_through_an_older_attempt(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database)
    first = claimed(database, clock)
    clock.advance(LEASE)
    second = claimed(database, clock)
    with pytest.raises(LeaseLostError):
        hold(database, first, clock)
    hold(database, second, clock)


def test_heartbeat_after_the_lease_saves_the_run_if_nobody_took_it(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database)
    held = claimed(database, clock)
    clock.advance(2 * LEASE)
    hold(database, held, clock)
    assert claim(database, clock, "b") is None


def test_work_of_a_lost_attempt_is_rolled_back_with_its_checkpoint(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database)
    dead = claimed(database, clock)
    clock.advance(LEASE)
    claimed(database, clock, "b")

    def work_of_the_dead() -> None:
        with database.begin() as session:
            runs.enqueue(session, "made_by_dead", [START], START)
            runs.hold(session, dead, clock(), LEASE, checkpoint={"row": 1})

    with pytest.raises(LeaseLostError):
        work_of_the_dead()
    with database.read() as connection:
        assert runs.history(connection, "made_by_dead") == []


def test_run_that_kills_its_owners_fails_in_the_end(database: Database, clock: FrozenClock) -> None:
    enqueue(database)
    attempts = 0
    while claim(database, clock) is not None:
        attempts += 1
        clock.advance(LEASE)
    with database.read() as connection:
        (run,) = runs.history(connection)
    assert (attempts, run.state, run.error) == (runs.MAX_CRASHES, RunState.FAILED, runs.CRASHED)


def test_run_that_gets_further_each_time_survives_any_number_of_crashes(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database)
    for row in range(3 * runs.MAX_CRASHES):
        hold(database, claimed(database, clock), clock, checkpoint={"row": row})
        clock.advance(LEASE)
    finish(database, claimed(database, clock), clock)


def test_released_run_goes_on_elsewhere_at_once(database: Database, clock: FrozenClock) -> None:
    enqueue(database)
    held = claimed(database, clock)
    hold(database, held, clock, checkpoint={"row": 1})
    with database.begin() as session:
        runs.release(session, held)
    taken = claim(database, clock, "b")
    assert taken is not None
    assert taken[0].checkpoint == {"row": 1}
    with pytest.raises(LeaseLostError):
        finish(database, held, clock)


def test_pause_is_told_and_what_was_written_is_kept(database: Database, clock: FrozenClock) -> None:
    enqueue(database, 0, 1)
    held = claimed(database, clock)
    set_state(database, held.run_id, RunState.PAUSED)
    assert hold(database, held, clock, checkpoint={"row": 5}) is RunState.PAUSED
    assert read(database, held.run_id).checkpoint == {"row": 5}
    clock.advance(2 * LEASE)
    assert claim(database, clock, "b") is None
    with database.begin() as session:
        runs.release(session, held)
    assert read(database, held.run_id).state is RunState.PAUSED


def test_cancelled_run_can_not_be_written(database: Database, clock: FrozenClock) -> None:
    enqueue(database)
    held = claimed(database, clock)
    set_state(database, held.run_id, RunState.CANCELLED)
    with pytest.raises(RunCancelledError):
        hold(database, held, clock, checkpoint={"row": 5})


def test_finished_and_failed_runs_say_how_it_went(database: Database, clock: FrozenClock) -> None:
    enqueue(database, 0, 1)
    first = claimed(database, clock)
    clock.advance(timedelta(seconds=5))
    finish(database, first, clock)
    second = claimed(database, clock)
    with database.begin() as session:
        runs.fail(session, second, clock(), "LEDGER_ERROR", progress=Progress(1, 2))
    done, failed = read(database, first.run_id), read(database, second.run_id)
    assert (done.state, done.result, done.finished_at) == (RunState.DONE, {"rows": 3}, clock())
    assert (failed.state, failed.error) == (RunState.FAILED, "LEDGER_ERROR")
    assert failed.progress == Progress(1, 2)
    with pytest.raises(LeaseLostError):
        finish(database, first, clock)
    assert claim(database, clock) is None


def test_gap_is_one_row_that_says_so(database: Database) -> None:
    gap = Missed(START - 3 * HOUR, START - HOUR, 3)
    for _ in range(2):
        with database.begin() as session:
            runs.record_missed(session, "sweep", gap, START)
    with database.read() as connection:
        (run,) = runs.history(connection)
    assert (run.state, run.scheduled_for) == (RunState.MISSED, START - HOUR)
    assert run.result == {
        "count": 3,
        "first": "2026-03-01T06:00:00+00:00",
        "last": "2026-03-01T08:00:00+00:00",
    }
    assert run.progress.message is not None


def test_later_tick_supersedes_those_that_never_started(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database, 0)
    held = claimed(database, clock)
    with database.begin() as session:
        runs.release(session, held)
    enqueue(database, 1, 2, 3)
    enqueue(database, 0, job="other")
    with database.begin() as session:
        assert runs.supersede(session, "sweep", clock()) == 2
    with database.read() as connection:
        states = [run.state for run in runs.history(connection, "sweep")]
    assert states == [RunState.QUEUED, RunState.MISSED, RunState.MISSED, RunState.QUEUED]


def test_tick_of_a_fast_clock_is_not_the_latest(database: Database) -> None:
    enqueue(database, 0, 24)
    with database.read() as connection:
        assert runs.latest_tick(connection, "sweep", START + HOUR) == START
        assert runs.latest_tick(connection, "nothing", START) is None


def test_claimable_is_what_can_be_claimed(database: Database, clock: FrozenClock) -> None:
    def claimable() -> bool:
        with database.read() as connection:
            return runs.claimable(connection, "sweep", clock())

    assert not claimable()
    enqueue(database)
    assert claimable()
    held = claimed(database, clock)
    assert not claimable()
    clock.advance(LEASE)
    assert claimable()
    finish(database, held, clock)
    assert not claimable()


def test_history_is_read_page_by_page(database: Database) -> None:
    enqueue(database, *range(5))
    enqueue(database, 9, job="other")
    with database.read() as connection:
        first = runs.history(connection, "sweep", limit=3)
        rest = runs.history(connection, "sweep", before=first[-1].scheduled_for)
        assert [run.scheduled_for for run in first + rest] == [
            START + hour * HOUR for hour in (4, 3, 2, 1, 0)
        ]
        assert runs.history(connection)[0].job == "other"
        with pytest.raises(UnknownRunError):
            runs.get(connection, "nothing")


def test_old_runs_are_removed_but_the_latest_of_a_job(
    database: Database, clock: FrozenClock
) -> None:
    enqueue(database, 0, 1, 2)
    for _ in range(3):
        finish(database, claimed(database, clock), clock)
    enqueue(database, 0, job="other")
    with database.begin() as session:
        assert runs.remove_finished(session, clock()) == 0
        assert runs.remove_finished(session, clock() + HOUR) == 2
        assert session.scalar(select(func.count()).select_from(job_run)) == 2
