"""Copies of do-not-call lists: read in, compared with, replaced as a whole. Consent's port.

Guarantees:

- A number is kept as a token alone, under the index by which people are found: to compare takes
  no key, and no statement beside that of the check.
- A copy is used from the commit that makes it current, in all checks at once, or not at all. A
  copy that broke off, shrank suspiciously or was overtaken never becomes current.
- What cannot be compared is said to be so: no copy, no number, or a number whose token was made
  under another index key than the copy's (after a rotation, until the next import).
- Memory does not grow with the list.

Non-goals: fetching lists, which each registry does in its own way; how old a copy may be, which the
policy says (`policies.decisions`).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from itertools import islice
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent import bulk
from consent.bulk import select_by_keys
from consent.do_not_call import Copy, InvalidListError, Replaced
from consent.subjects import Reader, SubjectRef
from governance.errors import DatabaseError
from governance.keys.blind_index import BlindIndex
from governance.vault.identify import Directory
from governance.vault.models import ListState, vault_dnc_list, vault_dnc_number, vault_identifier
from governance.vault.national_numbers import NationalNumbers
from policies.decisions import Listing
from policies.model import Registry

BATCH: Final = 5_000
"""Lines in one transaction, so that other writers get their turn."""
MOST_MALFORMED: Final = 100
"""One line in so many may be no number. More, and it is another sort of file."""
LEAST_OF_BEFORE: Final = 2
"""A copy with less than one half of the numbers before is taken for one that broke off."""

_list = vault_dnc_list.c
_number = vault_dnc_number.c
_identifier = vault_identifier.c


class DoNotCallLists:
    """The copies that this installation keeps. Shared by threads."""

    def __init__(
        self,
        directory: Directory,
        begin: Callable[[], AbstractContextManager[Session]],
        clock: Callable[[], datetime],
        batch: int = BATCH,
    ) -> None:
        self._directory = directory
        self._begin = begin
        self._clock = clock
        self._batch = batch

    # --- comparing -----------------------------------------------------------------------------

    def columns(self, person: ColumnElement[Any], registries: int) -> list[ColumnElement[Any]]:
        """See `consent.do_not_call.DoNotCallLists.columns`."""
        return [
            column
            for number in range(registries)
            for column in _compared(person, _list.registry == bindparam(f"registry_{number}"))
        ]

    def listings(
        self,
        reader: Reader,
        people: Collection[SubjectRef],
        registries: Sequence[str],
        as_of: datetime | None = None,
    ) -> dict[SubjectRef, dict[str, Listing]]:
        """See `consent.do_not_call.DoNotCallLists.listings`."""
        then = _drawn(reader, registries, as_of)
        until = (as_of or self._clock()).date().isoformat()
        found: dict[SubjectRef, dict[str, Listing]] = {
            person: {registry: Listing(day, compared=False) for registry, day in then.items()}
            for person in people
        }
        marks = ", ".join("{mark}" for _ in registries)
        query = f"{_SELECT_LISTED} AND l.registry IN ({marks})"
        numbers: dict[tuple[SubjectRef, str], list[tuple[str, int, str | None]]] = {}
        for person, registry, *told in select_by_keys(
            reader, query, list(found), also=tuple(registries)
        ):
            numbers.setdefault((person, registry), []).append(tuple(told))
        for (person, registry), held in numbers.items():
            # As the statement saw it: a copy may have been replaced since the statement before.
            drawn = date.fromisoformat(held[0][0]) if as_of is None else then.get(registry)
            if drawn is None:
                continue
            days = [since for _, _, since in held if since is not None and since <= until]
            found[person][registry] = Listing(
                drawn,
                since=date.fromisoformat(max(days)) if days else None,
                compared=all(same for _, same, _ in held),
            )
        return found

    # --- replacing -----------------------------------------------------------------------------

    def replace(
        self,
        registry: Registry,
        listed_on: date,
        lines: Iterable[str],
        *,
        smaller: bool = False,
        recorded: Callable[[Session, Replaced], None] = lambda _session, _replaced: None,
        progress: Callable[[int], None] = lambda _lines: None,
    ) -> Replaced:
        """See `consent.do_not_call.DoNotCallLists.replace`."""
        numbers = _numbers_of(registry)
        self._require_date(registry, listed_on)
        loading = self._begun(registry.key, listed_on)
        try:
            malformed = self._read_in(loading, lines, numbers, progress)
            replaced = self._take_over(loading, malformed, recorded, smaller=smaller)
        except BaseException:
            self._abandon(loading)
            raise
        self.clean(registry.key)
        return replaced

    def copies(self, reader: Reader) -> list[Copy]:
        """See `consent.do_not_call.DoNotCallLists.copies`."""
        rows = reader.execute(
            select(_list.registry, _list.listed_on, _list.numbers, _list.current_from)
            .where(_list.state == ListState.CURRENT)
            .order_by(_list.registry)
        )
        return [
            Copy(row.registry, date.fromisoformat(row.listed_on), row.numbers, row.current_from)
            for row in rows
        ]

    def clean(self, registry: str | None = None) -> int:
        """Remove the numbers of copies that are not used any more; how many. Safe to repeat."""
        gone = 0
        while True:
            with self._begin() as session:
                unused = session.execute(
                    select(_list.id)
                    .where(
                        _list.state.in_([ListState.PAST, ListState.ABANDONED]),
                        *([_list.registry == registry] if registry is not None else []),
                        exists().where(_number.list == _list.id),
                    )
                    .limit(1)
                ).scalar()
                if unused is None:
                    return gone
                some = select(_number.token).where(_number.list == unused).limit(self._batch)
                removed = session.execute(
                    delete(vault_dnc_number)
                    .where(_number.list == unused, _number.token.in_(some))
                    .returning(_number.since)
                )
                gone += len(removed.all())

    # --- inside --------------------------------------------------------------------------------

    def _require_date(self, registry: Registry, listed_on: date) -> None:
        now = self._clock()
        drawn_at = datetime.combine(listed_on, time(), UTC)
        if drawn_at > now:
            raise InvalidListError("the list would be drawn in the future (days begin in UTC)")
        if registry.maximum_age.after(drawn_at) <= now:
            raise InvalidListError(
                f"the list is too old to be of use: the law allows {registry.maximum_age.days} days"
            )

    def _begun(self, registry: str, listed_on: date) -> "_Loading":
        index = self._directory.index_of("phone")
        mine, day = str(uuid7()), listed_on.isoformat()
        with self._begin() as session:
            # Whoever began earlier is overtaken: of two imports at once, one becomes current.
            session.execute(
                update(vault_dnc_list)
                .where(_list.registry == registry, _list.state == ListState.LOADING)
                .values(state=ListState.ABANDONED)
            )
            before = session.execute(
                select(_list.id, _list.listed_on).where(
                    _list.registry == registry, _list.state == ListState.CURRENT
                )
            ).one_or_none()
            if before is not None and before.listed_on > day:
                raise InvalidListError(
                    f"the copy in use is newer: it was drawn on {before.listed_on}"
                )
            session.execute(
                insert(vault_dnc_list).values(
                    id=mine,
                    registry=registry,
                    state=ListState.LOADING,
                    listed_on=day,
                    index_version=index.version,
                    numbers=0,
                    begun_at=self._clock(),
                )
            )
        return _Loading(registry, mine, before.id if before is not None else None, day, index)

    def _read_in(
        self,
        loading: "_Loading",
        lines: Iterable[str],
        numbers: NationalNumbers,
        progress: Callable[[int], None],
    ) -> int:
        """Take in all lines, batch by batch. How many of them are no number."""
        read = malformed = 0
        for batch in _batches(_without_heading(lines, numbers), self._batch):
            found = [numbers.e164(line) for line in batch]
            malformed += found.count(None)
            read += len(batch)
            self._add(loading, {loading.index.token(one) for one in found if one is not None})
            progress(read)
        if malformed * MOST_MALFORMED > read:
            raise InvalidListError(
                f"{malformed} of {read} lines are no telephone number of the list's country; "
                "the copy in use stays"
            )
        return malformed

    def _add(self, loading: "_Loading", tokens: set[bytes]) -> None:
        ordered = sorted(tokens)
        with self._begin() as session:
            since: dict[bytes, str] = {}
            if loading.before is not None:
                rows = select_by_keys(session, _SELECT_SINCE, ordered, also=(loading.before,))
                since = dict(rows)
            bulk.upsert(
                session,
                vault_dnc_number,
                [(loading.id, token, since.get(token, loading.day)) for token in ordered],
                key=("list", "token"),
            )

    def _take_over(
        self,
        loading: "_Loading",
        malformed: int,
        recorded: Callable[[Session, Replaced], None],
        *,
        smaller: bool,
    ) -> Replaced:
        """Make the copy current, in one transaction with whatever records that."""
        with self._begin() as session:
            numbers = session.execute(
                select(func.count()).select_from(vault_dnc_number).where(_number.list == loading.id)
            ).scalar_one()
            held = session.execute(
                update(vault_dnc_list)
                .where(_list.id == loading.before, _list.state == ListState.CURRENT)
                .values(state=ListState.PAST)
                .returning(_list.numbers)
            ).scalar()
            mine = session.execute(
                update(vault_dnc_list)
                .where(_list.id == loading.id, _list.state == ListState.LOADING)
                .values(state=ListState.CURRENT, numbers=numbers, current_from=self._clock())
                .returning(_list.id)
            ).scalar()
            if mine is None:
                raise InvalidListError("another import of the same list began meanwhile")
            if not numbers:
                raise InvalidListError("there is no number in the file; the copy in use stays")
            if not smaller and numbers * LEAST_OF_BEFORE < (held or 0):
                raise InvalidListError(
                    f"the list has {numbers} numbers, and the copy in use {held}: was it cut off? "
                    "If it is whole, say that it may be smaller"
                )
            listed_on = date.fromisoformat(loading.day)
            replaced = Replaced(loading.registry, listed_on, numbers, held or 0, malformed)
            recorded(session, replaced)
        return replaced

    def _abandon(self, loading: "_Loading") -> None:
        """Best effort: what is left by a process that was killed, the next import abandons."""
        with suppress(DBAPIError, DatabaseError), self._begin() as session:
            session.execute(
                update(vault_dnc_list)
                .where(_list.id == loading.id, _list.state == ListState.LOADING)
                .values(state=ListState.ABANDONED)
            )


@dataclass(frozen=True, slots=True)
class _Loading:
    """A copy that is being read in."""

    registry: str
    id: str
    before: str | None
    """The id of the copy in use."""
    day: str
    index: BlindIndex


def _drawn(reader: Reader, registries: Sequence[str], as_of: datetime | None) -> dict[str, date]:
    """On which day the copies in use at an instant were drawn."""
    query = select(_list.registry, _list.listed_on).where(_list.registry.in_(registries))
    if as_of is None:
        query = query.where(_list.state == ListState.CURRENT)
    else:
        used = _list.state.in_([ListState.CURRENT, ListState.PAST])
        query = query.where(used, _list.current_from <= as_of).order_by(_list.current_from)
    return {registry: date.fromisoformat(day) for registry, day in reader.execute(query)}


def _compared(person: ColumnElement[Any], registry: ColumnElement[bool]) -> list[Any]:
    """Three scalars about one list: when it was drawn, since when a number of the person is on
    it, and 1 if every number of the person was made under the key of the list's. Nothing is bound
    but what the caller binds.
    """
    current = and_(registry, _list.state == literal_column(f"'{ListState.CURRENT}'"))
    numbers = and_(_identifier.subject_ref == person, _identifier.kind == literal_column("'phone'"))
    listed = (
        select(func.max(_number.since))
        .select_from(vault_identifier)
        .join(vault_dnc_list, current)
        .join(
            vault_dnc_number,
            and_(_number.list == _list.id, _number.token == _identifier.blind_index),
        )
        .where(numbers)
    )
    same = _identifier.index_version == _list.index_version
    same_key = case((same, literal_column("1", Integer)), else_=literal_column("0", Integer))
    compared = (
        select(func.min(same_key))
        .select_from(vault_identifier)
        .join(vault_dnc_list, current)
        .where(numbers)
    )
    return [
        select(_list.listed_on).where(current).scalar_subquery(),
        listed.scalar_subquery(),
        compared.scalar_subquery(),
    ]


def _numbers_of(registry: Registry) -> NationalNumbers:
    try:
        return NationalNumbers(registry.country)
    except ValueError as error:
        raise InvalidListError(str(error)) from error


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(lines)
    while batch := list(islice(iterator, size)):
        yield batch


def _without_heading(lines: Iterable[str], numbers: NationalNumbers) -> Iterator[str]:
    """The lines that should be numbers: not the empty ones, and not a first one that has words."""
    written = (line for line in lines if line.strip())
    first = next(written, "")
    if first and (numbers.e164(first) or not any(map(str.isalpha, first))):
        yield first
    yield from written


_SELECT_LISTED: Final = """
    SELECT i.subject_ref, l.registry, l.listed_on,
        CASE WHEN i.index_version = l.index_version THEN 1 ELSE 0 END, n.since
    FROM vault_identifier AS i
    JOIN vault_dnc_list AS l ON l.state = 'current'
    LEFT JOIN vault_dnc_number AS n ON n.list = l.id AND n.token = i.blind_index
    WHERE i.subject_ref {keys} AND i.kind = 'phone'
"""
"""Copies and their numbers in one statement: what is replaced meanwhile is seen as it was."""
_SELECT_SINCE: Final = (
    "SELECT token, since FROM vault_dnc_number WHERE token {keys} AND list = {mark}"
)
