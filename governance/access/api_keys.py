"""API keys: `tutela_<id>_<secret>`, for programs.

Guarantees: a key is shown once; the table has the SHA-256 of its secret, which is enough as the
secret is 256 random bits: there is nothing to guess that a slow hash could protect. A revoked
key is refused at once in the process that revoked it and within a second in every other; an
expired key is refused at its instant. Each change is in the operator log.

Every check of consent passes here, so a key that was found good is remembered for a second, by
the digest of the header it came in. What was found bad is not remembered: it costs one query.

Trust: an entry of that memory lets its key in. Whoever can write to it owns the process already.
"""

import hmac
import secrets
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import structlog
from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from consent.subjects import Reader
from governance.access.errors import (
    InvalidApiKeyError,
    NotAuthenticatedError,
    UnknownApiKeyError,
)
from governance.access.models import api_key as table
from governance.access.principal import Principal, PrincipalKind, read_scopes, write_words
from governance.access.tokens import digest, new_token
from governance.audit.trail import Actor, Trail
from governance.database import Database
from policies.permissions import API_SCOPES, Permission

REMEMBERED: Final = 1.0
"""Seconds for which a good key is not looked up again."""

_MOST_REMEMBERED: Final = 1024
_USE_NOTED_EVERY: Final = timedelta(minutes=1)
_PREFIX: Final = "tutela_"
_ID_LENGTH: Final = 8
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_SECRET_LENGTH: Final = 43
_KEY_LENGTH: Final = len(_PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as its list shows it."""

    id: str
    name: str
    scopes: frozenset[Permission]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def in_force(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key just made. The secret is shown here and never again."""

    id: str
    key: str = field(repr=False)


class ApiKeys:
    """Makes, rotates, revokes and recognises API keys."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        later: Executor,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Collaborators.

        Args:
            database: where the keys are.
            trail: the operator log.
            clock: the present, for expiry.
            later: notes when a key was used, behind the back of the request that used it.
            monotonic: seconds that only grow, for how long a key is remembered.
        """
        self._database = database
        self._trail = trail
        self._clock = clock
        self._later = later
        self._monotonic = monotonic
        self._remembered: dict[bytes, tuple[float, Principal]] = {}
        self._changes = 0
        self._lock = threading.Lock()

    def authenticate(self, header: str | None) -> Principal:
        """Who sends this `Authorization` header.

        Raises:
            NotAuthenticatedError: it holds no key that is in force.
        """
        if header is None:
            raise NotAuthenticatedError("send an API key as `Authorization: Bearer tutela_…`")
        presented = sha256(header.encode(errors="backslashreplace")).digest()
        found = self._remembered.get(presented)
        if found is not None and self._monotonic() < found[0]:
            return found[1]
        return self._look_up(presented, header)

    def _look_up(self, presented: bytes, header: str) -> Principal:
        changes = self._changes
        asked_at = self._monotonic()
        now = self._clock()
        row = self._read(header)
        if row is None or (row.expires_at is not None and now >= row.expires_at):
            raise NotAuthenticatedError("the API key is unknown, revoked or has expired")
        principal = Principal(
            PrincipalKind.API_KEY, row.id, read_scopes(row.scopes), row.name, "api_key"
        )
        seconds = REMEMBERED
        if row.expires_at is not None:
            seconds = min(seconds, (row.expires_at - now).total_seconds())
        with self._lock:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            # A key that was revoked here while we asked may be in the answer still.
            if changes == self._changes:
                self._remembered[presented] = (asked_at + seconds, principal)
        if row.last_used_at is None or now - row.last_used_at >= _USE_NOTED_EVERY:
            self._later.submit(self._note_use, row.id, now)
        return principal

    def _read(self, header: str) -> Row[Any] | None:
        scheme, _, key = header.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or len(key) != _KEY_LENGTH or not key.isascii():
            return None
        if not key.startswith(_PREFIX) or key[-_SECRET_LENGTH - 1] != "_":
            return None
        key_id, secret = key[len(_PREFIX) :][:_ID_LENGTH], key[-_SECRET_LENGTH:]
        if not key_id.isalnum():
            return None
        with self._database.read() as connection:
            row = connection.execute(
                select(table).where(table.c.id == key_id, table.c.revoked_at.is_(None))
            ).one_or_none()
        # An id is no secret: it stands in lists and logs. So a quick answer gives nothing away.
        if row is None or not hmac.compare_digest(row.secret_hash, digest(secret)):
            return None
        return row

    def _note_use(self, key_id: str, now: datetime) -> None:
        used = table.c.last_used_at
        try:
            with self._database.begin() as session:
                session.execute(
                    update(table)
                    .where(
                        table.c.id == key_id,
                        or_(used.is_(None), used <= now - _USE_NOTED_EVERY),
                    )
                    .values(last_used_at=now)
                )
        except SQLAlchemyError as error:
            # Nobody waits for this thread. The next use of the key tries again.
            _log.warning("api key use not noted", reference=key_id, error=type(error).__name__)

    # --- changes -------------------------------------------------------------------------------

    def create(
        self,
        *,
        name: str,
        scopes: Collection[Permission],
        actor: Actor,
        expires_at: datetime | None = None,
        reason: str | None = None,
    ) -> IssuedKey:
        """Make a key.

        Raises:
            InvalidApiKeyError: the name is empty or over 80 characters, there is no scope, a
                scope is not for keys, or the expiry has passed.
        """
        now = self._clock()
        name = name.strip()
        if not 1 <= len(name) <= 80 or not name.isprintable():
            raise InvalidApiKeyError("the name of a key has 1 to 80 printable characters")
        if not scopes:
            raise InvalidApiKeyError("a key needs a scope")
        if strange := sorted(set(scopes) - API_SCOPES):
            raise InvalidApiKeyError(f"{', '.join(strange)} cannot be given to a key")
        if expires_at is not None and expires_at <= now:
            raise InvalidApiKeyError("the expiry has passed already")
        with self._database.begin() as session:
            return self._add(session, name, frozenset(scopes), actor, expires_at, reason, now)

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta,
        actor: Actor,
        expires_at: datetime | None = None,
        reason: str | None = None,
    ) -> IssuedKey:
        """Make a key of the same name and scopes; the old one works on for `overlap`, not longer.

        Raises:
            UnknownApiKeyError: no key in force has this id.
            InvalidApiKeyError: the overlap is negative, or the new expiry has passed.
        """
        now = self._clock()
        if overlap < timedelta(0) or (expires_at is not None and expires_at <= now):
            raise InvalidApiKeyError("the overlap or the new key's life lies in the past")
        with self._database.begin() as session:
            old = self._locked(session, key_id, now)
            ends = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
            issued = self._add(session, old.name, old.scopes, actor, expires_at, reason, now)
            session.execute(update(table).where(table.c.id == key_id).values(expires_at=ends))
            self._trail.record(
                session,
                actor=actor,
                action="api_key.rotated",
                object=f"api_key:{key_id}",
                reason=reason,
                details={"ends_in_seconds": int((ends - now).total_seconds()), "new": issued.id},
                now=now,
            )
        self._forget()
        return issued

    def revoke(self, key_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """End a key, for ever.

        Raises:
            UnknownApiKeyError: no key in force has this id.
        """
        now = self._clock()
        with self._database.begin() as session:
            self._locked(session, key_id, now)
            session.execute(update(table).where(table.c.id == key_id).values(revoked_at=now))
            self._trail.record(
                session,
                actor=actor,
                action="api_key.revoked",
                object=f"api_key:{key_id}",
                reason=reason,
                now=now,
            )
        self._forget()

    def all(self, reader: Reader) -> list[ApiKey]:
        """Every key that ever was, newest first."""
        rows = reader.execute(select(table).order_by(table.c.created_at.desc(), table.c.id))
        return [_key_of(row) for row in rows]

    def _add(
        self,
        session: Session,
        name: str,
        scopes: frozenset[Permission],
        actor: Actor,
        expires_at: datetime | None,
        reason: str | None,
        now: datetime,
    ) -> IssuedKey:
        key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))
        secret = new_token()
        session.execute(
            insert(table).values(
                id=key_id,
                name=name,
                secret_hash=digest(secret),
                scopes=write_words(scopes),
                created_by=str(actor),
                created_at=now,
                expires_at=expires_at,
            )
        )
        self._trail.record(
            session,
            actor=actor,
            action="api_key.created",
            object=f"api_key:{key_id}",
            reason=reason,
            details={"scopes": sorted(scopes)},
            now=now,
        )
        return IssuedKey(key_id, f"{_PREFIX}{key_id}_{secret}")

    def _locked(self, session: Session, key_id: str, now: datetime) -> ApiKey:
        row = session.execute(
            select(table).where(table.c.id == key_id).with_for_update()
        ).one_or_none()
        if row is None or not _key_of(row).in_force(now):
            raise UnknownApiKeyError("no API key in force has this id")
        return _key_of(row)

    def _forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._remembered.clear()


def _key_of(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=read_scopes(row.scopes),
        created_by=row.created_by,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
