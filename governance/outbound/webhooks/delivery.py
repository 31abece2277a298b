"""Hands events to endpoints: nothing lost, nothing skipped, in order for each person.

An event goes two steps. *Feeding* reads the change feed from an endpoint's cursor and writes a row
for each event that the endpoint is told of, in one transaction with the new cursor. *Attempts*
claim such a row under a lease, send it outside any transaction, and write down what came of it.
So a node may die anywhere: what it fed is fed, and what it was sending is sent again, under the
same `webhook-id`, by whoever takes it when the lease has ended.

Guarantees, on any number of nodes:
- at least once: an event waits until the endpoint answered 2xx, or was given up visibly;
- in order for each person: of a person's events only the first that waits is sent. If it fails,
  that person's later events wait and others pass. (A node that was stopped for longer than a
  lease may deliver late: bodies carry the event's index, which rises.)
- an endpoint that fails as a whole is tried ever more rarely, loses nothing, and is disabled after
  five days or when it says 410 Gone. Nothing is given up while an endpoint takes nothing at all.
- one endpoint that is slow does not hold up others.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.ledger.leaf import timestamp
from consent.models import ledger
from consent.outbox import Change, change_at, read_changes
from consent.subjects import Reader
from governance.audit.trail import SYSTEM, Trail
from governance.database import Database
from governance.errors import DecryptionError
from governance.outbound.backoff import delay
from governance.outbound.http import Answer, CallFailedError, CallRefusedError, HttpClient
from governance.outbound.models import DeliveryState, EndpointState, delivery, endpoint
from governance.outbound.people import AddressBook
from governance.outbound.webhooks.endpoints import Destination, Endpoint, Endpoints, hasten
from governance.outbound.webhooks.errors import UnknownEndpointError
from governance.outbound.webhooks.payload import body_of, concerns, test_body
from governance.outbound.webhooks.signing import signed_headers

LEASE: Final = timedelta(minutes=2)
GIVE_UP_AFTER: Final = timedelta(days=3)
DISABLE_AFTER: Final = timedelta(days=5)
FEED_AT_ONCE: Final = 500
MOST_WAITING: Final = 10_000
"""An endpoint that has so many waiting is fed no more until some were taken."""

_FIRST_WAIT: Final = timedelta(seconds=5)
_LONGEST_WAIT: Final = timedelta(hours=6)
_LONGEST_REST: Final = timedelta(minutes=15)
_LONGEST_ASKED: Final = timedelta(hours=1)
_FAILURES_BEFORE_REST: Final = 3
_NOTED_EVERY: Final = timedelta(seconds=10)
_DICE: Final = secrets.SystemRandom().random
_e = endpoint.c
_d = delivery.c

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt."""

    reason: str | None
    """None if it was taken; else a code that is safe to show."""
    took_ms: int
    retry_after: timedelta | None = None

    @property
    def gone(self) -> bool:
        """Whether the receiver wants to hear nothing more."""
        return self.reason == "HTTP_410"


