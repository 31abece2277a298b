"""Which words stood when: published versions of notices, as far as they bear on decisions. Pure.

A version covers a choice that named it and was made since it took effect; whatever else was named
is older than all that was published here. A material version supersedes what is older than it,
from its own instant on. So a version that is not material changes no decision, and a material one
turns no deny into an allow: neither covers a choice that was made before it took effect.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final


@dataclass(frozen=True, slots=True)
class Publication:
    """One version of a notice, published."""

    notice: str
    version: str
    effective_from: datetime
    published_at: datetime
    material: bool
    """Whether it changed so much that choices under older versions no longer count."""


class NoticeHistory:
    """All publications up to some instant."""

    __slots__ = ("_changes", "_in_effect", "publications")

    def __init__(self, publications: Iterable[Publication] = ()) -> None:
        self.publications: Final = tuple(
            sorted(publications, key=lambda one: (one.notice, one.effective_from, one.version))
        )
        self._in_effect = {
            (one.notice, one.version): one.effective_from for one in self.publications
        }
        self._changes: dict[str, list[datetime]] = {}
        for one in self.publications:
            if one.material:
                self._changes.setdefault(one.notice, []).append(one.effective_from)

    def superseded_at(
        self, notice: str | None, version: str | None, given_at: datetime
    ) -> datetime | None:
        """From when on the words that a choice named no longer stand; None if they still do.

        Args:
            notice: the notice that the choice named. None: nobody can show that words which were
                not kept cover what changed since (GDPR Art. 7(1)), in whatever notice.
            version: the version that it named.
            given_at: when the choice was made.
        """
        if notice is None or version is None:
            later = (
                instant
                for changes in self._changes.values()
                for instant in changes[bisect_right(changes, given_at) :]
            )
            return min(later, default=None)
        changes = self._changes.get(notice)
        if changes is None:
            return None
        covered_from = self._in_effect.get((notice, version), _BEGINNING)
        if given_at < covered_from:
            covered_from = _BEGINNING
        place = bisect_right(changes, covered_from)
        return changes[place] if place < len(changes) else None

    def known_at(self, instant: datetime) -> "NoticeHistory":
        """The history without the material versions that nobody had published by then."""
        kept = [one for one in self.publications if not one.material or one.published_at <= instant]
        return self if len(kept) == len(self.publications) else NoticeHistory(kept)

    def of(self, notice: str) -> tuple[Publication, ...]:
        """The publications of one notice, in the order in which they take effect."""
        return tuple(one for one in self.publications if one.notice == notice)


_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
NOTHING_PUBLISHED: Final = NoticeHistory()
