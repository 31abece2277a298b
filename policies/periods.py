"""ISO 8601 periods (`P2Y`, `P6M`, `P30D`) added to instants by the calendar.

Months and years keep the day of the month, else take the last day of the month, as
Reg. (EEC, Euratom) 1182/71 Art. 3(2)(c) does; days and weeks are exact.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta

from policies.errors import PolicyError

_FORM = re.compile(r"P(?:(\d{1,4})Y)?(?:(\d{1,5})M)?(?:(\d{1,5})W)?(?:(\d{1,6})D)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Period:
    """A length of calendar time, as written and as years, months and days."""

    months: int
    days: int

    @classmethod
    def parse(cls, text: str) -> "Period":
        """Read an ISO 8601 period of years, months, weeks and days.

        Raises:
            PolicyError: the text is no such period, or is empty.
        """
        match = _FORM.fullmatch(text)
        if match is None or not any(match.groups()):
            raise PolicyError(f"{text!r} is not an ISO 8601 period such as P2Y, P6M or P30D")
        years, months, weeks, days = (int(part or 0) for part in match.groups())
        return cls(months=years * 12 + months, days=weeks * 7 + days)

    def after(self, instant: datetime) -> datetime:
        """`instant` plus this period; the last representable instant where that overflows."""
        month = instant.year * 12 + instant.month - 1 + self.months
        year, month = divmod(month, 12)
        if year > MAXYEAR:
            return _END_OF_TIME
        month += 1
        day = instant.day
        if day > _SHORTEST_MONTH:
            day = min(day, calendar.monthrange(year, month)[1])
        try:
            return instant.replace(year=year, month=month, day=day) + timedelta(days=self.days)
        except OverflowError:
            return _END_OF_TIME

    def __str__(self) -> str:
        years, months = divmod(self.months, 12)
        parts = [f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (self.days, "D")) if n]
        return "P" + "".join(parts or ["0D"])


_SHORTEST_MONTH = 28
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)