class WebhookDelivery:
    """Makes deliveries; shared by threads. Any number of nodes may do so at once."""

    def __init__(
        self,
        database: Database,
        endpoints: Endpoints,
        people: AddressBook,
        client: HttpClient,
        trail: Trail,
        clock: Callable[[], datetime],
        *,
        user_agent: str = "Tutela",
        lease: timedelta = LEASE,
        at_once: int = 2,
        dice: Callable[[], float] = _DICE,
    ) -> None:
        """Collaborators and measures.

        Args:
            database: where events, endpoints and deliveries are.
            endpoints: knows addresses and secrets.
            people: knows the ids that other systems gave people.
            client: makes the calls; must take less time than a lease.
            trail: the operator log.
            clock: the present.
            user_agent: what we call ourselves to receivers.
            lease: after how long without a result another node may send an event again.
            at_once: so many attempts at a time at one endpoint, from this process.
            dice: a random number from 0 to 1, to spread attempts.
        """
        self._database = database
        self._endpoints = endpoints
        self._people = people
        self._client = client
        self._trail = trail
        self._clock = clock
        self._user_agent = user_agent
        self._lease = lease
        self._at_once = at_once
        self._dice = dice
        self._node: Final = f"node-{secrets.token_hex(6)}"
        self._lock = threading.Lock()
        self._busy: Counter[str] = Counter()
        self._served: dict[str, float] = {}

    def deliver_next(self) -> bool:
        """Feed one endpoint that is behind, and make one attempt that is due; False if neither."""
        fed = self._feed_next()
        return self._attempt_next() or fed

    def try_out(self, endpoint_id: str) -> Outcome:
        """Send a test event now, whatever the endpoint's state; it is not repeated.

        Raises:
            UnknownEndpointError: there is no such endpoint.
        """
        with self._database.read() as reader:
            try:
                destination = self._endpoints.destination(reader, endpoint_id)
            except DecryptionError:
                return Outcome("UNREADABLE", 0)
        body = test_body(timestamp(self._clock()))
        return self._call(destination, f"test_{uuid7()}", body)

    # --- feeding -------------------------------------------------------------------------------

    def _feed_next(self) -> bool:
        with self._database.read() as reader:
            # Asked first, as a feed takes a write lock on SQLite.
            behind = reader.execute(_BEHIND).scalars().all()
        return any(self._feed(endpoint_id) for endpoint_id in behind)

    def _feed(self, endpoint_id: str) -> bool:
        now = self._clock()
        with self._database.begin() as session:
            # In this order: an event below the size that was read is seen by what reads events
            # after it, and places without one are those of erased people.
            row = session.execute(
                select(endpoint)
                .where(_e.id == endpoint_id, _e.state == EndpointState.ACTIVE)
                .with_for_update(skip_locked=True)
            ).one_or_none()
            size = session.execute(select(ledger.head.c.size)).scalar() or 0
            if row is None or row.cursor >= size or _is_full(session, endpoint_id):
                return False
            page = read_changes(session, str(row.cursor), FEED_AT_ONCE)
            purposes, types = row.purposes.split(), row.types.split()
            told = [one for one in page.changes if concerns(one, purposes, types)]
            if told:
                _queue(session, endpoint_id, told, now)
            cursor = int(page.cursor) if page.more else max(int(page.cursor), size)
            session.execute(update(endpoint).where(_e.id == endpoint_id).values(cursor=cursor))
        return True

    # --- attempts ------------------------------------------------------------------------------

    def _attempt_next(self) -> bool:
        with self._database.read() as reader:
            waiting = reader.execute(_due_endpoints(self._clock())).all()
        for one in self._fairly(waiting):
            with self._seat(one.id, 1 if one.failures else self._at_once) as seated:
                if not seated:
                    continue
                claimed = self._claim(one.id)
                if claimed is not None:
                    self._attempt(claimed)
                    return True
        return False

    def _fairly(self, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
        """Whoever was served longest ago first."""
        with self._lock:
            return sorted(rows, key=lambda row: self._served.get(row.id, 0.0))

    @contextmanager
    def _seat(self, endpoint_id: str, seats: int) -> Iterator[bool]:
        with self._lock:
            seated = self._busy[endpoint_id] < seats
            if seated:
                self._busy[endpoint_id] += 1
                self._served[endpoint_id] = time.monotonic()
        try:
            yield seated
        finally:
            if seated:
                with self._lock:
                    self._busy[endpoint_id] -= 1

    def _claim(self, endpoint_id: str) -> Row[Any] | None:
        now = self._clock()
        next_one = _next_of(endpoint_id, now)
        with self._database.read() as reader:
            if reader.execute(next_one).first() is None:
                return None
        with self._database.begin() as session:
            index = session.execute(
                next_one.with_for_update(skip_locked=True, of=delivery)
            ).scalar()
            return session.execute(
                update(delivery)
                .where(_d.endpoint_id == endpoint_id, _d.idx == index)
                .values(
                    owner=self._node,
                    attempts=_d.attempts + 1,
                    due_at=now + self._lease,
                    tried_at=func.coalesce(_d.tried_at, literal(now, _d.tried_at.type)),
                )
                .returning(delivery)
            ).one_or_none()

    def _attempt(self, row: Row[Any]) -> None:
        with self._database.read() as reader:
            change = change_at(reader, row.idx)
            if change is None or change.id != row.event_id:
                self._drop(row)
                return
            try:
                told = self._endpoints.get(reader, row.endpoint_id)
            except UnknownEndpointError:
                return  # removed meanwhile, and its deliveries with it
            try:
                destination = self._endpoints.destination(reader, row.endpoint_id)
                ids = self._external_ids(reader, change, told.system)
            except (DecryptionError, UnknownEndpointError):
                self._note(row, told, Outcome("UNREADABLE", 0))
                return
        body = body_of(change, told.fields, told.system, ids)
        self._note(row, told, self._call(destination, change.id, body))

    def _external_ids(self, reader: Reader, change: Change, system: str | None) -> list[str]:
        if system is None:
            return []
        held = self._people.identifiers_of(reader, [change.subject])[change.subject]
        return [one.value for one in held if (one.kind, one.system) == ("external_id", system)]

    def _call(self, destination: Destination, message_id: str, body: bytes) -> Outcome:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._user_agent,
            **signed_headers(message_id, self._clock(), body, destination.secrets),
        }
        began = time.monotonic()
        answer: Answer | None = None
        try:
            answer = self._client.send("POST", destination.url, headers, body)
            reason = _reason_of(answer)
        except (CallRefusedError, CallFailedError) as error:
            reason = error.reason
        took = int((time.monotonic() - began) * 1000)
        return Outcome(reason, took, _retry_after(answer))

    # --- what came of it -----------------------------------------------------------------------

    def _note(self, row: Row[Any], told: Endpoint, outcome: Outcome) -> None:
        now = self._clock()
        if outcome.reason is None and not told.failures and _is_recent(told.delivered_at, now):
            # Nothing to say of the endpoint: many threads need not queue for its row.
            with self._database.begin() as session:
                _write(session, row, outcome, {"state": DeliveryState.DELIVERED}, now)
            return
        with self._database.begin() as session:
            # The endpoint first, as everybody does who locks both.
            locked = session.execute(
                select(endpoint).where(_e.id == row.endpoint_id).with_for_update()
            ).one()
            if outcome.reason is None:
                values: dict[str, Any] = {"state": DeliveryState.DELIVERED}
            elif _is_hopeless(row, locked, now):
                values = {"state": DeliveryState.DEAD}
            else:
                wait = delay(row.attempts, _FIRST_WAIT, _LONGEST_WAIT, self._dice())
                values = {"due_at": now + wait}
            if _write(session, row, outcome, values, now):
                if outcome.reason is None:
                    self._note_success(session, locked, now)
                else:
                    self._note_failure(session, locked, outcome, now)

    def _note_success(self, session: Session, told: Row[Any], now: datetime) -> None:
        self._change(
            session, told, delivered_at=now, failures=0, failing_since=None, rests_until=None
        )
        if told.failures >= _FAILURES_BEFORE_REST:
            # It is back: what waits because of its absence need not wait any longer.
            hasten(session, told.id, now)

    def _note_failure(
        self, session: Session, told: Row[Any], outcome: Outcome, now: datetime
    ) -> None:
        failures = told.failures + 1
        since = told.failing_since or now
        rests = outcome.retry_after or timedelta(0)
        if failures >= _FAILURES_BEFORE_REST:
            many = failures - _FAILURES_BEFORE_REST + 1
            rests = max(rests, delay(many, _FIRST_WAIT, _LONGEST_REST, self._dice()))
        rests_until = now + rests if rests else None
        self._change(session, told, failures=failures, failing_since=since, rests_until=rests_until)
        why = "GONE" if outcome.gone else "FAILING" if now - since >= DISABLE_AFTER else None
        if why is not None and told.state == EndpointState.ACTIVE:
            self._change(session, told, state=EndpointState.DISABLED, reason=why)
            self._trail.record(
                session,
                actor=SYSTEM,
                action="webhook.disabled",
                object=f"webhook:{told.id}",
                details={"why": why},
                now=now,
            )

    def _change(self, session: Session, told: Row[Any], **values: Any) -> None:
        session.execute(update(endpoint).where(_e.id == told.id).values(**values))

    def _drop(self, row: Row[Any]) -> None:
        """The event is gone: its person was erased."""
        with self._database.begin() as session:
            session.execute(delete(delivery).where(_held(row)))


