"""Browser sessions, kept on the server.

Guarantees: the cookie holds 256 random bits and nothing else, the table their digest. A session
is over when it was idle too long, when its time is up, when it is ended, when its account is
disabled: at once, in every process, for each request asks the table. Logging in always makes a
new token. Opening and ending are in the operator log; that a session was used is not.

Methods that take a `Session` are part of the caller's unit of work; the others are one themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.subjects import Reader
from governance.access.errors import UnknownAccountError
from governance.access.models import AccountState
from governance.access.models import account as account_table
from governance.access.models import session as session_table
from governance.access.principal import Principal, PrincipalKind, permissions_of, read_roles
from governance.access.settings import AccessSettings
from governance.access.tokens import digest, new_token
from governance.audit.trail import Actor, ActorKind, Trail
from governance.database import Database

_TOUCH: Final = timedelta(minutes=1)

_session = session_table.c
_account = account_table.c
_open = (
    select(
        _session.id,
        _session.last_seen_at,
        _session.expires_at,
        _account.id.label("account_id"),
        _account.display_name,
        _account.roles,
    )
    .join(account_table, _account.id == _session.account_id)
    .where(_account.state == AccountState.ACTIVE)
)


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session just made. The token is shown here and never again."""

    id: str
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session of an account, for the list that its owner sees."""

    id: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class Sessions:
    """Opens, finds and ends sessions."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        settings: AccessSettings,
    ) -> None:
        self._database = database
        self._trail = trail
        self._clock = clock
        self._settings = settings

    def open(self, account_id: str, *, replacing: str | None = None) -> OpenedSession:
        """Log an account in, whose owner was authenticated just now.

        Args:
            account_id: the account.
            replacing: the token that the browser came with, if any. It works no more, so that
                nobody who planted it shares the new session.

        Raises:
            UnknownAccountError: there is no such account, or it was disabled meanwhile.
        """
        now = self._clock()
        opened = OpenedSession(str(uuid7()), new_token(), now + self._settings.session_absolute)
        with self._database.begin() as session:
            roles = session.scalar(
                update(account_table)
                .where(_account.id == account_id, _account.state == AccountState.ACTIVE)
                .values(last_login_at=now)
                .returning(_account.roles)
            )
            if roles is None:
                raise UnknownAccountError("the account does not exist or is disabled")
            actor = Actor(ActorKind.ACCOUNT, account_id, roles)
            if replacing is not None:
                self._end(session, _session.token_hash == digest(replacing), actor, None, now)
            session.execute(
                insert(session_table).values(
                    token_hash=digest(opened.token),
                    id=opened.id,
                    account_id=account_id,
                    created_at=now,
                    last_seen_at=now,
                    expires_at=opened.expires_at,
                )
            )
            self._trail.record(
                session,
                actor=actor,
                action="session.opened",
                object=f"session:{opened.id}",
                now=now,
            )
        return opened

    def find(self, token: str) -> Principal | None:
        """Whose session this is, or None if it is over or never was."""
        now = self._clock()
        key = digest(token)
        with self._database.read() as connection:
            row = connection.execute(_open.where(_session.token_hash == key)).one_or_none()
        if row is None or now >= row.expires_at:
            return None
        unused = now - row.last_seen_at
        if unused >= self._settings.session_idle:
            return None
        if unused >= _TOUCH:
            with self._database.begin() as session:
                session.execute(
                    update(session_table)
                    .where(_session.token_hash == key, _session.last_seen_at < now)
                    .values(last_seen_at=now)
                )
        return Principal(
            PrincipalKind.ACCOUNT,
            row.account_id,
            permissions_of(read_roles(row.roles)),
            row.display_name,
            row.roles,
            row.id,
        )

    def of_account(self, reader: Reader, account_id: str) -> list[SessionInfo]:
        """The sessions of an account that are not over, newest first."""
        now = self._clock()
        rows = reader.execute(
            select(_session.id, _session.created_at, _session.last_seen_at, _session.expires_at)
            .where(
                _session.account_id == account_id,
                _session.expires_at > now,
                _session.last_seen_at > now - self._settings.session_idle,
            )
            .order_by(_session.created_at.desc())
        )
        return [SessionInfo(*row) for row in rows]

    def end(self, session_id: str, *, actor: Actor, reason: str | None = None) -> bool:
        """Log out. False if the session was over already."""
        with self._database.begin() as session:
            return bool(self._end(session, _session.id == session_id, actor, reason, self._clock()))

    def end_all(
        self,
        session: Session,
        account_id: str,
        *,
        keep: str | None = None,
        actor: Actor,
        reason: str | None = None,
        now: datetime,
    ) -> int:
        """End an account's sessions but the one with the id `keep`; returns how many."""
        which = and_(_session.account_id == account_id, _session.id != (keep or ""))
        return self._end(session, which, actor, reason, now)

    def remove_expired(self, session: Session, now: datetime) -> int:
        """Delete the rows of sessions that are over; returns how many. For a regular job."""
        idle_since = now - self._settings.session_idle
        removed = session.execute(
            delete(session_table)
            .where(or_(_session.expires_at <= now, _session.last_seen_at <= idle_since))
            .returning(_session.id)
        )
        return len(removed.all())

    def _end(
        self,
        session: Session,
        which: ColumnElement[bool],
        actor: Actor,
        reason: str | None,
        now: datetime,
    ) -> int:
        ended = session.scalars(delete(session_table).where(which).returning(_session.id)).all()
        for session_id in sorted(ended):
            self._trail.record(
                session,
                actor=actor,
                action="session.ended",
                object=f"session:{session_id}",
                reason=reason,
                now=now,
            )
        return len(ended)
