"""Who is who in an export: e-mail addresses, record IDs and the like, joined into people.

What a row is about is called by its head, the address, or without one the first ID; the other IDs
(and a phone number) belong to the person of the one head that the file gives them. Where a file
gives them several, or where they already belong to two people, nobody is merged: a row then speaks
of more than one person, who all get its denials and none of its grants.

An address that is new joins the person of its record ID only if that person has no address yet:
consent was given for an address, and does not follow a contact to another one.

The result depends on the file and on what was known before, not on the order of the rows.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from consent.importer.statements import Statement
from consent.subject_changes import note_people
from consent.subjects import Identifier, Reader, SubjectDirectory, SubjectRef

Begin: TypeAlias = Callable[[], AbstractContextManager[Session]]
Read: TypeAlias = Callable[[], AbstractContextManager[Connection]]
_Known: TypeAlias = dict[Identifier, SubjectRef]


class Directory(SubjectDirectory, Protocol):
    """A directory that can also link many identifiers at once, and say what people are called."""

    def link_many(
        self, session: Session, pairs: Sequence[tuple[SubjectRef, Identifier]], now: datetime
    ) -> list[SubjectRef]:
        """`link` for many, in their order. The first pair to name a free identifier gets it."""

    def identifiers_of(
        self, reader: Reader, refs: Collection[SubjectRef]
    ) -> dict[SubjectRef, list[Identifier]]:
        """All identifiers of these people."""


@dataclass(slots=True)
class Identities:
    """What the whole file says of who is who. Fill it before anybody is looked up."""

    _others_of: dict[Identifier, tuple[Identifier, ...]] = field(default_factory=dict)
    _heads_of: dict[Identifier, tuple[Identifier, ...]] = field(default_factory=dict)

    def learn(self, statement: Statement) -> None:
        """Take in one row."""
        head, *others = statement.identifiers or (None,)
        for other in others:
            if head is not None and other is not None:
                _add(self._others_of, head, other)
                _add(self._heads_of, other, head)

    def own_records(self, head: Identifier) -> list[Identifier]:
        """The IDs that stand beside this head and no other."""
        return [
            other for other in self._others_of.get(head, ()) if self._heads_of[other] == (head,)
        ]

    def people_of(self, statement: Statement) -> tuple[Identifier, ...]:
        """All that the file calls those whom a row is about: one identifier each, or more."""
        if statement.email is not None:
            return statement.identifiers
        heads = (head for one in statement.records for head in self._heads_of.get(one, ()))
        return tuple(dict.fromkeys((*heads, *statement.records)))

    def alone(self, record: Identifier) -> bool:
        """Whether this ID is nobody's own in the file."""
        return len(self._heads_of.get(record, ())) != 1

    def is_shared(self, statement: Statement) -> bool:
        """Whether a row is about more than one person, by what the file says alone."""
        return any(len(self._heads_of.get(one, ())) > 1 for one in statement.records)


def _add(
    known: dict[Identifier, tuple[Identifier, ...]], one: Identifier, other: Identifier
) -> None:
    others = known.get(one, ())
    if other not in others:
        known[one] = (*others, other)


class People:
    """Finds, makes and links the people of an export."""

    def __init__(self, directory: Directory, begin: Begin, read: Read) -> None:
        self._directory = directory
        self._begin = begin
        self._read = read

    def resolve(
        self, statements: Iterable[Statement], identities: Identities, now: datetime, *, make: bool
    ) -> list[tuple[SubjectRef, ...]]:
        """The people whom each row is about, in the rows' order: several where it is ambiguous.

        With `make`, people who are unknown are made and identifiers linked. Without, they get a
        reference that leads nowhere, the same throughout the file.
        """
        named = [identities.people_of(statement) for statement in statements]
        everyone = list(dict.fromkeys(one for names in named for one in names))
        emails = [one for one in everyone if _is_email(one)]
        records = [one for one in everyone if not _is_email(one)]
        owned = {head: identities.own_records(head) for head in everyone}
        known = self._find([*everyone, *(one for own in owned.values() for one in own)])
        heirs = self._heirs(emails, owned, known)
        new = [email for email in emails if email not in known and email not in heirs]
        new += [one for one in records if one not in known and identities.alone(one)]
        known |= self._make(new, now) if make else {one: _nobody(one) for one in new}
        known |= heirs
        links = [(ref, email) for email, ref in heirs.items()]
        # Addresses first: an ID that is another's head may itself be an address's own.
        for heads in (emails, records):
            links += [
                (known[head], other)
                for head in heads
                for other in owned[head]
                if head in known and other not in known
            ]
            known |= self._link(links, now) if make else {one: ref for ref, one in links}
            links = []
        return [tuple(dict.fromkeys(known[one] for one in names)) for names in named]

    def find(self, identifiers: Iterable[Identifier]) -> dict[Identifier, SubjectRef]:
        """The people of these identifiers who are known."""
        return self._find(identifiers)

    def _heirs(
        self,
        emails: Sequence[Identifier],
        owned: dict[Identifier, list[Identifier]],
        known: _Known,
    ) -> _Known:
        """New addresses whose records are all one person's, who has no address yet."""
        owners = {
            email: {known[record] for record in owned[email] if record in known}
            for email in emails
            if email not in known
        }
        heirs = {email: refs.pop() for email, refs in owners.items() if len(refs) == 1}
        if not heirs:
            return {}
        with self._read() as reader:
            names = self._directory.identifiers_of(reader, set(heirs.values()))
        return {email: ref for email, ref in heirs.items() if not any(map(_is_email, names[ref]))}

    def _find(self, identifiers: Iterable[Identifier]) -> _Known:
        wanted = list(dict.fromkeys(identifiers))
        with self._read() as reader:
            found = self._directory.find(reader, wanted)
        return {one: ref for one, ref in zip(wanted, found, strict=True) if ref is not None}

    def _make(self, identifiers: list[Identifier], now: datetime) -> _Known:
        if not identifiers:
            return {}
        with self._begin() as session:
            refs = self._directory.ensure(session, identifiers, now)
            note_people(session, refs, now)
        return dict(zip(identifiers, refs, strict=True))

    def _link(self, pairs: list[tuple[SubjectRef, Identifier]], now: datetime) -> _Known:
        """In a unit of work of its own: each takes its locks in one order, both do not."""
        if not pairs:
            return {}
        with self._begin() as session:
            owners = self._directory.link_many(session, pairs, now)
        return {one: owner for (_, one), owner in zip(pairs, owners, strict=True)}


def _is_email(identifier: Identifier) -> bool:
    return identifier.kind == "email"


def _nobody(identifier: Identifier) -> SubjectRef:
    """Stands for a person whom a dry run does not make."""
    return SubjectRef(f"{identifier.kind} {identifier.value}")
