"""Roles → permissions, and the labels by which endpoints say what they need.

`requires` and `public` only label a view; `governance.access.guard` enforces the labels and
refuses to start with a view that has none. The tables are closed: whoever is not named may not.

Separation of duties: `admin` runs the service and hands out access but sees nobody's data;
`auditor` reads everything that proves something and changes nothing; an approver decides about
what others propose and so proposes nothing. One person may hold several roles.

Non-goal: who the caller is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Any, Final, TypeVar

_View = TypeVar("_View", bound=Callable[..., Any])

_LABEL: Final = "__tutela_label__"


@unique
class Permission(StrEnum):
    """One thing that a caller may do."""

    CONSENT_CHECK = "consent.check"
    CONSENT_WRITE = "consent.write"
    CONSENT_READ = "consent.read"
    CONSENT_CHANGES = "consent.changes"
    CONSENT_MIRROR = "consent.mirror"
    EVIDENCE_READ = "evidence.read"
    PEOPLE_READ = "people.read"
    PEOPLE_UNMASK = "people.unmask"
    LEDGER_READ = "ledger.read"
    LEDGER_VERIFY = "ledger.verify"
    LEDGER_EXPORT = "ledger.export"
    PROOF_EXPORT = "proof.export"
    AUDIT_READ = "audit.read"
    ACCOUNTS_MANAGE = "accounts.manage"
    API_KEYS_MANAGE = "api_keys.manage"
    JOBS_READ = "jobs.read"
    POLICY_READ = "policy.read"
    IMPORT_RUN = "import.run"
    NOTICES_WRITE = "notices.write"
    NOTICES_PUBLISH = "notices.publish"
    OUTBOUND_READ = "outbound.read"
    OUTBOUND_MANAGE = "outbound.manage"
    SIGNALS_REPORT = "signals.report"
    LISTS_REPLACE = "lists.replace"

    @property
    def description(self) -> str:
        """What it allows, in words for whoever hands it out."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: Final = {
    Permission.CONSENT_CHECK: "Ask whether something may happen now",
    Permission.CONSENT_WRITE: "Record what a person chose, and withdraw it",
    Permission.CONSENT_READ: "See people's choices and their history, without names",
    Permission.CONSENT_CHANGES: "Follow every change of consent as it happens",
    Permission.CONSENT_MIRROR: "Keep a copy of what may happen to everybody, without names",
    Permission.EVIDENCE_READ: "See the evidence and the receipt of a choice",
    Permission.PEOPLE_READ: "Find people, and see their identifiers masked",
    Permission.PEOPLE_UNMASK: "See an identifier in full, for a reason that is logged",
    Permission.LEDGER_READ: "Read the ledger, its checkpoints and proofs",
    Permission.LEDGER_VERIFY: "Have the whole ledger verified",
    Permission.LEDGER_EXPORT: "Take the ledger away, to verify it elsewhere",
    Permission.PROOF_EXPORT: "Take the proof of one consent away, to be checked by others",
    Permission.AUDIT_READ: "See what members of staff did",
    Permission.ACCOUNTS_MANAGE: "Open and close accounts, and give them roles",
    Permission.API_KEYS_MANAGE: "Make and revoke API keys, with any scope",
    Permission.JOBS_READ: "See scheduled jobs and how they went",
    Permission.POLICY_READ: "See purposes and rules",
    Permission.IMPORT_RUN: "Import choices from other systems",
    Permission.NOTICES_WRITE: "Write drafts of what people are told",
    Permission.NOTICES_PUBLISH: "Publish what somebody else wrote for people to read",
    Permission.OUTBOUND_READ: "See which webhooks and mails left, without addresses or content",
    Permission.OUTBOUND_MANAGE: "Register webhooks and change their secrets, send test mails",
    Permission.SIGNALS_REPORT: "Report signals by which browsers opt people out",
    Permission.LISTS_REPLACE: "Replace our copies of do-not-call lists",
}


@unique
class Role(StrEnum):
    """What a member of staff is here for."""

    OFFICER = "officer"
    APPROVER = "approver"
    AGENT = "agent"
    ENGINEER = "engineer"
    DEVELOPER = "developer"
    AUDITOR = "auditor"
    ADMIN = "admin"

    @property
    def description(self) -> str:
        """Whom the role is meant for."""
        return _ROLES[self]


_ROLES: Final = {
    Role.OFFICER: "Privacy officer: answers for what happens to personal data",
    Role.APPROVER: "Second person: looks at what others propose and approves it",
    Role.AGENT: "Support agent: changes choices for people who call or write",
    Role.ENGINEER: "Data engineer: connects systems, imports, watches jobs",
    Role.DEVELOPER: "Developer of another service: calls the API, makes its keys",
    Role.AUDITOR: "Auditor: verifies everything, changes nothing",
    Role.ADMIN: "Administrator: runs the service and gives access, sees no personal data",
}

