"""Instants as officers read them: in the organisation's time zone, with UTC on hover. Pure.

What is typed into a form is read in the same zone. An hour that a change to or from summer time
skips or repeats is taken as the first one.
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup


def shown(instant: datetime, zone: ZoneInfo, *, seconds: bool = False) -> Markup:
    """A `<time>` element with day and time of day, such as 1 Mar 2026, 10:02."""
    local = instant.astimezone(zone)
    clock = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return _element(instant, f"{_day(local)}, {clock}")


def shown_day(instant: datetime, zone: ZoneInfo) -> Markup:
    """A `<time>` element with the day alone."""
    return _element(instant, _day(instant.astimezone(zone)))


def shown_clock(instant: datetime, zone: ZoneInfo) -> Markup:
    """A `<time>` element with the time of day alone, for what happened just now."""
    return _element(instant, f"{instant.astimezone(zone):%H:%M}")


def ago(instant: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something: `3 hours ago`."""
    seconds = max(0, int((now - instant).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def typed(text: str, zone: ZoneInfo) -> datetime:
    """The instant that a date, or a date and time, means in the zone. A date means its last moment.

    Raises:
        ValueError: the text is neither, or lies outside the years that can be stored.
    """
    if len(text) == len("2026-03-01"):
        local = datetime.combine(date.fromisoformat(text), time.max)
    else:
        local = datetime.fromisoformat(text)
    if not 1 < local.year < 9999:
        raise ValueError("the year cannot be stored")
    return local.replace(tzinfo=local.tzinfo or zone).astimezone(UTC)


def cursor(stated: str) -> datetime | None:
    """An instant that a page put into an address; None where it is none that we gave out."""
    try:
        instant = datetime.fromisoformat(stated)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else None


def field(instant: datetime, zone: ZoneInfo) -> str:
    """The value of an `<input type="datetime-local">`, to the minute."""
    return f"{instant.astimezone(zone):%Y-%m-%dT%H:%M}"


def on_its_way_until(instant: datetime) -> datetime:
    """When a message that had left before a withdrawal should have arrived."""
    return instant + timedelta(hours=1)


def _day(local: datetime) -> str:
    return f"{local.day} {local:%b %Y}"


def _element(instant: datetime, text: str) -> Markup:
    utc = instant.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC", text
    )
