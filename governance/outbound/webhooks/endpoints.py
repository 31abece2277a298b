"""Endpoints: who is told of events, where, and with which secrets.

Guarantees: an address and its secrets are in the database only sealed, under a key of the
endpoint's own that is destroyed with it; a secret is shown once, when it is made; every act is in
the operator log, in the same transaction. Nothing here calls anybody.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, case, delete, func, insert, or_, select, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.errors import InvalidSubjectError
from consent.ledger.canonical import JSONValue
from consent.models import event, ledger
from consent.subjects import Reader, SubjectRef, external_id
from governance.audit.trail import Actor, Trail
from governance.database import Database
from governance.keys.envelope import Place
from governance.keys.keyring import Keyring
from governance.outbound.http import CallRefusedError
from governance.outbound.models import DeliveryState, EndpointState, delivery, endpoint
from governance.outbound.reach import Target
from governance.outbound.sealing import Sealer
from governance.outbound.webhooks.errors import (
    EndpointStateError,
    InvalidEndpointError,
    UnknownEndpointError,
)
from governance.outbound.webhooks.payload import Field
from governance.outbound.webhooks.signing import new_secret
from policies.model import PolicySet
from policies.vocabulary import EventType

OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=30)
DELIVERED_KEPT: Final = timedelta(days=7)
DELIVERED_SHOWN: Final = 1000
"""So many of the latest deliveries of an endpoint are kept."""
DEAD_KEPT: Final = timedelta(days=90)

_MAX_NAME: Final = 80
_PLACE: Final = Place("outbound_endpoint", "sealed")
_e = endpoint.c
_d = delivery.c


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint, without its address and secrets."""

    id: str
    name: str
    host: str
    purposes: frozenset[str]
    types: frozenset[str]
    fields: frozenset[str]
    system: str | None
    state: EndpointState
    reason: str | None
    cursor: int
    failures: int
    failing_since: datetime | None
    rests_until: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an endpoint is, and what signs for it."""

    url: str = field(repr=False)
    secrets: list[str] = field(repr=False)
    """Those in force, the newest first."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A secret that was just made. It cannot be shown again."""

    endpoint_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far an endpoint is behind."""

    unread: int
    """Places of the ledger that were not looked at yet."""
    waiting: int
    """Events that matched and were not taken yet."""
    since: datetime | None
    """Since when the one that waits longest has been waiting."""
    dead: int
    """Events that were given up."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One event on its way to an endpoint, as operators see it."""

    index: int
    event_id: str
    subject_ref: SubjectRef
    state: DeliveryState
    due_at: datetime | None
    under_way: bool
    attempts: int
    queued_at: datetime
    reason: str | None
    took_ms: int | None
    ended_at: datetime | None