ROLE_PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = MappingProxyType(
    {
        Role.OFFICER: frozenset(
            {
                Permission.NOTICES_WRITE,
                Permission.NOTICES_PUBLISH,
                Permission.CONSENT_CHECK,
                Permission.CONSENT_WRITE,
                Permission.CONSENT_READ,
                Permission.EVIDENCE_READ,
                Permission.PEOPLE_READ,
                Permission.PEOPLE_UNMASK,
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.LEDGER_EXPORT,
                Permission.PROOF_EXPORT,
                Permission.AUDIT_READ,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.IMPORT_RUN,
                Permission.OUTBOUND_READ,
            }
        ),
        Role.APPROVER: frozenset(
            {
                Permission.NOTICES_PUBLISH,
                Permission.CONSENT_CHECK,
                Permission.CONSENT_READ,
                Permission.EVIDENCE_READ,
                Permission.PEOPLE_READ,
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.AUDIT_READ,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.OUTBOUND_READ,
            }
        ),
        Role.AGENT: frozenset(
            {
                Permission.CONSENT_CHECK,
                Permission.CONSENT_WRITE,
                Permission.CONSENT_READ,
                Permission.EVIDENCE_READ,
                Permission.PEOPLE_READ,
                Permission.PEOPLE_UNMASK,
                Permission.POLICY_READ,
            }
        ),
        Role.ENGINEER: frozenset(
            {
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.IMPORT_RUN,
                Permission.OUTBOUND_READ,
            }
        ),
        Role.DEVELOPER: frozenset(
            {
                Permission.CONSENT_CHECK,
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.API_KEYS_MANAGE,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.OUTBOUND_READ,
                Permission.OUTBOUND_MANAGE,
            }
        ),
        Role.AUDITOR: frozenset(
            {
                Permission.CONSENT_CHECK,
                Permission.CONSENT_READ,
                Permission.EVIDENCE_READ,
                Permission.PEOPLE_READ,
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.LEDGER_EXPORT,
                Permission.PROOF_EXPORT,
                Permission.AUDIT_READ,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.OUTBOUND_READ,
            }
        ),
        Role.ADMIN: frozenset(
            {
                Permission.LEDGER_READ,
                Permission.LEDGER_VERIFY,
                Permission.AUDIT_READ,
                Permission.ACCOUNTS_MANAGE,
                Permission.API_KEYS_MANAGE,
                Permission.JOBS_READ,
                Permission.POLICY_READ,
                Permission.OUTBOUND_READ,
                Permission.OUTBOUND_MANAGE,
            }
        ),
    }
)

API_SCOPES: Final = frozenset(
    {
        Permission.CONSENT_CHECK,
        Permission.CONSENT_WRITE,
        Permission.CONSENT_READ,
        Permission.CONSENT_CHANGES,
        Permission.CONSENT_MIRROR,
        Permission.EVIDENCE_READ,
        Permission.LEDGER_READ,
        Permission.LEDGER_EXPORT,
        Permission.PROOF_EXPORT,
        Permission.POLICY_READ,
        Permission.SIGNALS_REPORT,
        Permission.LISTS_REPLACE,
    }
)
"""What an API key may be given. A key sees no identifier and manages nobody: a program that holds
one knows the identifiers that it asks about, and learns no others."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a view says of itself: the permissions that it takes, all of them, or why none."""

    permissions: frozenset[Permission]
    public_reason: str | None = None

    @property
    def is_public(self) -> bool:
        """Whether anyone may call, logged in or not."""
        return self.public_reason is not None


def requires(*permissions: Permission) -> Callable[[_View], _View]:
    """Label a view function, a view class or a method of one: the caller needs all of these.

    Raises:
        TypeError: nothing was named, something that is no `Permission`, or a second label.
    """
    if not permissions:
        raise TypeError("name at least one permission, or say public(reason)")
    for permission in permissions:
        if not isinstance(permission, Permission):
            raise TypeError(f"{permission!r} is not a Permission")
    return _labelled(Label(frozenset(permissions)))


def public(reason: str) -> Callable[[_View], _View]:
    """Label a view that anyone may call, and say why that is right.

    Raises:
        TypeError: there is no reason, or a second label.
    """
    # Called on the class, so that a view decorated with a bare `@public` is a TypeError too.
    if not str.strip(reason):
        raise TypeError("say why anyone may call this view")
    return _labelled(Label(frozenset(), public_reason=reason))


def label_of(view: Callable[..., Any], method: str | None = None) -> Label | None:
    """The label of a view, or None: the guard must refuse.

    A label survives `functools.wraps`, and a decorator without it loses the label, which the
    guard notices. For a class-based view (the function that `as_view` makes, or the class
    itself) the label of the method that answers `method` counts before that of the class.
    A subclass does not inherit its parent's class label: what it adds has not been thought of.
    """
    of_view: Label | None = vars(view).get(_LABEL) if hasattr(view, "__dict__") else None
    view_class = view if isinstance(view, type) else getattr(view, "view_class", None)
    if not isinstance(view_class, type):
        return of_view
    if method is not None:
        # As Flask does: a class that has no `head` answers HEAD by its `get`.
        names = ("head", "get") if method.upper() == "HEAD" else (method.lower(),)
        handler = next(
            (found for name in names if (found := getattr(view_class, name, None))), None
        )
        of_method: Label | None = getattr(handler, _LABEL, None)
        if of_method is not None:
            return of_method
    of_class: Label | None = vars(view_class).get(_LABEL)
    return of_class if of_class is not None else of_view


def _labelled(label: Label) -> Callable[[_View], _View]:
    def attach(view: _View) -> _View:
        if _LABEL in vars(view):
            raise TypeError(f"{view.__name__} has a label already")
        setattr(view, _LABEL, label)
        return view

    return attach
