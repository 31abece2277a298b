"""When jobs are due: instants in UTC that every node computes alike. Pure.

A schedule is a grid laid over all time, not a distance from when a process started. So nodes
agree on the ticks, however their clocks differ and whenever they came up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Protocol

from governance.jobs.errors import InvalidJobError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_TICK: Final = timedelta(microseconds=1)
_MOST: Final = 10_000
_LOOK_BACK: Final = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 366, 1464))


class Schedule(Protocol):
    """A grid of instants."""

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants t with after < t ≤ until, in order."""

    def trigger(self) -> Any:
        """The same for APScheduler, which then wakes us at them."""


@dataclass(frozen=True, slots=True)
class Every:
    """At all multiples of a period since 1970-01-01 00:00 UTC, shifted by an offset.

    Raises:
        InvalidJobError: the period is shorter than a second, or the offset not within it.
    """

    period: timedelta
    offset: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        if self.period < timedelta(seconds=1):
            raise InvalidJobError("a job's period is at least a second")
        if not timedelta(0) <= self.offset < self.period:
            raise InvalidJobError("a job's offset lies within its period")

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants t with after < t ≤ until, in order."""
        origin = EPOCH + self.offset
        number = (after - origin) // self.period + 1
        while (tick := origin + number * self.period) <= until:
            yield tick
            number += 1

    def trigger(self) -> Any:
        """The same for APScheduler."""
        from apscheduler.triggers.interval import IntervalTrigger

        return IntervalTrigger(
            seconds=self.period.total_seconds(), start_date=EPOCH + self.offset, timezone=UTC
        )


@dataclass(frozen=True, slots=True)
class Cron:
    """At the minutes that match a crontab expression, in UTC: `30 2 * * mon`.

    Unlike in crontab(5), all five fields must match. Days of the week are written as names:
    their numbers mean different days to different programs.

    Raises:
        InvalidJobError: the expression is malformed, or matches nothing.
    """

    expression: str

    def __post_init__(self) -> None:
        fields = self.expression.split()
        if len(fields) != 5 or any(character.isdigit() for character in fields[4]):
            raise InvalidJobError(
                "write minute, hour, day, month and day of the week, its days as mon, tue, …"
            )
        try:
            never = self.trigger().get_next_fire_time(None, EPOCH) is None
        except ValueError as error:
            raise InvalidJobError(f"{self.expression!r} is no crontab expression") from error
        if never:
            raise InvalidJobError(f"{self.expression!r} matches no day")

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants t with after < t ≤ until, in order."""
        trigger = self.trigger()
        while (tick := trigger.get_next_fire_time(None, after + _TICK)) and tick <= until:
            yield tick.astimezone(UTC)
            after = tick

    def trigger(self) -> Any:
        """The same for APScheduler."""
        return _cron_trigger(self.expression)


class CatchUp(StrEnum):
    """What happens to ticks that passed while no node was up to notice them."""

    SKIP = "skip"
    """They are recorded as missed, and the next one runs in time."""
    LATEST = "latest"
    """The latest one runs now, those before it are recorded as missed."""
    EACH = "each"
    """All of them run, the oldest first."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A gap: ticks that will not run."""

    first: datetime
    last: datetime
    count: int
    """How many there were, or at least were if it is 10,000."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about the ticks of a job."""

    run: tuple[datetime, ...] = ()
    missed: Missed | None = None


def due(
    schedule: Schedule,
    catch_up: CatchUp,
    late_after: timedelta,
    last: datetime | None,
    now: datetime,
) -> Due:
    """Which ticks run, and which are missed.

    Args:
        schedule: the job's grid.
        catch_up: the job's rule for late ticks.
        late_after: how long after its instant `SKIP` still runs a tick.
        last: the job's latest known tick; None if it never had one. Then the latest tick on the
            grid counts, and none before it is missed.
        now: the present.
    """
    if last is None:
        return Due(tuple(_wanted(_latest(schedule, now), catch_up, late_after, now)))
    if catch_up is CatchUp.EACH:
        # The oldest first; what is more is due again as soon as these are known.
        return Due(tuple(islice(schedule.ticks(last, now), _MOST)))
    ticks = _between(schedule, last, now)
    wanted = _wanted(ticks, catch_up, late_after, now)
    lost = ticks[: len(ticks) - len(wanted)]
    if not lost:
        return Due(tuple(wanted))
    return Due(tuple(wanted), Missed(lost[0], lost[-1], len(lost)))


def next_tick(schedule: Schedule, now: datetime) -> datetime | None:
    """The next tick after now, or None if there is none within four years."""
    return next(iter(schedule.ticks(now, now + _LOOK_BACK[-1])), None)


def _wanted(
    ticks: list[datetime], catch_up: CatchUp, late_after: timedelta, now: datetime
) -> list[datetime]:
    if catch_up is CatchUp.SKIP:
        return [tick for tick in ticks if now - tick <= late_after]
    return ticks[-1:]


def _latest(schedule: Schedule, now: datetime) -> list[datetime]:
    for span in _LOOK_BACK:
        if ticks := _between(schedule, now - span, now):
            return ticks[-1:]
    return []


def _between(schedule: Schedule, after: datetime, until: datetime) -> list[datetime]:
    """The latest ticks of a span: all of them, if there are no more than 10,000."""
    while len(ticks := list(islice(schedule.ticks(after, until), _MOST + 1))) > _MOST:
        after = until - (until - after) / 2
    return ticks


@lru_cache(maxsize=128)
def _cron_trigger(expression: str) -> Any:
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger.from_crontab(expression, timezone=UTC)