def _write(
    session: Session, row: Row[Any], outcome: Outcome, values: dict[str, Any], now: datetime
) -> bool:
    """Note what came of an attempt; False if the event is somebody else's by now."""
    ended = {} if "due_at" in values else {"due_at": None, "ended_at": now}
    noted = session.execute(
        update(delivery)
        .where(_held(row))
        .values(owner=None, reason=outcome.reason, took_ms=outcome.took_ms, **ended, **values)
        .returning(_d.idx)
    ).first()
    if outcome.reason is not None:
        _log.info(
            "webhook not delivered",
            reference=row.endpoint_id,
            event_id=row.event_id,
            attempt=row.attempts,
            outcome=outcome.reason,
            duration_ms=outcome.took_ms,
        )
    return noted is not None


def _held(row: Row[Any]) -> ColumnElement[bool]:
    """Whether the row is still this attempt's."""
    return and_(
        _d.endpoint_id == row.endpoint_id,
        _d.idx == row.idx,
        _d.owner == row.owner,
        _d.attempts == row.attempts,
    )


def _is_recent(delivered_at: datetime | None, now: datetime) -> bool:
    return delivered_at is not None and delivered_at > now - _NOTED_EVERY


def _is_hopeless(row: Row[Any], told: Row[Any], now: datetime) -> bool:
    """Whether this event kept failing for days while the endpoint took others."""
    if now - row.tried_at < GIVE_UP_AFTER:
        return False
    return told.delivered_at is not None and told.delivered_at > row.tried_at


