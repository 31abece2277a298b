"""A first mapping for a table that nobody has described: guessed from headings and cells. Pure.

What is guessed is shown with how sure it is and with masked samples, for somebody to correct. It
only ever claims what it has reasons for: a column that merely looks like a choice is proposed as
one, and its words are spread out for reading; what a yes needs beside it is never made up, so that
a mapping with a yes that lacks it is refused until it is completed.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from typing import Final

from consent.importer.cells import (
    DOUBTFUL,
    NO,
    OPTED_IN,
    OPTED_OUT,
    YES,
    address,
    plain,
    printable,
)
from consent.importer.mapping import MADE_NOT_GIVEN, UNKNOWN
from consent.importer.rows import Row
from consent.importer.table import instant_in, phone_in
from policies.document import Value
from policies.model import PolicySet
from policies.vocabulary import ANY, Channel, ChoiceState, LegalBasis

SAMPLE: Final = 500
"""Rows that are looked at."""
_SHOWN: Final = 3
_LONGEST: Final = 28
_MOST_WORDS: Final = 12
_ENOUGH: Final = 0.6


class ColumnRole(StrEnum):
    """What a column may be."""

    EMAIL = "email"
    PHONE = "phone"
    EXTERNAL_ID = "external_id"
    CHOICE = "choice"
    TIME = "time"
    DENIED_AT = "denied_at"
    SOURCE = "source"
    WORDS = "words"
    CONFIRMED = "confirmed"
    ENDS = "ends"
    AGE = "age"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class ProposedColumn:
    """What a column is taken for."""

    name: str
    role: ColumnRole
    confidence: int
    """From 0 to 100."""
    samples: tuple[str, ...]
    """Masked: the shape of what stands in it."""
    purpose: str = ""
    channel: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A mapping to begin with."""

    columns: tuple[ProposedColumn, ...]
    content: Mapping[str, Value]
    lacking: tuple[str, ...]
    """What has to be added before a yes can count."""


_HEADINGS: Final[tuple[tuple[ColumnRole, re.Pattern[str]], ...]] = tuple(
    (role, re.compile(pattern))
    for role, pattern in (
        (ColumnRole.CONFIRMED, r"confirm|double|doi\b|bestätig|verifi"),
        (
            ColumnRole.DENIED_AT,
            r"(unsub|opt.?out|abmeld|abgemeld|withdr|widerr|baja|désabon).*(dat|time|fecha|(at|on|am)\b)",
        ),
        (ColumnRole.EMAIL, r"e-?mail|courriel|correo|mail\b"),
        (ColumnRole.PHONE, r"phone|tel|mobil|handy|gsm|móvil|portable"),
        (
            ColumnRole.CHOICE,
            r"newsletter|subscri|opt.?(in|out)|consent|einwillig|werbung|market|abonn|stat(us|o|e)\b",
        ),
        (ColumnRole.ENDS, r"expir|ends?\b|until|gültig bis|ablauf"),
        (ColumnRole.TIME, r"date|time|datum|zeit|fecha|data\b|when|_at\b|\bam\b"),
        (ColumnRole.WORDS, r"wording|words|text|wortlaut|notice|statement"),
        (ColumnRole.SOURCE, r"source|quelle|origin|herkunft|origen|form\b|channel of|campaign"),
        (ColumnRole.AGE, r"\bage\b|alter\b|edad|âge"),
        (ColumnRole.EXTERNAL_ID, r"\bid\b|_id\b|number|nummer|nr\b|código|kunde"),
    )
)

_EVERYTHING: Final = r"\b(all|any|everything|alle[ns]?|global)\b"
_CHANNELS: Final = {
    Channel.SMS: r"sms|text message",
    Channel.PHONE: r"phone|call|telefon|anruf",
    Channel.POST: r"post(al)?\b|letter|brief",
    Channel.PUSH: r"push",
}


