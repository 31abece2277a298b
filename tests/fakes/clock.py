"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


class FrozenClock:
    """Callable like `policies`' `Clock`: each call answers the same aware UTC time."""

    def __init__(self, now: datetime = START) -> None:
        self.set(now)

    def __call__(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move forward, or backward by a negative amount; answers the new time."""
        self._now += by
        return self._now

    def set(self, now: datetime) -> None:
        """Jump to an aware time.

        Raises:
            ValueError: the time is naive.
        """
        if now.tzinfo is None:
            raise ValueError("a clock needs an aware time")
        self._now = now.astimezone(UTC)
