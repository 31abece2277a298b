"""From an identifier to a person and back: consent's `SubjectDirectory`.

Guarantees: one identifier leads to one person, also when many writers meet it at once: the table's
primary key decides, the first transaction to commit wins and the others use its person. A
unit of work that rolls back leaves nothing. Look-ups are one statement however many there are.

Non-goals: guessing that two people are one (`link` reports a conflict, it merges nobody).

Format: `sealed` is the identifier under the person's key, bound to person and kind; the token of
what it opens to must be the row's own, so that no row can be put in another's place.
"""

import hmac
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, bindparam, select
from sqlalchemy.orm import Session, SessionTransaction

from consent import bulk
from consent.bulk import array_literal, select_by_keys
from consent.errors import UnknownSubjectError
from consent.subject_changes import note_people
from consent.subjects import Identifier, IdentifierKind, Reader, SubjectRef, new_subject_ref
from governance.errors import DecryptionError
from governance.keys.blind_index import BlindIndex
from governance.keys.envelope import PersonKey, Place, key_id
from governance.keys.keyring import JOIN_ACTIVE_KEY, KEY_COLUMNS, Keyring
from governance.vault.models import vault_identifier, vault_person
from governance.vault.tokens import Tokens

_PLACE: Final = Place("vault_identifier", "sealed")

_Owners: TypeAlias = dict[bytes | str, SubjectRef]
"""Whom a token, or a reference itself, leads to."""


@dataclass(frozen=True, slots=True)
class _New:
    """An identifier that is about to be written, and the person it shall lead to."""

    token: bytes
    identifier: Identifier
    ref: SubjectRef


@dataclass(slots=True)
class _Unit:
    """What one transaction wrote. Held by its session and gone with it."""

    transaction: weakref.ref[SessionTransaction]
    named: dict[SubjectRef, Identifier] = field(default_factory=dict)


