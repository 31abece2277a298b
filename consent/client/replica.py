"""Decisions about everybody, in memory: filled from pages, asked in about two microseconds. Pure.

A person is a token: a hash of an identifier, keyed with a secret that the service made for this
API key alone. It is computed anew for each question, and no identifier is kept. Each person has
what the service decided and what time alone will make of it, so that no rule is needed here: the
newest that has begun is the answer.

Guarantees: a page is taken as a whole or not at all; one that is taken twice changes nothing. What
is true at two instants (the earliest and the latest that it may be) must allow at both. Read by any
number of threads while one of them fills it.

Form of what is kept of a person: how many tokens lead there (1 byte); with several cells the place
of each (2 bytes, 0: nothing bears on it); for each cell the number of turning points, the outcome,
and for each turning point instant (8 bytes) and outcome; then for each outcome one byte that says
where its record and expiry are, and those that stand nowhere else. In most cases 30 bytes: with
its header 63 of the 64 that CPython gives to it.
"""

import hashlib
import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from consent.client.decisions import Decision, denied
from consent.client.errors import LocalReason, UnreadableAnswerError
from consent.client.subjects import Kind, Subject, normalised

FORMAT: Final = 1
TOKEN_BYTES: Final = 15
Cell: TypeAlias = tuple[str, str]
"""A purpose on a channel."""

_Packed: TypeAlias = tuple[bytes, Sequence[bytes], bytes | None]
"""A handle, its tokens, and what is kept of that person; None: there is no such person."""

