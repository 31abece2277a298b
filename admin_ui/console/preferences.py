"""How a member of staff likes pages: theme, density, shortcuts. Pure.

Kept with the account on the server (`governance.access.preferences`); before anyone is logged in
a cookie carries the theme, so that the login page does not dazzle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self


class Theme(StrEnum):
    """Light, dark, or what the system says."""

    SYSTEM = "system"
    LIGHT = "light"
    DARK = "dark"


class Density(StrEnum):
    """Height of a table's rows: 33 or 44 pixels."""

    COMPACT = "compact"
    COMFORTABLE = "comfortable"


class Keys(StrEnum):
    """Whether single keys are shortcuts (WCAG 2.1.4 wants a switch)."""

    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Preferences:
    """One person's choices, each with its default."""

    theme: Theme = Theme.SYSTEM
    density: Density = Density.COMPACT
    keys: Keys = Keys.ON

    @classmethod
    def of(cls, stated: Mapping[str, str]) -> Self:
        """Read choices by name. What is unknown counts as not stated."""
        chosen: dict[str, Any] = {
            name: kind(stated[name]) for name, kind in KINDS.items() if stated.get(name) in [*kind]
        }
        return cls(**chosen)


KINDS: Final[Mapping[str, type[StrEnum]]] = {"theme": Theme, "density": Density, "keys": Keys}
"""What may be chosen, by name."""

TIME_ZONE: Final = "time_zone"
"""The organisation's choice: the zone in which times are shown and read."""
