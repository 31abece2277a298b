"""Who is calling, and what they may do: the answer of every way to authenticate."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from governance.audit.trail import Actor, ActorKind
from policies.permissions import API_SCOPES, ROLE_PERMISSIONS, Permission, Role


class PrincipalKind(StrEnum):
    """A person in a browser, or a program with a key."""

    ACCOUNT = "account"
    API_KEY = "api_key"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were checked just now."""

    kind: PrincipalKind
    id: str
    """The account's or the key's id: opaque, fit for logs and records."""
    permissions: frozenset[Permission]
    name: str = field(repr=False)
    """For the caller's own screens; a person's name stays out of logs."""
    role: str
    """What the operator log shows: the account's roles, or `api_key`."""
    session_id: str | None = None
    """The browser session, for accounts."""

    @property
    def actor(self) -> Actor:
        """The caller as the operator log names it."""
        return Actor(ActorKind(self.kind.value), self.id, self.role)

    def may(self, permission: Permission) -> bool:
        """Whether the caller holds this permission."""
        return permission in self.permissions


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """All that any of the roles may do."""
    return frozenset().union(*(ROLE_PERMISSIONS[role] for role in roles))


def write_words(words: Iterable[str]) -> str:
    """Roles or scopes as a table keeps them."""
    return " ".join(sorted(words))


def read_roles(stored: str) -> frozenset[Role]:
    """The roles of an account. A word that is no role any more gives nothing."""
    words = stored.split()
    return frozenset(role for role in Role if role in words)


def read_scopes(stored: str) -> frozenset[Permission]:
    """The scopes of a key. A word that is no scope any more gives nothing."""
    words = stored.split()
    return frozenset(scope for scope in API_SCOPES if scope in words)