_AS_BEFORE: Final = "="
_HASHED_AS: Final[Mapping[Kind, bytes]] = {
    "email": b"tutela/m1/email",
    "phone": b"tutela/m1/phone",
    "external_id": b"tutela/m1/extern",
    "ref": b"tutela/m1/ref",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_RECORD, _OWN_RECORD, _SAME_RECORD = range(3)
_NO_END, _OWN_END, _ENDS_WITH_IT, _ENDED_BEFORE_IT = range(4)
_MANY: Final = 255


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the service sent it: a head, and a line a person."""

    head: Mapping[str, Any]
    lines: Sequence[Sequence[Any]]


def read_page(body: bytes) -> Page:
    """Read a page.

    Raises:
        UnreadableAnswerError: it is none, was cut short, or is of another format.
    """
    try:
        head, *lines, foot = [json.loads(line) for line in body.splitlines()]
        whole = head["format"] == FORMAT and foot == {"lines": len(lines)}
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableAnswerError("the answer is not a page of a snapshot") from error
    if not whole:
        raise UnreadableAnswerError("the page of a snapshot is cut short, or of another format")
    return Page(head, lines)


class Replica:
    """One copy, within one epoch of the service."""

    def __init__(self, cells: Sequence[Cell], kinds: Sequence[str]) -> None:
        """Holds nobody yet.

        Args:
            cells: purposes on channels, as they were asked for.
            kinds: by what people are looked up, as they were asked for.
        """
        self.epoch: str | None = None
        self.cursor = ""
        """Where to go on, in what changes."""
        self.after: str | None = ""
        """Where to go on reading everybody; None when all were read."""
        self.policy = ""
        self.expected = 0
        """How many people there are to read, about."""
        self._cells = {cell: place for place, cell in enumerate(cells)}
        self._one_cell = len(self._cells) == 1
        self._kinds = frozenset(kinds)
        self._systems = frozenset(kind.partition(":")[2] for kind in kinds if ":" in kind)
        self._outcomes: dict[tuple[bool, str, str], int] = {}
        self._answers: list[list[dict[str, Any]]] = [[] for _ in self._cells]
        """For each cell, what each outcome says. Grows before anything refers to it."""
        self._bases: list[str | None] = []
        self._nothing = bytes(2 * len(self._cells))
        self._nobody: list[bytes] = []
        self._silent: list[bytes] = []
        self._hashes: dict[str, Any] = {}
        self._people: dict[bytes, bytes] = {}
        self._names: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"<Replica of {len(self._people)} people, redacted>"

    def __len__(self) -> int:
        return len(self._people)

    # --- asking --------------------------------------------------------------------------------

    def decide(
        self, subject: Subject, purpose: str, channel: str, latest: int, width: int
    ) -> Decision:
        """The decision about one person.

        Args:
            subject: whom it is about.
            purpose: the key of a purpose.
            channel: such as `email`.
            latest: the present by the service's clock, in microseconds since 1970; a little late
                if anything.
            width: by how many microseconds it may be earlier.
        """
        place = self._cells.get((purpose, channel))
        keyed = self._hashes.get(subject.kind)
        if place is None or keyed is None or (self._systems and not self._holds_system(subject)):
            return denied(LocalReason.NOT_MIRRORED, _NOT_HELD)
        value = subject.value
        plain = subject.kind == "email" and value.isascii()
        text = value.strip().lower() if plain else normalised(subject)
        if text is None:
            return denied(LocalReason.SUBJECT_INVALID, _NO_IDENTIFIER)
        token = keyed.copy()
        token.update(text.encode("utf-8", "surrogatepass"))
        kept, start = self._kept(subject.kind, token.digest(), place)
        spell, outcome = 0, kept[start + 1]
        if kept[start] and latest >= int.from_bytes(kept[start + 2 : start + 10], signed=True):
            spell, outcome = self._begun(kept, start, latest)
            if width and self._answers[place][outcome]["allow"]:
                earlier, before = self._begun(kept, start, latest - width)
                if not self._answers[place][before]["allow"]:
                    spell, outcome = earlier, before
        decision = _new(_Kept)
        raw = kept, start, spell, latest
        _set(decision, "__dict__", {**self._answers[place][outcome], "_raw": raw})
        return decision

    def _kept(self, kind: str, name: bytes | None, place: int) -> tuple[bytes, int]:
        """What is kept of a person for one cell: in which bytes, and where in them it begins."""
        if kind != "ref":
            name = self._names.get(name)  # type: ignore[arg-type] # there are bytes in it
        kept = self._people.get(name)  # type: ignore[arg-type] # None is nobody's name
        if kept is None:
            return self._nobody[place], 0
        if self._one_cell:
            return (self._silent[place], 0) if len(kept) == 1 else (kept, 1)
        start = kept[2 * place + 1] << 8 | kept[2 * place + 2]
        return (kept, start) if start else (self._silent[place], 0)

    def _holds_system(self, subject: Subject) -> bool:
        if subject.kind != "external_id" or "external_id" in self._kinds:
            return True
        return (subject.system or "").strip().casefold() in self._systems

    @staticmethod
    def _begun(kept: bytes, start: int, now: int) -> tuple[int, int]:
        """The newest spell that has begun, and its outcome."""
        spell, outcome = 0, kept[start + 1]
        for turn in range(kept[start]):
            at = start + 2 + 9 * turn
            if now < int.from_bytes(kept[at : at + 8], signed=True):
                break
            spell, outcome = turn + 1, kept[at + 8]
        return spell, outcome

    # --- taking pages --------------------------------------------------------------------------

    def take_everybody(self, page: Page) -> None:
        """Take a page of everybody: the next one, as `after` says.

        Raises:
            UnreadableAnswerError: it is malformed, or of another epoch; nothing of it was taken.
        """
        head = page.head
        try:
            epoch, after, cursor = _text(head["epoch"]), head["after"], _text(head["cursor"])
            expected = int(head.get("people", self.expected))
            if after is not None:
                _text(after)
            if self.epoch is None:
                self._learn(head)
            elif epoch != self.epoch:
                raise ValueError("another epoch")
            changed = self._packed(page)
        except _MALFORMED as error:
            raise UnreadableAnswerError("the answer is not a page of everybody") from error
        if self.epoch is None:
            # What happens while pages are read is in what changed since the first of them.
            self.epoch, self.cursor = epoch, cursor
        self._apply(changed)
        self.after, self.expected = after, expected

    def take_changes(self, page: Page) -> bool:
        """Take a page of what changed behind `cursor`. Says whether more is waiting.

        Raises:
            UnreadableAnswerError: it is malformed, or not the page that was asked for; nothing of
                it was taken.
        """
        head = page.head
        try:
            if head["epoch"] != self.epoch or head["from"] != self.cursor:
                raise ValueError("another page than was asked for")
            cursor, more = _text(head["cursor"]), head["more"]
            if not isinstance(more, bool):
                raise TypeError("neither yes nor no")
            changed = self._packed(page)
        except _MALFORMED as error:
            raise UnreadableAnswerError("the answer is not a page of changes") from error
        self._apply(changed)
        self.cursor = cursor
        return more

    def clear(self) -> None:
        """Forget everybody."""
        self._people, self._names = {}, {}

    def _learn(self, head: Mapping[str, Any]) -> None:
        """What holds for everybody: the secret, and what is decided where nothing is known."""
        self.policy = _text(head["policy"])
        told = head["cells"]
        if [(cell["purpose"], cell["channel"]) for cell in told] != list(self._cells):
            raise ValueError("other cells than were asked for")
        self._bases = [cell["basis"] for cell in told]
        codes = self._codes(head)
        self._nobody = [_packed_cell(cell["nobody"], codes) for cell in told]
        self._silent = [_packed_cell(cell["silent"], codes) for cell in told]
        secret = _bytes(head["secret"])
        kinds = {kind.partition(":")[0] for kind in self._kinds}
        self._hashes = {
            kind: hashlib.blake2b(digest_size=TOKEN_BYTES, key=secret, person=person)
            for kind, person in _HASHED_AS.items()
            if kind in kinds
        }

    def _codes(self, head: Mapping[str, Any]) -> list[int]:
        """Our numbers for the outcomes of a page, by its own numbers."""
        codes = []
        for allow, status, reason in head["outcomes"]:
            if not isinstance(allow, bool):
                raise TypeError("neither yes nor no")
            outcome = allow, _text(status), _text(reason)
            if outcome not in self._outcomes:
                for basis, answers in zip(self._bases, self._answers, strict=True):
                    answers.append(
                        {
                            "allow": allow,
                            "status": status,
                            "reason": reason,
                            "basis": basis,
                            "policy": self.policy,
                            "detail": "",
                        }
                    )
                self._outcomes[outcome] = len(self._outcomes)
            codes.append(self._outcomes[outcome])
        return codes

    def _packed(self, page: Page) -> list[_Packed]:
        codes = self._codes(page.head)
        return [self._packed_line(line, codes) for line in page.lines]

    def _packed_line(self, line: Sequence[Any], codes: Sequence[int]) -> _Packed:
        handle, *told = line
        if not told:
            return _token(handle), (), None
        tokens = [_token(one) for one in told[0]]
        count = bytes((min(len(tokens), _MANY),))
        if len(told) == 1:
            return _token(handle), tokens, count if self._one_cell else count + self._nothing
        if len(told) != 2 or len(told[1]) != len(self._cells):
            raise ValueError("other cells than were asked for")
        cells = [_packed_cell(cell, codes) if cell else b"" for cell in told[1]]
        if self._one_cell:
            return _token(handle), tokens, count + cells[0]
        places, start = bytearray(), 1 + 2 * len(cells)
        for cell in cells:
            places += (start if cell else 0).to_bytes(2)
            start += len(cell)
        return _token(handle), tokens, count + bytes(places) + b"".join(cells)

    def _apply(self, changed: Iterable[_Packed]) -> None:
        people, names = self._people, self._names
        parted: dict[bytes, Sequence[bytes]] = {}
        for handle, tokens, kept in changed:
            before = people.get(handle)
            if before is not None:
                led = sum(names.get(token) == handle for token in tokens)
                if led < before[0] or before[0] == _MANY:
                    parted[handle] = tokens
            if kept is None:
                people.pop(handle, None)
                continue
            people[handle] = kept
            for token in tokens:
                names[token] = handle
        if parted:
            # Rare, and so not worth a list of tokens for each person.
            gone = [
                token
                for token, handle in names.items()
                if handle in parted and token not in parted[handle]
            ]
            for token in gone:
                del names[token]


class _Kept(Decision):
    """A decision of a replica. What is dear to write out is written out when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        raw = self.__dict__.get("_raw")
        if raw is None or name not in ("as_of", "record_id", "expires_at"):
            raise AttributeError(name)
        kept, start, spell, now = raw
        if name == "as_of":
            return instant(now)
        record, ends = _details(kept, start, spell)
        return record if name == "record_id" else None if ends is None else instant(ends)

    def __reduce__(self) -> Any:
        # As an ordinary decision: nothing of the replica goes along.
        return Decision, tuple(getattr(self, one.name) for one in fields(Decision))


_new: Final = object.__new__
_set: Final = object.__setattr__


def _packed_cell(spells: Sequence[Sequence[Any]], codes: Sequence[int]) -> bytes:
    """What will be decided, as it is kept. Numbers are checked by the forms that they must fit."""
    (code, record, ends), *later = spells
    turns = [(int(at), codes[turn], own, end) for at, turn, own, end in later]
    head = bytes((len(turns), codes[code]))
    head += b"".join(at.to_bytes(8, signed=True) + bytes((turn,)) for at, turn, _, _ in turns)
    begins = [at for at, _, _, _ in turns]
    if begins != sorted(begins):
        raise ValueError("out of order")
    details = bytearray()
    last_end: int | None = None
    for place, (own, end) in enumerate([(record, ends), *((own, end) for *_, own, end in turns)]):
        if place and own == _AS_BEFORE:
            how, data = _SAME_RECORD, b""
        elif own is None:
            how, data = _NO_RECORD, b""
        else:
            how, data = _OWN_RECORD, UUID(own).bytes
        last_end = last_end if place and end == _AS_BEFORE else None if end is None else int(end)
        if last_end is None:
            when = _NO_END
        elif place < len(begins) and last_end == begins[place]:
            when = _ENDS_WITH_IT
        elif place and last_end == begins[place - 1]:
            when = _ENDED_BEFORE_IT
        else:
            when, data = _OWN_END, data + last_end.to_bytes(8, signed=True)
        details.append(how | when << 2)
        details += data
    return head + bytes(details)


def _details(kept: bytes, start: int, wanted: int) -> tuple[str | None, int | None]:
    """Record and expiry of one spell."""
    turns = kept[start]

    def begin(turn: int) -> int:
        at = start + 2 + 9 * turn
        return int.from_bytes(kept[at : at + 8], signed=True)

    place = start + 2 + 9 * turns
    record: str | None = None
    ends: int | None = None
    for spell in range(wanted + 1):
        how, when = kept[place] & 3, kept[place] >> 2
        place += 1
        if how == _OWN_RECORD:
            record, place = str(UUID(bytes=kept[place : place + 16])), place + 16
        elif how == _NO_RECORD:
            record = None
        if when == _OWN_END:
            ends, place = int.from_bytes(kept[place : place + 8], signed=True), place + 8
        elif when == _NO_END:
            ends = None
        else:
            ends = begin(spell if when == _ENDS_WITH_IT else spell - 1)
    return record, ends


def instant(microseconds: int) -> datetime:
    """An instant from microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _token(text: Any) -> bytes:
    value = urlsafe_b64decode(text)
    if len(value) != TOKEN_BYTES:
        raise ValueError("a token of another length")
    return value


def _bytes(text: Any) -> bytes:
    return urlsafe_b64decode(_text(text) + "==")


_MALFORMED: Final = (
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    OverflowError,
    AttributeError,
)
"""What reading a page of another form may raise."""
_NOT_HELD: Final = "This mirror does not hold that purpose, channel or kind of identifier."
_NO_IDENTIFIER: Final = "The identifier has not the form of its kind."
