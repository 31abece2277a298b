"""How long to wait before the next attempt. Pure."""

from datetime import timedelta
from typing import Final

_DOUBLINGS: Final = 32


def delay(attempts: int, first: timedelta, longest: timedelta, dice: float) -> timedelta:
    """Twice as long after each failure, up to `longest`, and spread.

    Args:
        attempts: how many attempts have failed, from 1.
        first: the wait after the first.
        longest: the most.
        dice: a random number from 0 to 1. It makes the wait up to a quarter shorter or longer, so
            that what failed together is not tried again together.
    """
    doubled = min(first * (1 << min(attempts - 1, _DOUBLINGS)), longest)
    return doubled * (0.75 + dice / 2)