class Directory:
    """Knows who is who, through a prepared keyring. Shared by threads."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._tokens = Tokens(keyring, "vault_identifier", "blind_index")

    # --- looking up ----------------------------------------------------------------------------

    def locator(self, kind: IdentifierKind) -> ColumnElement[str | None]:
        """A scalar SQL expression over the binds of `locator_values`: the ref, or NULL.

        With it a check is one statement, which can be built and compiled once.
        """
        if kind == "ref":
            person = select(vault_person.c.ref)
            return person.where(vault_person.c.ref == bindparam("subject_0")).scalar_subquery()
        owner = select(vault_identifier.c.subject_ref)
        column = vault_identifier.c.blind_index
        count = len(self._tokens.indexes(kind))
        if count == 1:
            return owner.where(column == bindparam("subject_0")).scalar_subquery()
        names = [bindparam(f"subject_{number}", type_=column.type) for number in range(count)]
        return owner.where(column.in_(names)).limit(1).scalar_subquery()

    def locator_values(self, identifier: Identifier) -> dict[str, bytes | str]:
        """What to bind in a statement that has the `locator` of the identifier's kind.

        Raises:
            InvalidSubjectError: the identifier is malformed.
        """
        if identifier.kind == "ref":
            return {"subject_0": identifier.value}
        return {
            f"subject_{number}": token for number, token in enumerate(self._tokens.of(identifier))
        }

    def find(self, reader: Reader, identifiers: Sequence[Identifier]) -> list[SubjectRef | None]:
        """The refs of many identifiers, in their order; None for the unknown."""
        keys = [self._keys(identifier) for identifier in identifiers]
        owners = self._owners(reader, keys)
        return [_first(owners, candidates) for candidates in keys]

    def identifiers_of(
        self, reader: Reader, refs: Collection[SubjectRef]
    ) -> dict[SubjectRef, list[Identifier]]:
        """The identifiers of people, opened, the oldest first. `mask` them before they are shown.

        People without any, and those whose key was destroyed, have an empty list.

        Raises:
            DecryptionError: a row was changed or moved.
        """
        found: dict[SubjectRef, list[Identifier]] = {ref: [] for ref in refs}
        rows = select_by_keys(reader, _SELECT_SEALED, list(found))
        keys = self._keyring.by_id(reader, [key_id(sealed) for _, _, sealed, *_ in rows])
        for ref, kind, sealed, token, _ in sorted(rows, key=lambda row: (row[4], row[3])):
            key = keys.get(key_id(sealed))
            if key is not None:
                identifier = open_identifier(key, sealed, ref, kind)
                if not any(hmac.compare_digest(own, token) for own in self._tokens.of(identifier)):
                    raise DecryptionError
                found[ref].append(identifier)
        return found

    # --- making --------------------------------------------------------------------------------

    def ensure(
        self, session: Session, identifiers: Sequence[Identifier], now: datetime
    ) -> list[SubjectRef]:
        """The refs of many identifiers, in their order, making people who were unknown.

        Call it once a unit of work, with all its identifiers: it takes its locks in one order,
        so that two writers cannot wait for each other.

        Raises:
            UnknownSubjectError: an identifier of kind `ref` names nobody.
        """
        keys = [self._keys(identifier) for identifier in identifiers]
        owners = self._owners_to_write_to(session, keys)
        new: dict[bytes, _New] = {}
        for identifier, candidates in zip(identifiers, keys, strict=True):
            if _first(owners, candidates) is None:
                token = candidates[0]
                if not isinstance(token, bytes):
                    raise UnknownSubjectError("the subject ref names nobody")
                new.setdefault(token, _New(token, identifier, new_subject_ref()))
        owners |= self._make_people(session, list(new.values()), now)
        return [_known(owners, candidates) for candidates in keys]

    def link(
        self, session: Session, ref: SubjectRef, identifier: Identifier, now: datetime
    ) -> SubjectRef:
        """Give a person one more identifier. Returns its owner: another person if it was taken."""
        return self.link_many(session, [(ref, identifier)], now)[0]

    def link_many(
        self, session: Session, pairs: Sequence[tuple[SubjectRef, Identifier]], now: datetime
    ) -> list[SubjectRef]:
        """`link` for many, in their order. The first pair to name a free identifier gets it.

        Call it as the last thing of a unit of work that may wait: who follows the people
        (`consent.subject_changes`) is told, under the ledger's lock.

        Raises:
            UnknownSubjectError: a ref names nobody; or an identifier is of kind `ref`, which
                cannot be given to anybody.
        """
        keys = [self._keys(identifier) for _, identifier in pairs]
        people = dict.fromkeys(ref for ref, _ in pairs)
        owners = self._owners(session, [*keys, list(people)])
        if not owners.keys() >= people.keys():
            raise UnknownSubjectError("the subject ref names nobody")
        new: dict[bytes, _New] = {}
        for (ref, identifier), candidates in zip(pairs, keys, strict=True):
            token = candidates[0]
            if not isinstance(token, bytes):
                raise UnknownSubjectError("a subject ref cannot be linked to a person")
            if _first(owners, candidates) is None:
                new.setdefault(token, _New(token, identifier, ref))
        if new:
            held = self._keyring.active(session, {item.ref for item in new.values()}, now)
            owners |= self._write(session, list(new.values()), held, now)
            note_people(session, {item.ref for item in new.values()}, now)
        return [_known(owners, candidates) for candidates in keys]

    def _make_people(self, session: Session, new: Sequence[_New], now: datetime) -> _Owners:
        if not new:
            return {}
        # The key first, in memory: it seals the identifier, whose row decides who the person is.
        made = self._keyring.make(session, [item.ref for item in new], now)
        owners = self._write(session, new, {item.key.subject: item.key for item in made}, now)
        winners = set(owners.values())
        people = [(item.key.subject, now) for item in made if item.key.subject in winners]
        bulk.insert(session, vault_person, people)
        self._keyring.keep(session, [item for item in made if item.key.subject in winners], now)
        return owners

    def _write(
        self,
        session: Session,
        new: Sequence[_New],
        keys: dict[SubjectRef, PersonKey],
        now: datetime,
    ) -> _Owners:
        """Insert identifiers where nobody else has; the owners of all of them."""
        owners: _Owners = {}
        pending = sorted(new, key=lambda item: item.token)
        while pending:
            rows = [
                (
                    item.token,
                    item.ref,
                    item.identifier.kind,
                    _PLACE.seal(keys[item.ref], _content(item.identifier), item.identifier.kind),
                    self.index_of(item.identifier.kind).version,
                    now,
                )
                for item in pending
            ]
            written = _insert(session, rows)
            _unit(session).named |= {
                item.ref: item.identifier for item in pending if item.token in written
            }
            owners |= {item.token: item.ref for item in pending if item.token in written}
            beaten = [item for item in pending if item.token not in written]
            owners |= self._owners(session, [[item.token] for item in beaten])
            # Nothing is left, unless the other's row was erased since it stopped ours.
            pending = [item for item in beaten if item.token not in owners]
        return owners

    def newly_named(self, session: Session) -> Mapping[SubjectRef, Identifier]:
        """See `SubjectDirectory.newly_named`."""
        unit = _unit(session)
        named, unit.named = unit.named, {}
        return named

    # --- tokens ----------------------------------------------------------------------------------

    def _owners(self, reader: Reader, keys: Iterable[Sequence[bytes | str]]) -> _Owners:
        tokens, refs = _parted(keys)
        owners: _Owners = dict(_pairs(select_by_keys(reader, _SELECT_OWNER, tokens)))
        return owners | dict(_pairs(select_by_keys(reader, _SELECT_PERSON, refs)))

    def _owners_to_write_to(
        self, session: Session, keys: Iterable[Sequence[bytes | str]]
    ) -> _Owners:
        """The same, with their keys on the way: something will be sealed under them."""
        tokens, refs = _parted(keys)
        rows = select_by_keys(session, _SELECT_OWNER_AND_KEY, tokens)
        rows += select_by_keys(session, _SELECT_PERSON_AND_KEY, refs)
        self._keyring.foresee(session, [row[2:] for row in rows if row[2] is not None])
        return dict(_pairs(rows))

    def index_of(self, kind: IdentifierKind) -> BlindIndex:
        """The index under which identifiers of a kind are written now."""
        return self._tokens.indexes(kind)[0]

    def _keys(self, identifier: Identifier) -> Sequence[bytes | str]:
        return [identifier.value] if identifier.kind == "ref" else self._tokens.of(identifier)


def mask(identifier: Identifier) -> str:
    """What may be shown of an identifier: enough to recognise one's own, too little to use."""
    value = identifier.value
    match identifier.kind:
        case "email":
            name, _, domain = value.rpartition("@")
            host, _, top = domain.rpartition(".")
            first = name[0] if len(name) > 1 else ""
            return f"{first}•••@{host[:1]}•••.{top}"
        case "phone":
            return f"+•••{value[-2:]}"
        case "external_id":
            return f"{identifier.system}:•••{value[-2:] if len(value) > 5 else ''}"
        case "ref":
            # Random: it names nobody outside this service.
            return value


