"""Who may do what, and that no view goes without a label."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Flask
from flask.views import MethodView, View

from policies.permissions import (
    API_SCOPES,
    ROLE_PERMISSIONS,
    Label,
    Permission,
    Role,
    label_of,
    public,
    requires,
)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "permissions.md"

CHANGES_SOMETHING = {
    Permission.CONSENT_WRITE,
    Permission.ACCOUNTS_MANAGE,
    Permission.API_KEYS_MANAGE,
    Permission.IMPORT_RUN,
    Permission.NOTICES_WRITE,
    Permission.OUTBOUND_MANAGE,
}
SHOWS_PERSONAL_DATA = {
    Permission.CONSENT_READ,
    Permission.CONSENT_CHANGES,
    Permission.EVIDENCE_READ,
    Permission.PEOPLE_READ,
    Permission.PEOPLE_UNMASK,
}


# --- the tables --------------------------------------------------------------------------------


def test_every_role_has_its_permissions_and_every_permission_a_holder() -> None:
    assert set(ROLE_PERMISSIONS) == set(Role)
    held = frozenset().union(*ROLE_PERMISSIONS.values())
    assert held | API_SCOPES == set(Permission)


def test_auditors_and_approvers_change_nothing() -> None:
    for role in (Role.AUDITOR, Role.APPROVER):
        assert not ROLE_PERMISSIONS[role] & CHANGES_SOMETHING
        assert Permission.PEOPLE_UNMASK not in ROLE_PERMISSIONS[role]


def test_auditors_can_prove_everything() -> None:
    assert ROLE_PERMISSIONS[Role.AUDITOR] >= {
        Permission.LEDGER_VERIFY,
        Permission.LEDGER_EXPORT,
        Permission.EVIDENCE_READ,
        Permission.AUDIT_READ,
    }


def test_those_who_run_the_service_see_nobody() -> None:
    for role in (Role.ADMIN, Role.ENGINEER, Role.DEVELOPER):
        assert not ROLE_PERMISSIONS[role] & SHOWS_PERSONAL_DATA


def test_only_administrators_give_access_to_people() -> None:
    givers = {role for role, held in ROLE_PERMISSIONS.items() if Permission.ACCOUNTS_MANAGE in held}
    assert givers == {Role.ADMIN}


def test_a_key_manages_nobody_and_unmasks_nobody() -> None:
    assert not API_SCOPES & {
        Permission.ACCOUNTS_MANAGE,
        Permission.API_KEYS_MANAGE,
        Permission.OUTBOUND_MANAGE,
        Permission.PEOPLE_READ,
        Permission.PEOPLE_UNMASK,
        Permission.AUDIT_READ,
    }


def test_the_tables_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ROLE_PERMISSIONS[Role.AGENT] = API_SCOPES  # type: ignore[index]  # on purpose


def test_everything_that_is_handed_out_is_described() -> None:
    for word in (*Permission, *Role):
        assert word.description


def test_the_document_shows_the_tables_as_they_are() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("|")
    ]
    matrix = {row[0].strip("`"): row[1:] for row in rows if "." in row[0]}
    (header,) = (row[1:] for row in rows if row[0] == "Permission")
    assert header == ["What it allows", *Role, "API key"]
    assert matrix == {
        permission.value: [
            permission.description,
            *("●" if permission in ROLE_PERMISSIONS[role] else "" for role in Role),
            "●" if permission in API_SCOPES else "",
        ]
        for permission in Permission
    }
    roles = dict(re.findall(r"^- \*\*(\w+)\*\*: (.+)$", DOCUMENT.read_text(), re.MULTILINE))
    assert roles == {role.value: role.description for role in Role}


# --- labels ------------------------------------------------------------------------------------


def logged(view: Callable[..., str]) -> Callable[..., str]:
    """A decorator as it should be."""

    @wraps(view)
    def wrapper(*args: object) -> str:
        return view(*args)

    return wrapper


def careless(view: Callable[..., str]) -> Callable[..., str]:
    """A decorator without `functools.wraps`."""

    def wrapper(*args: object) -> str:
        return view(*args)

    return wrapper


@requires(Permission.CONSENT_CHECK, Permission.CONSENT_READ)
def check() -> str:
    return "checked"


READ = Label(frozenset({Permission.CONSENT_READ}))
WRITE = Label(frozenset({Permission.CONSENT_WRITE}))


def test_a_label_names_permissions_and_leaves_the_view_as_it_is() -> None:
    assert label_of(check) == Label(frozenset({Permission.CONSENT_CHECK, Permission.CONSENT_READ}))
    assert check() == "checked"


def test_a_public_view_says_why() -> None:
    @public("a probe that says nothing")
    def health() -> str:
        return "ok"

    label = label_of(health)
    assert label is not None
    assert label.is_public
    assert label.public_reason == "a probe that says nothing"
    assert label.permissions == frozenset()


def test_a_view_without_a_label_has_none() -> None:
    assert label_of(lambda: "anything") is None
    assert label_of(len) is None
    assert label_of(logged(lambda: "anything")) is None


def test_a_label_survives_wrapping_and_is_lost_without_it() -> None:
    assert label_of(logged(check)) == label_of(check)
    assert label_of(careless(check)) is None


@pytest.mark.parametrize(
    "mistake",
    [
        requires,
        lambda: requires(cast("Permission", "consent.read")),
        lambda: requires(Permission.CONSENT_READ, cast("Permission", "consent.reed")),
        lambda: requires(cast("Permission", check)),
        lambda: public(""),
        lambda: public("  "),
        lambda: public(cast("str", check)),
        lambda: requires(Permission.CONSENT_WRITE)(check),
        lambda: public("twice")(check),
        lambda: requires(Permission.CONSENT_WRITE)(logged(check)),
    ],
)
def test_a_wrong_label_is_a_type_error_at_import(mistake: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        mistake()


@requires(Permission.CONSENT_READ)
class Choices(MethodView):
    """A class-based view, as flask-smorest and Flask make them."""

    def get(self) -> str:
        return "read"

    @logged
    @requires(Permission.CONSENT_WRITE)
    def post(self) -> str:
        return "written"


class Bare(MethodView):
    """No label on the class: each method needs its own."""

    def get(self) -> str:
        return "read"

    @requires(Permission.CONSENT_WRITE)
    def post(self) -> str:
        return "written"


class Heir(Choices):
    """Adds what its parent's author never saw."""

    def get(self) -> str:
        return "more"


def registered(view: type[View]) -> Callable[..., Any]:
    app = Flask("test")
    app.add_url_rule("/", view_func=view.as_view("it"))
    return app.view_functions["it"]


@pytest.mark.parametrize("made", [registered, lambda view: view])
def test_a_method_counts_before_its_class(made: Callable[[type[View]], Any]) -> None:
    view = made(Choices)
    assert label_of(view, "POST") == WRITE
    assert label_of(view, "GET") == READ
    assert label_of(view, "HEAD") == READ
    assert label_of(view, "DELETE") == READ
    assert label_of(view) == READ


def test_a_class_without_a_label_covers_no_method() -> None:
    view = registered(Bare)
    assert label_of(view, "POST") == WRITE
    assert label_of(view, "GET") is None
    assert label_of(view, "HEAD") is None
    assert label_of(view) is None


def test_a_subclass_inherits_labelled_methods_but_no_class_label() -> None:
    view = registered(Heir)
    assert label_of(view, "POST") == WRITE
    assert label_of(view, "GET") is None


def test_what_as_view_makes_can_be_labelled_too() -> None:
    view = requires(Permission.CONSENT_READ)(Bare.as_view("it"))
    assert label_of(view, "GET") == READ
    assert label_of(view, "POST") == WRITE