class Endpoints:
    """Registers and administers endpoints. Each method that changes something is a unit of work."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        keyring: Keyring,
        check: Callable[[str], Target],
        policies: Callable[[], PolicySet],
    ) -> None:
        """Collaborators.

        Args:
            database: where endpoints are.
            trail: the operator log.
            clock: the present.
            keyring: seals addresses and secrets.
            check: whether a URL may be called at all; raises `CallRefusedError`.
            policies: the policy in force.
        """
        self._database = database
        self._trail = trail
        self._clock = clock
        self._sealer = Sealer(keyring, _PLACE)
        self._check = check
        self._policies = policies

    # --- changing ------------------------------------------------------------------------------

    def create(
        self,
        *,
        name: str,
        url: str,
        actor: Actor,
        purposes: Collection[str] = (),
        types: Collection[str] = (),
        fields: Collection[str] = (),
        system: str | None = None,
        start: int | None = None,
    ) -> Issued:
        """Register an endpoint.

        Args:
            name: what staff call it.
            url: where events are sent by POST. It may hold a secret of the receiver's.
            actor: who registers it.
            purposes: only events about these, and those about all; none means all.
            types: only events of these types; none means all.
            fields: what bodies say besides ids, of `payload.Field`.
            system: whose external ids the receiver may see; goes with that field, and only then.
            start: the first place of the ledger to tell of; None: only what is recorded from now.

        Raises:
            InvalidEndpointError: one of them is not acceptable; `field` says which.
        """
        name = name.strip()
        if not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
            raise InvalidEndpointError("name", f"a name has 1 to {_MAX_NAME} printable characters")
        try:
            target = self._check(url)
        except CallRefusedError as error:
            raise InvalidEndpointError("url", str(error)) from error
        _known("purposes", purposes, self._policies().purposes)
        _known("types", types, set(EventType))
        _known("fields", fields, set(Field))
        system = _system(system, Field.EXTERNAL_IDS in fields)
        now = self._clock()
        endpoint_id, secret = str(uuid7()), new_secret()
        content = {"url": url, "secrets": [{"secret": secret, "until": None}]}
        with self._database.begin() as session:
            size = _size(session)
            if start is not None and not 0 <= start <= size:
                raise InvalidEndpointError("start", f"the ledger has the places 0 to {size}")
            session.execute(
                insert(endpoint).values(
                    id=endpoint_id,
                    name=name,
                    host=target.authority,
                    sealed=self._sealer.seal(session, endpoint_id, endpoint_id, content, now),
                    purposes=_words(purposes),
                    types=_words(types),
                    fields=_words(fields),
                    system=system,
                    state=EndpointState.ACTIVE,
                    cursor=size if start is None else start,
                    failures=0,
                    created_at=now,
                    created_by=str(actor),
                )
            )
            details: dict[str, JSONValue] = {
                "host": target.authority,
                "fields": sorted(fields),
                "system": system,
            }
            self._record(session, "created", endpoint_id, actor, None, details)
        return Issued(endpoint_id, secret)

    def rotate(
        self, endpoint_id: str, *, actor: Actor, overlap: timedelta = OVERLAP, reason: str | None
    ) -> Issued:
        """Make a new secret; for `overlap` the one before signs as well, any older one no more.

        Raises:
            UnknownEndpointError: there is no such endpoint.
            InvalidEndpointError: the overlap is negative or longer than 30 days.
        """
        if not timedelta(0) <= overlap <= MAX_OVERLAP:
            raise InvalidEndpointError("overlap", "secrets overlap for at most 30 days")
        now = self._clock()
        secret = new_secret()
        with self._database.begin() as session:
            row = self._locked(session, endpoint_id)
            content = self._content(session, row)
            kept = [{"secret": content["secrets"][0]["secret"], "until": _iso(now + overlap)}]
            content["secrets"] = [{"secret": secret, "until": None}, *(kept if overlap else [])]
            sealed = self._sealer.seal(session, endpoint_id, endpoint_id, content, now)
            session.execute(update(endpoint).where(_e.id == endpoint_id).values(sealed=sealed))
            seconds = int(overlap.total_seconds())
            details: dict[str, JSONValue] = {"overlap_seconds": seconds}
            self._record(session, "rotated", endpoint_id, actor, reason, details)
        return Issued(endpoint_id, secret)

    def pause(self, endpoint_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Send it nothing more for now. Its cursor stays where it is.

        Raises:
            UnknownEndpointError, EndpointStateError: there is none, or it is not active.
        """
        with self._database.begin() as session:
            if self._locked(session, endpoint_id).state != EndpointState.ACTIVE:
                raise EndpointStateError("only an endpoint that is active can be paused")
            session.execute(
                update(endpoint)
                .where(_e.id == endpoint_id)
                .values(state=EndpointState.PAUSED, reason=None)
            )
            self._record(session, "paused", endpoint_id, actor, reason)

    def resume(self, endpoint_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Go on where it stopped, at once.

        Raises:
            UnknownEndpointError, EndpointStateError: there is none, or it is active already.
        """
        now = self._clock()
        with self._database.begin() as session:
            if self._locked(session, endpoint_id).state == EndpointState.ACTIVE:
                raise EndpointStateError("the endpoint is active already")
            session.execute(
                update(endpoint)
                .where(_e.id == endpoint_id)
                .values(
                    state=EndpointState.ACTIVE,
                    reason=None,
                    failures=0,
                    failing_since=None,
                    rests_until=None,
                )
            )
            hasten(session, endpoint_id, now)
            self._record(session, "resumed", endpoint_id, actor, reason)

    def replay(
        self, endpoint_id: str, start: int, *, actor: Actor, reason: str | None = None
    ) -> None:
        """Send everything from a place of the ledger on once more, under the ids it had.

        Raises:
            UnknownEndpointError: there is no such endpoint.
            InvalidEndpointError: the place is beyond what the endpoint has been told of.
        """
        with self._database.begin() as session:
            row = self._locked(session, endpoint_id)
            if not 0 <= start <= row.cursor:
                raise InvalidEndpointError(
                    "start", f"it has been told of the places 0 to {row.cursor}"
                )
            session.execute(update(endpoint).where(_e.id == endpoint_id).values(cursor=start))
            details: dict[str, JSONValue] = {"from": start, "to": row.cursor}
            self._record(session, "replayed", endpoint_id, actor, reason, details)

    def retry(
        self, endpoint_id: str, index: int, *, actor: Actor, reason: str | None = None
    ) -> None:
        """Try an event again that was given up.

        Raises:
            UnknownEndpointError: there is no such endpoint.
            EndpointStateError: the event was not given up.
        """
        now = self._clock()
        with self._database.begin() as session:
            self._locked(session, endpoint_id)
            again = session.execute(
                update(delivery)
                .where(
                    _d.endpoint_id == endpoint_id,
                    _d.idx == index,
                    _d.state == DeliveryState.DEAD,
                )
                .values(
                    state=DeliveryState.WAITING,
                    due_at=now,
                    attempts=0,
                    queued_at=now,
                    tried_at=None,
                    ended_at=None,
                )
                .returning(_d.idx)
            ).first()
            if again is None:
                raise EndpointStateError("this event was not given up, or is being tried already")
            self._record(session, "retried", endpoint_id, actor, reason, {"index": index})

    def remove(self, endpoint_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """End it for good. Its address and secrets are destroyed, what waits is dropped.

        Raises:
            UnknownEndpointError: there is no such endpoint.
        """
        with self._database.begin() as session:
            self._locked(session, endpoint_id)
            session.execute(
                update(endpoint)
                .where(_e.id == endpoint_id)
                .values(state=EndpointState.REMOVED, sealed=None)
            )
            session.execute(delete(delivery).where(_d.endpoint_id == endpoint_id))
            self._sealer.destroy(session, endpoint_id)
            self._record(session, "removed", endpoint_id, actor, reason)

    def _locked(self, session: Session, endpoint_id: str) -> Row[Any]:
        row = session.execute(
            select(endpoint)
            .where(_e.id == endpoint_id, _e.state != EndpointState.REMOVED)
            .with_for_update()
        ).one_or_none()
        if row is None:
            raise UnknownEndpointError("no endpoint has this id")
        return row

    def _content(self, reader: Reader, row: Row[Any]) -> dict[str, Any]:
        content = self._sealer.open(reader, row.id, row.id, row.sealed)
        if content is None:
            raise UnknownEndpointError("the endpoint's key was destroyed; make it anew")
        return content

    def _record(
        self,
        session: Session,
        verb: str,
        endpoint_id: str,
        actor: Actor,
        reason: str | None,
        details: Mapping[str, JSONValue] | None = None,
    ) -> None:
        self._trail.record(
            session,
            actor=actor,
            action=f"webhook.{verb}",
            object=f"webhook:{endpoint_id}",
            reason=reason,
            details=details,
            now=self._clock(),
        )

    # --- reading -------------------------------------------------------------------------------

    def all(self, reader: Reader) -> list[Endpoint]:
        """Every endpoint that was not removed, the newest first."""
        query = select(endpoint).where(_e.state != EndpointState.REMOVED)
        rows = reader.execute(query.order_by(_e.created_at.desc(), _e.id))
        return [endpoint_of(row) for row in rows]

    def get(self, reader: Reader, endpoint_id: str) -> Endpoint:
        """One endpoint.

        Raises:
            UnknownEndpointError: there is no such endpoint.
        """
        return endpoint_of(self._row(reader, endpoint_id))

    def destination(self, reader: Reader, endpoint_id: str) -> Destination:
        """Where it is, and the secrets in force. For delivery, and for whoever may manage it.

        Raises:
            UnknownEndpointError: there is no such endpoint.
            DecryptionError: the row was tampered with.
        """
        content = self._content(reader, self._row(reader, endpoint_id))
        now = self._clock()
        in_force = [
            one["secret"]
            for one in content["secrets"]
            if one["until"] is None or datetime.fromisoformat(one["until"]) > now
        ]
        return Destination(content["url"], in_force)

    def check(self, reader: Reader, endpoint_id: str) -> None:
        """Find out whether it may still be called, as far as can be said without looking it up.

        Raises:
            UnknownEndpointError: there is no such endpoint.
            CallRefusedError: it may not; the settings have changed since it was registered.
            DecryptionError: the row was tampered with.
        """
        self._check(self.destination(reader, endpoint_id).url)

    def lags(self, reader: Reader) -> dict[str, Lag]:
        """How far each endpoint is behind, by its id."""
        size = _size(reader)
        rows = reader.execute(
            select(
                _d.endpoint_id,
                func.count(_d.due_at).label("waiting"),
                func.min(case((_d.due_at.is_not(None), _d.queued_at))).label("since"),
                func.count(case((_d.state == DeliveryState.DEAD, 1))).label("dead"),
            ).group_by(_d.endpoint_id)
        ).all()
        found = {row.endpoint_id: row for row in rows}
        return {
            one.id: Lag(
                unread=max(0, size - one.cursor),
                waiting=found[one.id].waiting if one.id in found else 0,
                since=found[one.id].since if one.id in found else None,
                dead=found[one.id].dead if one.id in found else 0,
            )
            for one in self.all(reader)
        }

    def deliveries(
        self, reader: Reader, endpoint_id: str, state: DeliveryState, limit: int = 50
    ) -> list[Delivered]:
        """Events on their way: those that wait in their order, others the latest first."""
        order = (_d.idx,) if state is DeliveryState.WAITING else (_d.ended_at.desc(), _d.idx.desc())
        rows = reader.execute(
            select(delivery)
            .where(_d.endpoint_id == endpoint_id, _d.state == state)
            .order_by(*order)
            .limit(limit)
        )
        return [
            Delivered(
                index=row.idx,
                event_id=row.event_id,
                subject_ref=row.subject_ref,
                state=DeliveryState(row.state),
                due_at=row.due_at,
                under_way=row.owner is not None,
                attempts=row.attempts,
                queued_at=row.queued_at,
                reason=row.reason,
                took_ms=row.took_ms,
                ended_at=row.ended_at,
            )
            for row in rows
        ]

    def _row(self, reader: Reader, endpoint_id: str) -> Row[Any]:
        row = reader.execute(
            select(endpoint).where(_e.id == endpoint_id, _e.state != EndpointState.REMOVED)
        ).one_or_none()
        if row is None:
            raise UnknownEndpointError("no endpoint has this id")
        return row


def endpoint_of(row: Row[Any]) -> Endpoint:
    """The endpoint of a row."""
    return Endpoint(
        id=row.id,
        name=row.name,
        host=row.host,
        purposes=frozenset(row.purposes.split()),
        types=frozenset(row.types.split()),
        fields=frozenset(row.fields.split()),
        system=row.system,
        state=EndpointState(row.state),
        reason=row.reason,
        cursor=row.cursor,
        failures=row.failures,
        failing_since=row.failing_since,
        rests_until=row.rests_until,
        delivered_at=row.delivered_at,
        created_at=row.created_at,
        created_by=row.created_by,
    )


def hasten(session: Session, endpoint_id: str, now: datetime) -> None:
    """Let everything that waits for another attempt be due at once."""
    session.execute(
        update(delivery)
        .where(_d.endpoint_id == endpoint_id, _d.due_at > now, _d.owner.is_(None))
        .values(due_at=now)
    )


def first_since(reader: Reader, instant: datetime) -> int:
    """The place of the first event that was recorded at or after an instant.

    By bisection: times rise with places, but for events that were recorded within one commit.
    """
    low, high = 0, _size(reader)
    while low < high:
        middle = (low + high) // 2
        found = reader.execute(
            select(event.c.idx, event.c.recorded_at)
            .where(event.c.idx >= middle)
            .order_by(event.c.idx)
            .limit(1)
        ).first()
        if found is None or found.idx >= high or found.recorded_at >= instant:
            high = middle
        else:
            low = found.idx + 1
    return low


def remove_old(session: Session, now: datetime) -> int:
    """Delete what was delivered or given up long ago; returns how many rows.

    Of what was delivered, the latest thousand of an endpoint are kept for a week.
    """
    gone = len(
        session.execute(
            delete(delivery)
            .where(
                or_(
                    and_(_d.state == DeliveryState.DEAD, _d.ended_at < now - DEAD_KEPT),
                    and_(_d.state == DeliveryState.DELIVERED, _d.ended_at < now - DELIVERED_KEPT),
                )
            )
            .returning(_d.idx)
        ).all()
    )
    for endpoint_id in session.scalars(select(_e.id)).all():
        edge = session.scalar(
            select(_d.ended_at)
            .where(_d.endpoint_id == endpoint_id, _d.state == DeliveryState.DELIVERED)
            .order_by(_d.ended_at.desc())
            .offset(DELIVERED_SHOWN)
            .limit(1)
        )
        if edge is not None:
            gone += len(
                session.execute(
                    delete(delivery)
                    .where(
                        _d.endpoint_id == endpoint_id,
                        _d.state == DeliveryState.DELIVERED,
                        _d.ended_at <= edge,
                    )
                    .returning(_d.idx)
                ).all()
            )
    return gone


def _size(reader: Reader) -> int:
    return reader.execute(select(ledger.head.c.size)).scalar() or 0


def _words(words: Collection[str]) -> str:
    return " ".join(sorted(words))


def _known(name: str, given: Collection[str], known: Collection[str]) -> None:
    if not set(given) <= set(known):
        raise InvalidEndpointError(name, f"one of the {name} is not known here")


def _system(system: str | None, wanted: bool) -> str | None:
    if not wanted:
        if system:
            raise InvalidEndpointError("system", "a system goes with the field external_ids alone")
        return None
    try:
        return external_id(system or "", "1").system
    except InvalidSubjectError as error:
        raise InvalidEndpointError(
            "system", "external ids need the short name of their system, such as hubspot"
        ) from error


def _iso(instant: datetime) -> str:
    return instant.isoformat()