_UNIT: Final = "tutela.directory"


def _unit(session: Session) -> _Unit:
    unit = session.info.get(_UNIT)
    transaction = session.get_transaction() or session.begin()
    if not isinstance(unit, _Unit) or unit.transaction() is not transaction:
        unit = session.info[_UNIT] = _Unit(weakref.ref(transaction))
    return unit


def _content(identifier: Identifier) -> str | list[str]:
    return identifier.value if identifier.system is None else [identifier.system, identifier.value]


def open_identifier(
    key: PersonKey, sealed: bytes, ref: SubjectRef, kind: IdentifierKind
) -> Identifier:
    """The identifier of a row, under its person's key.

    Raises:
        DecryptionError: the row was changed or moved.
    """
    match _PLACE.open(key, sealed, ref, kind):
        case str(value):
            return Identifier(kind, value)
        case [str(system), str(value)]:
            return Identifier(kind, value, system)
        case _:
            raise DecryptionError


def _parted(keys: Iterable[Sequence[bytes | str]]) -> tuple[list[bytes], list[str]]:
    """Tokens and references, apart."""
    tokens: list[bytes] = []
    refs: list[str] = []
    for candidates in keys:
        for key in candidates:
            if isinstance(key, bytes):
                tokens.append(key)
            else:
                refs.append(key)
    return tokens, refs


def _pairs(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[bytes | str, SubjectRef]]:
    return ((row[0], row[1]) for row in rows)


def _first(owners: _Owners, candidates: Sequence[bytes | str]) -> SubjectRef | None:
    for key in candidates:
        if key in owners:
            return owners[key]
    return None


def _known(owners: _Owners, candidates: Sequence[bytes | str]) -> SubjectRef:
    return next(owners[key] for key in candidates if key in owners)


# --- statements --------------------------------------------------------------------------------

_SELECT_OWNER: Final = (
    "SELECT blind_index, subject_ref FROM vault_identifier WHERE blind_index {keys}"
)
_SELECT_PERSON: Final = "SELECT ref, ref FROM vault_person WHERE ref {keys}"
_SELECT_OWNER_AND_KEY: Final = (
    f"SELECT i.blind_index, i.subject_ref, {KEY_COLUMNS} "  # noqa: S608 - constants alone
    f"FROM vault_identifier AS i {JOIN_ACTIVE_KEY.format(subject_ref='i.subject_ref')} "
    "WHERE i.blind_index {keys}"
)
_SELECT_PERSON_AND_KEY: Final = (
    f"SELECT p.ref, p.ref, {KEY_COLUMNS} "  # noqa: S608 - constants alone
    f"FROM vault_person AS p {JOIN_ACTIVE_KEY.format(subject_ref='p.ref')} WHERE p.ref {{keys}}"
)
_SELECT_SEALED: Final = (
    "SELECT subject_ref, kind, sealed, blind_index, created_at "
    "FROM vault_identifier WHERE subject_ref {keys}"
)
_INSERT_ARRAYS: Final = """
    INSERT INTO vault_identifier
        (blind_index, subject_ref, kind, sealed, index_version, created_at)
    SELECT blind_index, subject_ref, kind, sealed, index_version, %s
    FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::bytea[], %s::integer[])
        AS new (blind_index, subject_ref, kind, sealed, index_version)
    ON CONFLICT DO NOTHING
    RETURNING blind_index
"""

_Row: TypeAlias = tuple[bytes, SubjectRef, IdentifierKind, bytes, int, datetime]


def _insert(session: Session, rows: Sequence[_Row]) -> set[bytes]:
    """Insert those rows whose token is free, in their order. The tokens that were."""
    if session.get_bind().dialect.name == "sqlite":
        # Nobody else writes during a unit of work, and the tokens were looked up in it.
        bulk.insert(session, vault_identifier, rows)
        return {row[0] for row in rows}
    tokens, refs, kinds, sealed, versions, times = (
        list(column) for column in zip(*rows, strict=True)
    )
    inserted = session.connection().exec_driver_sql(
        _INSERT_ARRAYS,
        (
            times[0],
            array_literal(tokens),
            array_literal(refs),
            array_literal(kinds),
            array_literal(sealed),
            versions,
        ),
    )
    return {row[0] for row in inserted.fetchall()}