def propose(
    header: Sequence[str], rows: Iterable[Row], policies: PolicySet, system: str
) -> Proposal:
    """A mapping for a table.

    Args:
        header: its headings.
        rows: some of its rows.
        policies: says which purposes there are.
        system: the name under which its IDs are kept.
    """
    sample = [row.cells for row in rows if row.damage is None]
    columns: list[ProposedColumn] = []
    taken: set[ColumnRole] = set()
    for place, name in enumerate(header):
        cells = [cells[place].strip() for cells in sample]
        column = _guess(name, [cell for cell in cells if cell], policies, taken)
        if column.role not in {ColumnRole.CHOICE, ColumnRole.IGNORED}:
            taken.add(column.role)
        columns.append(column)
    content = mapping_of(columns, system)
    return Proposal(tuple(columns), content, tuple(_lacking(content)))


def mapping_of(columns: Sequence[ProposedColumn], system: str) -> Mapping[str, Value]:
    """The mapping that columns amount to: what they say of time, source and words is said of every
    choice.
    """
    named = {column.role: column.name for column in columns}
    beside: dict[str, Value] = {
        role.value: named[role]
        for role in (
            ColumnRole.TIME,
            ColumnRole.DENIED_AT,
            ColumnRole.CONFIRMED,
            ColumnRole.ENDS,
            ColumnRole.AGE,
        )
        if role in named
    }
    for role in (ColumnRole.SOURCE, ColumnRole.WORDS):
        if role in named:
            beside[role.value] = {"column": named[role]}
    choices: list[Value] = [
        {
            "purpose": column.purpose,
            "channel": column.channel,
            "state": {"column": column.name, "values": dict(column.values)},
            **beside,
        }
        for column in columns
        if column.role is ColumnRole.CHOICE and column.values
    ]
    identifiers: dict[str, Value] = {
        role.value: named[role]
        for role in (ColumnRole.EMAIL, ColumnRole.PHONE, ColumnRole.EXTERNAL_ID)
        if role in named
    }
    return {"kind": "csv", "system": system, "identifiers": identifiers, "choices": choices}


def values_of(name: str, cells: Iterable[str]) -> dict[str, str]:
    """What the words of a column mean, as far as that can be guessed; none if they are too many.

    Nothing is ever guessed to be a yes but a plain yes in a column that asks for one.
    """
    words = list(dict.fromkeys(plain(cell) for cell in cells if cell.strip()))
    if not words or len(words) > _MOST_WORDS:
        return {}
    denies = DOUBTFUL.search(name) is not None
    return {word: _state(word, denies=denies) for word in words}


def masked(cell: str) -> str:
    """The shape of a cell: letters as x, digits as 9; a word that says yes or no as it is."""
    value = plain(cell)
    if value in YES | NO | OPTED_IN | OPTED_OUT:
        return value
    shape = "".join(
        "9" if letter.isdigit() else "x" if letter.isalpha() else letter
        for letter in printable(cell)
    )
    return shape if len(shape) <= _LONGEST else shape[: _LONGEST - 1] + "…"


# --- guessing ----------------------------------------------------------------------------------


def _guess(
    name: str, cells: Sequence[str], policies: PolicySet, taken: set[ColumnRole]
) -> ProposedColumn:
    heading = plain(name)
    samples = tuple(dict.fromkeys(masked(cell) for cell in cells[:50]))[:_SHOWN]
    nothing = ProposedColumn(printable(name), ColumnRole.IGNORED, 0, samples)
    if not heading or not cells:
        return nothing
    fits = {role: _share(cells, test) for role, test in _TESTS.items()}
    by_name = [role for role, pattern in _HEADINGS if pattern.search(heading)]
    candidates = [*by_name, *(role for role in _BY_CELLS if fits[role] > 1 - _ENOUGH / 3)]
    for role in candidates:
        share = fits.get(role, 1.0)
        # The words of a choice may be anybody's; few of them are enough.
        if role in taken or (share < _ENOUGH and role is not ColumnRole.CHOICE):
            continue
        if role is ColumnRole.TIME and heading in MADE_NOT_GIVEN:
            continue
        confidence = round((50 if role in by_name else 10) + 50 * share)
        if role is not ColumnRole.CHOICE:
            return ProposedColumn(printable(name), role, min(confidence, 99), samples)
        values = values_of(name, cells)
        if values:
            purpose, sure = _purpose(heading, values, policies)
            channel = _channel(heading, purpose, policies)
            known = fits[ColumnRole.CHOICE]
            confidence = round(30 * known + (30 if role in by_name else 0) + (35 if sure else 0))
            return ProposedColumn(
                printable(name), role, confidence, samples, purpose, channel, values
            )
    return nothing


