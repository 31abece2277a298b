"""The first account: a one-time link, printed where only the host's operator sees it.

Guarantees: a link works once, for 24 hours, while there is no account; a new link replaces the
one before. However many visitors follow it at once, one account is made.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, select, update

from consent import bulk
from governance.access.accounts import Account, Accounts
from governance.access.errors import SetupLinkError
from governance.access.models import setup_link
from governance.access.settings import AccessSettings
from governance.access.tokens import digest, new_token
from governance.audit.trail import SYSTEM, Actor, ActorKind, Trail
from governance.database import Database
from policies.permissions import Role

FIRST_ROLES: Final = frozenset({Role.ADMIN, Role.OFFICER})
"""What the first account may do: make the others, and begin the work."""

_FIRST_VISITOR: Final = Actor(ActorKind.SYSTEM, "setup_link", "system")
_UNUSABLE: Final = (
    "the set-up link was used, replaced or has expired; "
    "`tutela accounts setup-link` on the host makes a new one while there is no account"
)


class Setup:
    """Makes the link, and the first account for whoever brings it."""

    def __init__(
        self,
        database: Database,
        trail: Trail,
        clock: Callable[[], datetime],
        settings: AccessSettings,
        accounts: Accounts,
    ) -> None:
        self._database = database
        self._trail = trail
        self._clock = clock
        self._settings = settings
        self._accounts = accounts

    def new_link(self, *, actor: Actor = SYSTEM) -> str | None:
        """The token of a new link, or None if there is an account already."""
        now = self._clock()
        token = new_token()
        with self._database.begin() as session:
            if self._accounts.exist(session):
                return None
            row = (1, digest(token), now, now + self._settings.setup_link, None)
            bulk.upsert(session, setup_link, [row], key=("id",))
            self._trail.record(
                session, actor=actor, action="setup.link_created", object="setup_link", now=now
            )
        return token

    def is_usable(self, token: str) -> bool:
        """Whether this link would work now."""
        with self._database.read() as connection:
            if connection.execute(select(setup_link.c.id).where(self._usable(token))).first():
                return not self._accounts.exist(connection)
        return False

    def complete(self, token: str, *, login: str, display_name: str, password: str) -> Account:
        """Make the first account and use the link up.

        Raises:
            SetupLinkError: the link does not work.
            InvalidAccountError, PasswordRefusedError: as `Accounts.create`; the link works on.
        """
        if not self.is_usable(token):
            raise SetupLinkError(_UNUSABLE)
        new = self._accounts.prepare(
            login=login, display_name=display_name, roles=FIRST_ROLES, password=password
        )
        now = self._clock()
        with self._database.begin() as session:
            used = session.execute(
                update(setup_link)
                .where(self._usable(token))
                .values(used_at=now)
                .returning(setup_link.c.id)
            ).first()
            # Asked once more: the link's row is ours now, and whoever had it has committed.
            if used is None or self._accounts.exist(session):
                raise SetupLinkError(_UNUSABLE)
            return self._accounts.add(session, new, actor=_FIRST_VISITOR, now=now)

    def _usable(self, token: str) -> ColumnElement[bool]:
        return and_(
            setup_link.c.token_hash == digest(token),
            setup_link.c.used_at.is_(None),
            setup_link.c.expires_at > self._clock(),
        )
