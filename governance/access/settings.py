"""What an installation may choose about access. Read from the environment by the layer above."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from argon2 import Parameters
from argon2.profiles import CHEAPEST, RFC_9106_LOW_MEMORY


class PasswordProfile(StrEnum):
    """How much work a password's hash costs, to us and to whoever steals the table."""

    STANDARD = "standard"
    """RFC 9106, section 4, second recommendation: argon2id, 3 passes over 64 MiB, 4 lanes."""
    FAST = "fast"
    """For tests alone: as good as no hash."""

    @property
    def parameters(self) -> Parameters:
        """The parameters for argon2."""
        return CHEAPEST if self is PasswordProfile.FAST else RFC_9106_LOW_MEMORY


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Limits, each with the default it has in production."""

    passwords: PasswordProfile = PasswordProfile.STANDARD
    session_idle: timedelta = timedelta(minutes=30)
    """A session that nobody used for so long has ended."""
    session_absolute: timedelta = timedelta(hours=12)
    """A session ends so long after login, used or not."""
    setup_link: timedelta = timedelta(hours=24)
    """How long the first-run link works."""
