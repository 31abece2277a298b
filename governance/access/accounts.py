"""Accounts of staff: making and changing them, and telling who is at the door.

Guarantees: an unknown login name, a wrong password, a disabled account and a locked one get the
same answer. Known and unknown names cost the same work, and are counted and locked alike, so
that guessing tells nobody who works here. Each change is in the operator log with the transaction
that makes it. The last officer and the last administrator cannot be removed.

Passwords are hashed outside transactions: the database is not held for a quarter of a second.
Methods that take a `Session` are part of the caller's unit of work; the others are one themselves.
"""

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from consent.ledger.canonical import JSONValue
from consent.subjects import Reader
from governance.access import throttle
from governance.access.errors import (
    InvalidAccountError,
    LastHolderError,
    LoginRefusedError,
    UnknownAccountError,
)
from governance.access.models import AccountState
from governance.access.models import account as account_table
from governance.access.passwords import Passwords, check_rules
from governance.access.principal import read_roles, write_words
from governance.access.sessions import Sessions
from governance.audit.trail import SYSTEM, Actor, ActorKind, Trail
from governance.database import Database
from policies.permissions import Role

_INDISPENSABLE: Final = (Role.OFFICER, Role.ADMIN)

_c = account_table.c


@dataclass(frozen=True, slots=True)
class Account:
    """A member of staff, without the password's hash."""

    id: str
    login: str = field(repr=False)
    display_name: str = field(repr=False)
    roles: frozenset[Role]
    state: AccountState
    created_at: datetime
    last_login_at: datetime | None

    @property
    def actor(self) -> Actor:
        """The account as the operator log names it."""
        return Actor(ActorKind.ACCOUNT, self.id, write_words(self.roles))


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account that can be made: checked, its password hashed. Made by `Accounts.prepare`."""

    login: str = field(repr=False)
    display_name: str = field(repr=False)
    roles: frozenset[Role]
    password_hash: str = field(repr=False)


class Accounts:
    """Makes, changes and authenticates accounts."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        passwords: Passwords,
        sessions: Sessions,
    ) -> None:
        self._database = database
        self._trail = trail
        self._clock = clock
        self._passwords = passwords
        self._sessions = sessions

    # --- at the door ---------------------------------------------------------------------------

    def authenticate(self, login: str, password: str) -> Account:
        """Whose login and password these are. Opens no session: a second factor may follow.

        Raises:
            LoginRefusedError: they are nobody's, or it was tried too often.
        """
        account = self._verified(_normalised(login), password)
        if account.state is not AccountState.ACTIVE:
            raise LoginRefusedError
        return account

    def change_password(
        self, account_id: str, current: str, new: str, *, keep_session: str | None = None
    ) -> None:
        """Change one's own password. Ends all one's sessions but the one with that id.

        Raises:
            UnknownAccountError: no account has this id.
            LoginRefusedError: the current password is wrong, or was tried too often.
            PasswordRefusedError: the new one breaks a rule.
        """
        with self._database.read() as connection:
            account = self.get(connection, account_id)
        check_rules(new, account.login)
        self._verified(account.login, current)
        self._set_password(account, new, account.actor, None, keep_session)

    def _verified(self, login: str, password: str) -> Account:
        by_login = select(account_table).where(_c.login == login)
        with self._database.begin() as session:
            lock = throttle.begin_attempt(session, login, self._clock())
            # What cannot be printed was never a login name, and not every driver takes it.
            row = session.execute(by_login).one_or_none() if login.isprintable() else None
        if lock is None:
            raise LoginRefusedError
        stored = row.password_hash if row else None
        verdict = self._passwords.verify(stored, password)
        if row is None or not verdict.right:
            self._record_lock(row, lock)
            raise LoginRefusedError
        with self._database.begin() as session:
            throttle.forget(session, login)
            account = session.execute(
                update(account_table)
                # Unless the password was changed while this one was looked at.
                .where(_c.id == row.id, _c.password_hash == stored)
                .values(password_hash=verdict.rehashed or stored)
                .returning(account_table)
            ).one_or_none()
        if account is None:
            raise LoginRefusedError
        return _account_of(account)

    def _record_lock(self, row: Row[Any] | None, lock: timedelta) -> None:
        if not lock:
            return
        with self._database.begin() as session:
            self._trail.record(
                session,
                actor=SYSTEM,
                action="login.locked",
                object=f"account:{row.id}" if row else "account:unknown",
                details={"seconds": int(lock.total_seconds())},
                now=self._clock(),
            )

    # --- made and changed by others ------------------------------------------------------------

    def create(
        self,
        *,
        login: str,
        display_name: str,
        roles: Collection[Role],
        password: str,
        actor: Actor,
        reason: str | None = None,
    ) -> Account:
        """Make an account.

        Raises:
            InvalidAccountError: the login name is malformed or taken, the display name is empty
                or too long, there is no role.
            PasswordRefusedError: the password breaks a rule.
        """
        new = self.prepare(login=login, display_name=display_name, roles=roles, password=password)
        with self._database.begin() as session:
            return self.add(session, new, actor=actor, reason=reason, now=self._clock())

    def prepare(
        self, *, login: str, display_name: str, roles: Collection[Role], password: str
    ) -> NewAccount:
        """Check and hash what an account is made of, before a transaction begins.

        Raises:
            InvalidAccountError, PasswordRefusedError: as `create` does.
        """
        name = _normalised(login)
        shown = display_name.strip()
        if not 3 <= len(name) <= 254 or not name.isprintable() or " " in name:
            raise InvalidAccountError(
                "a login name has 3 to 254 printable characters and no spaces"
            )
        if not 1 <= len(shown) <= 100 or not shown.isprintable():
            raise InvalidAccountError("a display name has 1 to 100 printable characters")
        if not roles:
            raise InvalidAccountError("an account needs a role")
        check_rules(password, name)
        return NewAccount(name, shown, frozenset(roles), self._passwords.hash(password))

    def add(
        self,
        session: Session,
        new: NewAccount,
        *,
        actor: Actor,
        reason: str | None = None,
        now: datetime,
    ) -> Account:
        """Add a prepared account.

        Raises:
            InvalidAccountError: the login name is taken. The session can then only roll back.
        """
        account = Account(
            str(uuid7()), new.login, new.display_name, new.roles, AccountState.ACTIVE, now, None
        )
        try:
            session.execute(
                insert(account_table).values(
                    id=account.id,
                    login=new.login,
                    display_name=new.display_name,
                    password_hash=new.password_hash,
                    roles=write_words(new.roles),
                    state=AccountState.ACTIVE,
                    created_at=now,
                    password_changed_at=now,
                )
            )
        except IntegrityError as error:
            raise InvalidAccountError("the login name is taken") from error
        self._record(
            session, "account.created", account, actor, reason, now, roles=sorted(new.roles)
        )
        return account

    def set_password(
        self, account_id: str, new: str, *, actor: Actor, reason: str | None = None
    ) -> None:
        """Give an account a new password without the old one, end its sessions and unlock it.

        Raises:
            UnknownAccountError, PasswordRefusedError: as `change_password` does.
        """
        with self._database.read() as connection:
            account = self.get(connection, account_id)
        check_rules(new, account.login)
        self._set_password(account, new, actor, reason, None)

    def set_roles(
        self, account_id: str, roles: Collection[Role], *, actor: Actor, reason: str | None = None
    ) -> None:
        """Replace an account's roles, from its next request on.

        Raises:
            UnknownAccountError: no account has this id.
            InvalidAccountError: there is no role.
            LastHolderError: nobody else is officer, or administrator.
        """
        if not roles:
            raise InvalidAccountError("an account needs a role")
        self._change(account_id, "account.roles_changed", actor, reason, roles=frozenset(roles))

    def disable(self, account_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Lock an account out: no login, no session.

        Raises:
            UnknownAccountError: no account has this id.
            LastHolderError: nobody else is officer, or administrator.
        """
        self._change(account_id, "account.disabled", actor, reason, state=AccountState.DISABLED)

    def enable(self, account_id: str, *, actor: Actor, reason: str | None = None) -> None:
        """Let an account in again.

        Raises:
            UnknownAccountError: no account has this id.
        """
        self._change(account_id, "account.enabled", actor, reason, state=AccountState.ACTIVE)

    def unlock(self, account_id: str, *, actor: Actor, reason: str | None = None) -> bool:
        """Forget an account's failed logins. False if there were none.

        Raises:
            UnknownAccountError: no account has this id.
        """
        with self._database.begin() as session:
            account = self.get(session, account_id)
            unlocked = throttle.forget(session, account.login)
            if unlocked:
                self._record(session, "account.unlocked", account, actor, reason, self._clock())
            return unlocked

    # --- reading -------------------------------------------------------------------------------

    def get(self, reader: Reader, account_id: str) -> Account:
        """One account.

        Raises:
            UnknownAccountError: no account has this id.
        """
        row = reader.execute(select(account_table).where(_c.id == account_id)).one_or_none()
        if row is None:
            raise UnknownAccountError("no account has this id")
        return _account_of(row)

    def find(self, reader: Reader, login: str) -> Account | None:
        """The account with this login name, however it is written."""
        row = reader.execute(
            select(account_table).where(_c.login == _normalised(login))
        ).one_or_none()
        return None if row is None else _account_of(row)

    def all(self, reader: Reader) -> list[Account]:
        """Every account, oldest first."""
        rows = reader.execute(select(account_table).order_by(_c.created_at, _c.id))
        return [_account_of(row) for row in rows]

    def exist(self, reader: Reader) -> bool:
        """Whether there is an account at all."""
        return bool(reader.execute(select(func.count()).select_from(account_table)).scalar_one())

    # --- inside --------------------------------------------------------------------------------

    def _set_password(
        self, account: Account, new: str, actor: Actor, reason: str | None, keep: str | None
    ) -> None:
        hashed = self._passwords.hash(new)
        now = self._clock()
        with self._database.begin() as session:
            session.execute(
                update(account_table)
                .where(_c.id == account.id)
                .values(password_hash=hashed, password_changed_at=now)
            )
            throttle.forget(session, account.login)
            self._record(session, "account.password_changed", account, actor, reason, now)
            self._sessions.end_all(
                session, account.id, keep=keep, actor=actor, reason="password changed", now=now
            )

    def _change(
        self,
        account_id: str,
        action: str,
        actor: Actor,
        reason: str | None,
        *,
        roles: frozenset[Role] | None = None,
        state: AccountState | None = None,
    ) -> None:
        now = self._clock()
        with self._database.begin() as session:
            # All rows, in order: two who remove each other wait, and the second is refused.
            rows = session.execute(select(account_table).order_by(_c.id).with_for_update())
            accounts = {row.id: _account_of(row) for row in rows}
            account = accounts.pop(account_id, None)
            if account is None:
                raise UnknownAccountError("no account has this id")
            new_roles = account.roles if roles is None else roles
            new_state = account.state if state is None else state
            kept = new_roles if new_state is AccountState.ACTIVE else frozenset()
            _refuse_to_lose_the_last(account, kept, accounts.values())
            session.execute(
                update(account_table)
                .where(_c.id == account_id)
                .values(roles=write_words(new_roles), state=new_state)
            )
            self._record(
                session,
                action,
                account,
                actor,
                reason,
                now,
                before=sorted(account.roles),
                after=sorted(kept),
            )
            if new_state is AccountState.DISABLED:
                self._sessions.end_all(
                    session, account_id, actor=actor, reason="account disabled", now=now
                )

    def _record(
        self,
        session: Session,
        action: str,
        account: Account,
        actor: Actor,
        reason: str | None,
        now: datetime,
        **details: JSONValue,
    ) -> None:
        self._trail.record(
            session,
            actor=actor,
            action=action,
            object=f"account:{account.id}",
            reason=reason,
            details=details,
            now=now,
        )


def _refuse_to_lose_the_last(
    account: Account, kept: frozenset[Role], others: Collection[Account]
) -> None:
    if account.state is not AccountState.ACTIVE:
        return
    for role in _INDISPENSABLE:
        held_by_others = any(
            role in other.roles and other.state is AccountState.ACTIVE for other in others
        )
        if role in account.roles and role not in kept and not held_by_others:
            raise LastHolderError(
                f"this is the last {role}; give the role to another account first"
            )


def _account_of(row: Row[Any]) -> Account:
    return Account(
        id=row.id,
        login=row.login,
        display_name=row.display_name,
        roles=read_roles(row.roles),
        state=AccountState(row.state),
        created_at=row.created_at,
        last_login_at=row.last_login_at,
    )


def _normalised(login: str) -> str:
    return unicodedata.normalize("NFKC", login[:1000]).strip().casefold()
