from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.jobs.errors import InvalidJobError
from governance.jobs.schedule import (
    EPOCH,
    CatchUp,
    Cron,
    Due,
    Every,
    Missed,
    Schedule,
    due,
    next_tick,
)

MINUTE = timedelta(minutes=1)
HOURLY = Every(timedelta(hours=1))
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute, tzinfo=UTC)


def ticks(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    return list(schedule.ticks(after, until))


@given(
    seconds=st.integers(1, 10**7),
    start=st.integers(-(10**9), 4 * 10**9),
    length=st.integers(0, 10**4),
)
def test_ticks_lie_on_one_grid_whenever_one_looks(seconds: int, start: int, length: int) -> None:
    schedule = Every(timedelta(seconds=seconds), timedelta(seconds=seconds // 2))
    after = EPOCH + timedelta(seconds=start)
    middle, until = after + timedelta(seconds=length), after + timedelta(seconds=3 * length)
    whole = ticks(schedule, after, until)
    assert whole == ticks(schedule, after, middle) + ticks(schedule, middle, until)
    assert all(after < tick <= until for tick in whole)
    assert all(later - earlier == schedule.period for earlier, later in pairwise(whole))


def test_tick_at_the_instant_is_due_and_not_due_again() -> None:
    assert ticks(HOURLY, at(8), at(9)) == [at(9)]
    assert ticks(HOURLY, at(9), at(9, 59)) == []
    assert ticks(Cron("0 * * * *"), at(8), at(9)) == [at(9)]
    assert ticks(Cron("0 * * * *"), at(9), at(9, 59)) == []


def test_crontab_is_read_in_utc() -> None:
    weekly = Cron("30 2 * * mon")
    found = ticks(weekly, NOW, NOW + timedelta(days=15))
    assert found == [datetime(2026, 3, day, 2, 30, tzinfo=UTC) for day in (2, 9, 16)]
    # Clocks go forward in Europe on the 29th, and in the United States on the 8th.
    daily = ticks(Cron("0 2 * * *"), NOW, NOW + timedelta(days=60))
    assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(daily))


def test_crontab_knows_leap_days_and_years_after_2038() -> None:
    leap = Cron("0 0 29 2 *")
    assert next_tick(leap, NOW) == datetime(2028, 2, 29, tzinfo=UTC)
    assert ticks(leap, NOW, NOW + timedelta(days=365)) == []
    late = datetime(2040, 1, 1, tzinfo=UTC)
    assert next_tick(HOURLY, late) == late + timedelta(hours=1)


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "61 * * * *", "* * * * 1", "* * * * mon * *", "a b c d mon", "0 0 30 2 *"],
)
def test_malformed_crontab_is_refused(expression: str) -> None:
    with pytest.raises(InvalidJobError):
        Cron(expression)


@pytest.mark.parametrize(
    ("period", "offset"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(milliseconds=999), timedelta(0)),
        (MINUTE, MINUTE),
        (MINUTE, -timedelta(seconds=1)),
    ],
)
def test_malformed_period_is_refused(period: timedelta, offset: timedelta) -> None:
    with pytest.raises(InvalidJobError):
        Every(period, offset)


# --- catching up -------------------------------------------------------------------------------


@pytest.mark.parametrize("catch_up", CatchUp)
def test_tick_in_time_runs_under_every_rule(catch_up: CatchUp) -> None:
    now = at(9) + timedelta(seconds=3)
    assert due(HOURLY, catch_up, MINUTE, at(8), now) == Due((at(9),))
    assert due(HOURLY, catch_up, MINUTE, at(9), now) == Due()


def test_skip_misses_what_is_late() -> None:
    missed = Missed(at(6), at(9), 4)
    assert due(HOURLY, CatchUp.SKIP, MINUTE, at(5), NOW) == Due((), missed)
    in_time = due(HOURLY, CatchUp.SKIP, MINUTE, at(5), at(9, 1))
    assert in_time == Due((at(9),), Missed(at(6), at(8), 3))


def test_latest_runs_one_and_misses_the_others() -> None:
    assert due(HOURLY, CatchUp.LATEST, MINUTE, at(5), NOW) == Due((at(9),), Missed(at(6), at(8), 3))


def test_each_runs_all_oldest_first() -> None:
    assert due(HOURLY, CatchUp.EACH, MINUTE, at(5), NOW) == Due((at(6), at(7), at(8), at(9)))


def test_job_that_never_ran_starts_with_the_latest_tick() -> None:
    for catch_up in (CatchUp.LATEST, CatchUp.EACH):
        assert due(HOURLY, catch_up, MINUTE, None, NOW) == Due((at(9),))
        monthly = due(Cron("0 0 1 * *"), catch_up, MINUTE, None, NOW)
        assert monthly == Due((datetime(2026, 3, 1, tzinfo=UTC),))
    assert due(HOURLY, CatchUp.SKIP, MINUTE, None, NOW) == Due()
    assert due(HOURLY, CatchUp.SKIP, MINUTE, None, at(9)) == Due((at(9),))


def test_years_of_downtime_are_no_years_of_counting() -> None:
    every_second = Every(timedelta(seconds=1))
    long_ago = NOW - timedelta(days=2000)
    latest = due(every_second, CatchUp.LATEST, MINUTE, long_ago, NOW)
    assert latest.run == (NOW,)
    assert latest.missed is not None
    assert latest.missed.count > 4000
    each = due(every_second, CatchUp.EACH, MINUTE, long_ago, NOW)
    assert len(each.run) == 10_000
    assert each.run[0] == long_ago + timedelta(seconds=1)
    assert each.missed is None
