"""What the pages of notices show: people on versions as bars, and versions side by side. Pure.

Non-goals: who may see or change what (the views), and counting people (`consent.reconsent`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Final

from admin_ui.console.wording import Tag, Tone
from consent.notice_history import NoticeHistory
from consent.notices import Version

_WORDS: Final = re.compile(r"\s+|\w+|[^\w\s]")
_MOST_COMPARED: Final = 4_000_000
"""Pairs of words beyond which a paragraph is shown as replaced whole."""
_BAR: Final = 100


@dataclass(frozen=True, slots=True)
class Bar:
    """How many people's grants name a version."""

    version: str
    people: int
    width: int
    """Of the longest bar, in per cent; one at least where there is anybody."""
    tag: Tag


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words of one side: the same as on the other, or not."""

    text: str
    changed: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A line of both sides; empty where the other side has one more."""

    before: list[Piece]
    after: list[Piece]

    @property
    def changed(self) -> bool:
        """Whether the sides differ."""
        return self.before != self.after


def state_of(version: Version, versions: Sequence[Version], now: datetime) -> Tag:
    """Where a version stands among all of its notice."""
    if version.effective_from > now:
        return Tag("Announced", Tone.SOON)
    later = [one for one in versions if version.effective_from < one.effective_from <= now]
    if not later:
        return Tag("In effect", Tone.ON)
    if any(one.material for one in later):
        return Tag("Superseded", Tone.NO)
    return Tag("Older, still counts", Tone.OPEN)


def bars(
    people: Mapping[str, int], history: NoticeHistory, notice: str, now: datetime
) -> list[Bar]:
    """People on each version, the newest first; versions that were never published here last."""
    dated = {one.version: one.effective_from for one in history.of(notice)}
    most = max(people.values(), default=0)
    named = [
        *sorted(dated, key=lambda version: dated[version], reverse=True),
        *sorted(people.keys() - dated.keys()),
    ]
    found = []
    for version in named:
        count = people.get(version, 0)
        ended = history.superseded_at(notice, version, max(now, dated.get(version, now)))
        tag = Tag("Counts", Tone.ON)
        if ended is not None:
            tag = (
                Tag("Needs re-consent", Tone.SOON)
                if ended <= now
                else Tag("Counts until the change", Tone.OPEN)
            )
        width = max(1, count * _BAR // most) if count else 0
        found.append(Bar(version, count, width, tag))
    return found


def compared(before: str, after: str) -> list[Pair]:
    """Two texts line by line and word by word."""
    old, new = before.split("\n"), after.split("\n")
    pairs: list[Pair] = []
    for kind, start, stop, begin, end in SequenceMatcher(None, old, new).get_opcodes():
        if kind == "equal":
            pairs += [Pair([Piece(line, False)], [Piece(line, False)]) for line in old[start:stop]]
        else:
            pairs += _replaced(old[start:stop], new[begin:end])
    return [pair for pair in pairs if _says(pair)]


def _says(pair: Pair) -> bool:
    return any(piece.text for piece in (*pair.before, *pair.after))


def _replaced(old: Sequence[str], new: Sequence[str]) -> Iterator[Pair]:
    for place in range(max(len(old), len(new))):
        one = old[place] if place < len(old) else ""
        other = new[place] if place < len(new) else ""
        yield _word_by_word(one, other)


def _word_by_word(one: str, other: str) -> Pair:
    old, new = _WORDS.findall(one), _WORDS.findall(other)
    if not old or not new or len(old) * len(new) > _MOST_COMPARED:
        return Pair([Piece(one, True)] if one else [], [Piece(other, True)] if other else [])
    before, after = [], []
    for kind, start, stop, begin, end in SequenceMatcher(None, old, new).get_opcodes():
        same = kind == "equal"
        if stop > start:
            before.append(Piece("".join(old[start:stop]), not same))
        if end > begin:
            after.append(Piece("".join(new[begin:end]), not same))
    return Pair(before, after)