def _reason_of(answer: Answer) -> str | None:
    if 200 <= answer.status < 300:
        return None
    return f"HTTP_{answer.status}"


def _retry_after(answer: Answer | None) -> timedelta | None:
    """How long the receiver asks to be left alone (RFC 9110, section 10.2.3), within reason."""
    if answer is None or answer.status not in (429, 503):
        return None
    asked = answer.headers.get("retry-after", "")
    if not (asked.isascii() and asked.isdecimal() and len(asked) <= 9):
        return None
    return min(timedelta(seconds=int(asked)), _LONGEST_ASKED)


# --- statements --------------------------------------------------------------------------------

_BEHIND: Final = (
    select(_e.id)
    .where(
        _e.state == EndpointState.ACTIVE,
        _e.cursor < func.coalesce(select(ledger.head.c.size).scalar_subquery(), 0),
    )
    .order_by(_e.id)
)


def _due_endpoints(now: datetime) -> Select[Any]:
    due = exists().where(_d.endpoint_id == _e.id, _d.due_at <= now)
    return select(_e.id, _e.failures).where(
        _e.state == EndpointState.ACTIVE,
        or_(_e.rests_until.is_(None), _e.rests_until <= now),
        due,
    )


def _next_of(endpoint_id: str, now: datetime) -> Select[Any]:
    """The event that is due longest, of those that are the first of their person to wait."""
    before = delivery.alias()
    earlier = exists().where(
        before.c.endpoint_id == _d.endpoint_id,
        before.c.subject_ref == _d.subject_ref,
        before.c.idx < _d.idx,
        before.c.due_at.is_not(None),
    )
    return (
        select(_d.idx)
        .where(_d.endpoint_id == endpoint_id, _d.due_at <= now, ~earlier)
        .order_by(_d.due_at, _d.idx)
        .limit(1)
    )


def _is_full(session: Session, endpoint_id: str) -> bool:
    edge = select(_d.idx).where(_d.endpoint_id == endpoint_id, _d.due_at.is_not(None))
    return session.execute(edge.offset(MOST_WAITING - 1).limit(1)).first() is not None


def _queue(session: Session, endpoint_id: str, changes: Sequence[Change], now: datetime) -> None:
    """Let events wait. One that was delivered or given up waits anew; one that waits is left."""
    on_sqlite = session.get_bind().dialect.name == "sqlite"
    statement = sqlite.insert(delivery) if on_sqlite else postgresql.insert(delivery)
    again = {
        "state": DeliveryState.WAITING,
        "due_at": now,
        "attempts": 0,
        "queued_at": now,
        "tried_at": None,
        "reason": None,
        "ended_at": None,
    }
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[_d.endpoint_id, _d.idx], set_=again, where=_d.due_at.is_(None)
        ),
        [
            {
                "endpoint_id": endpoint_id,
                "idx": change.index,
                "event_id": change.id,
                "subject_ref": change.subject,
                "state": DeliveryState.WAITING,
                "due_at": now,
                "attempts": 0,
                "queued_at": now,
            }
            for change in changes
        ],
    )