def _state(word: str, *, denies: bool) -> str:
    if word in OPTED_OUT:
        return ChoiceState.OBJECTED.value
    if word in OPTED_IN or word in YES:
        return ChoiceState.OBJECTED.value if denies else ChoiceState.GRANTED.value
    if word in NO:
        return UNKNOWN
    return ChoiceState.OBJECTED.value if denies or DOUBTFUL.search(word) else UNKNOWN


def _purpose(heading: str, values: Mapping[str, str], policies: PolicySet) -> tuple[str, bool]:
    """The purpose that a heading names, and whether it names one."""
    if ChoiceState.GRANTED.value not in values.values() and re.search(_EVERYTHING, heading):
        return ANY, True
    asked = [
        rule
        for rule in policies.purposes.values()
        if rule.legal_basis is LegalBasis.CONSENT or rule.direct_marketing
    ]
    for rule in asked:
        names = {rule.key.replace("_", " "), rule.key, plain(rule.name)}
        names |= {plain(one) for all_names in rule.external_names.values() for one in all_names}
        if any(name in heading for name in names):
            return rule.key, True
    return (asked[0].key if asked else ANY), False


def _channel(heading: str, purpose: str, policies: PolicySet) -> str:
    rule = policies.purpose(purpose)
    pursued = frozenset(Channel) if rule is None else rule.channels
    for channel, pattern in _CHANNELS.items():
        if channel in pursued and re.search(pattern, heading):
            return channel.value
    return (Channel.EMAIL if Channel.EMAIL in pursued else min(pursued)).value


def _lacking(content: Mapping[str, Value]) -> Iterable[str]:
    if not content["identifiers"]:
        yield "identifiers: no column was recognised by which people can be told"
    choices = content["choices"]
    if not choices:
        yield "choices: no column was recognised in which people say yes or no"
    missing: Counter[str] = Counter()
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and "granted" in str(choice["state"]):
            missing.update(name for name in ("time", "source", "words") if name not in choice)
    for name in missing:
        yield f"{name}: a yes counts only with it, and no column was recognised that has it"


def _share(cells: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, cells)) / len(cells)


def _is_time(cell: str) -> bool:
    return instant_in(cell, None, UTC) is not None or re.fullmatch(_DAY, cell) is not None


_DAY: Final = r"\d{1,2}[./-]\d{1,2}[./-]\d{4}(?:[ ,T].*)?"

_TESTS: Final[Mapping[ColumnRole, Callable[[str], bool]]] = {
    ColumnRole.EMAIL: lambda cell: address(cell) is not None,
    ColumnRole.PHONE: lambda cell: phone_in(cell) is not None,
    ColumnRole.TIME: _is_time,
    ColumnRole.DENIED_AT: _is_time,
    ColumnRole.CONFIRMED: _is_time,
    ColumnRole.ENDS: _is_time,
    ColumnRole.AGE: lambda cell: cell.isdecimal() and len(cell) <= 3,
    ColumnRole.EXTERNAL_ID: lambda cell: " " not in cell and len(cell) <= 64,
    ColumnRole.CHOICE: lambda cell: plain(cell) in YES | NO | OPTED_IN | OPTED_OUT,
}
_BY_CELLS: Final = (ColumnRole.EMAIL, ColumnRole.PHONE, ColumnRole.CHOICE)
