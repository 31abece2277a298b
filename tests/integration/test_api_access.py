"""Who may call what: one scope a call, keys only, and nothing for anyone else."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from governance.access.models import api_key
from governance.audit.trail import CLI
from policies.permissions import API_SCOPES, ROLE_PERMISSIONS, Permission, Role
from tests.fakes.services import MARKETING, NDJSON, Api, person, problem, said

SUBJECT = {"email": "somebody@example.com"}
ASKED = {"purpose": MARKETING, "channel": "email"}
EVENT = "/v1/consent/events/01a2013e-3610-7233-a1c9-2a1f55281f18/receipt"
PROOF = EVENT.replace("/receipt", "/proof")
LIST = "/v1/consent/do-not-call/no_such_list"
NOTICE = "/v1/consent/notices/privacy"
VERSION = "/v1/consent/notices/privacy/versions/3"

HELD = {"cells": "marketing_information:email", "by": "email"}
CALLS: dict[str, tuple[Permission, str, str, Any]] = {
    "check": (
        Permission.CONSENT_CHECK,
        "POST",
        "/v1/consent/check",
        {"json": {"subject": SUBJECT, **ASKED}},
    ),
    "batch": (
        Permission.CONSENT_CHECK,
        "POST",
        "/v1/consent/check/batch",
        {"json": {"subjects": [SUBJECT], **ASKED}},
    ),
    "list": (
        Permission.CONSENT_CHECK,
        "POST",
        "/v1/consent/check/batch",
        {"query_string": ASKED, "data": b"{}\n", "content_type": NDJSON},
    ),
    "record": (
        Permission.CONSENT_WRITE,
        "POST",
        "/v1/consent/choices",
        {"json": {"subject": SUBJECT, "choices": [said("refused")]}},
    ),
    "look up": (
        Permission.CONSENT_READ,
        "POST",
        "/v1/consent/subjects/lookup",
        {"json": {"subject": SUBJECT}},
    ),
    "changes": (Permission.CONSENT_CHANGES, "GET", "/v1/consent/changes", {}),
    "snapshot": (
        Permission.CONSENT_MIRROR,
        "GET",
        "/v1/consent/snapshot",
        {"query_string": HELD},
    ),
    "snapshot changes": (
        Permission.CONSENT_MIRROR,
        "GET",
        "/v1/consent/snapshot/changes",
        {"query_string": {**HELD, "epoch": "0" * 32, "cursor": f"0.0.{'0' * 16}"}},
    ),
    "receipt": (Permission.CONSENT_READ, "GET", EVENT, {}),
    "proof": (Permission.PROOF_EXPORT, "POST", PROOF, {"json": {}}),
    "signal": (
        Permission.SIGNALS_REPORT,
        "POST",
        "/v1/consent/signals",
        {"json": {"subject": SUBJECT, "signal": "gpc", "value": "1"}},
    ),
    "lists": (Permission.LISTS_REPLACE, "GET", "/v1/consent/do-not-call", {}),
    "replace list": (
        Permission.LISTS_REPLACE,
        "PUT",
        LIST,
        {"query_string": {"listed_on": "2026-03-01"}, "data": b"", "content_type": "text/plain"},
    ),
    "notices": (Permission.POLICY_READ, "GET", "/v1/consent/notices", {}),
    "notice": (Permission.POLICY_READ, "GET", NOTICE, {"query_string": {"language": "en"}}),
    "notice version": (
        Permission.POLICY_READ,
        "GET",
        VERSION,
        {"query_string": {"language": "en"}},
    ),
}
TEMPLATES = {
    EVENT: "/v1/consent/events/{event_id}/receipt",
    PROOF: "/v1/consent/events/{event_id}/proof",
    LIST: "/v1/consent/do-not-call/{registry}",
    NOTICE: "/v1/consent/notices/{notice_id}",
    VERSION: "/v1/consent/notices/{notice_id}/versions/{version}",
}
PUBLIC = ("/log/checkpoint", "/log/tile/0/000", "/openapi.json")


def call(api: Api, name: str, headers: Any = None, **more: Any) -> TestResponse:
    """Make one of the calls."""
    _, method, path, options = CALLS[name]
    return api.client().open(
        path, method=method, headers=headers, buffered=True, **{**options, **more}
    )


def test_every_call_is_here(shared_api: Api) -> None:
    document = shared_api.get("/openapi.json").json
    assert document is not None
    documented = {
        (path, method.upper(), scope)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
        for scopes in operation["security"]
        for scope in scopes["api_key"]
    }
    assert documented == {
        (TEMPLATES.get(path, path), method, scope) for scope, method, path, _ in CALLS.values()
    }


@pytest.mark.parametrize("name", CALLS)
def test_a_key_with_the_scope_and_no_other_is_enough(shared_api: Api, name: str) -> None:
    shared_api.record(SUBJECT, said("granted"))
    answer = call(shared_api, name, shared_api.key({CALLS[name][0]}))
    # What the question names is not there, or outdated: whoever may ask is told.
    not_there = dict.fromkeys(("receipt", "proof", "replace list"), (404,))
    expected = {**not_there, "snapshot changes": (409,)}.get(name, (200, 201))
    assert answer.status_code in expected


@pytest.mark.parametrize("name", CALLS)
def test_all_other_scopes_together_are_not_enough(shared_api: Api, name: str) -> None:
    needed = CALLS[name][0]
    key = shared_api.key(API_SCOPES - {needed})
    before = shared_api.contents()
    found = problem(call(shared_api, name, key), 403, "PERMISSION_DENIED")
    assert found["detail"].endswith(needed)
    assert shared_api.contents() == before


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_key_in_force_opens_nothing(shared_api: Api, name: str) -> None:
    key = shared_api.key()["Authorization"].removeprefix("Bearer ")
    before = shared_api.contents()
    for header in (
        None,
        "",
        key,
        "Bearer",
        "Bearer ",
        f"Basic {key}",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}",
        f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}",
        f"Bearer {key}, Bearer {key}",
        f"Bearer tutela_aaaaaaaa_{key[-43:]}",
        "Bearer " + "x" * 60_000,
        "Bearer tutela_ü",
        "Bearer \x00",
    ):
        answer = call(
            shared_api,
            name,
            environ_overrides={} if header is None else {"HTTP_AUTHORIZATION": header},
        )
        problem(answer, 401, "NOT_AUTHENTICATED")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert header is None or len(header) < 20 or header not in answer.text
    assert shared_api.contents() == before


@pytest.mark.parametrize("name", CALLS)
def test_a_key_is_no_key_in_a_query_a_cookie_or_a_form(shared_api: Api, name: str) -> None:
    key = shared_api.key()["Authorization"].removeprefix("Bearer ")
    _, method, path, _ = CALLS[name]
    client = shared_api.client()
    client.set_cookie("Authorization", f"Bearer {key}")
    for parameter in ("access_token", "api_key", "key", "token"):
        answer = client.open(path, method=method, query_string={parameter: key}, buffered=True)
        problem(answer, 401, "NOT_AUTHENTICATED")
        assert key not in answer.text
    answer = client.post(path, data={"access_token": key}, buffered=True)
    assert answer.status_code in (401, 405)


@pytest.mark.parametrize("name", CALLS)
def test_a_session_of_the_console_opens_no_call_of_the_api(shared_api: Api, name: str) -> None:
    accounts, sessions = shared_api.services.accounts, shared_api.services.sessions
    account = accounts.create(
        login=f"all-roles-{name.replace(' ', '-')}",
        display_name="All Roles",
        roles=tuple(Role),
        password="plum-orbit-candle-9",
        actor=CLI,
    )
    client = shared_api.client()
    token = sessions.open(account.id).token
    for cookie in ("tutela_session", "__Host-tutela_session", "session"):
        client.set_cookie(cookie, token)
    _, method, path, options = CALLS[name]
    answer = client.open(path, method=method, buffered=True, **options)
    problem(answer, 401, "NOT_AUTHENTICATED")


def test_a_revoked_key_is_refused_from_the_next_call_on(shared_api: Api) -> None:
    keys = shared_api.services.api_keys
    issued = keys.create(name="short-lived", scopes=API_SCOPES, actor=CLI)
    headers = {"Authorization": f"Bearer {issued.key}"}
    for name in CALLS:
        assert call(shared_api, name, headers).status_code != 401
    keys.revoke(issued.id, actor=CLI)
    for name in CALLS:
        problem(call(shared_api, name, headers), 401, "NOT_AUTHENTICATED")


def test_an_expired_key_is_refused_at_its_instant(api: Api) -> None:
    ends = api.clock() + timedelta(minutes=5)
    issued = api.services.api_keys.create(
        name="expiring", scopes=API_SCOPES, actor=CLI, expires_at=ends
    )
    headers = {"Authorization": f"Bearer {issued.key}"}
    assert call(api, "check", headers).status_code == 200
    # As a key once found good is remembered for a second of real time, this one asks afresh.
    other = {"Authorization": f"bearer  {issued.key}"}
    api.clock.set(ends)
    for name in CALLS:
        problem(call(api, name, other), 401, "NOT_AUTHENTICATED")


def test_two_keys_may_overlap_while_one_replaces_the_other(shared_api: Api) -> None:
    keys = shared_api.services.api_keys
    old, new = (keys.create(name="rotating", scopes=API_SCOPES, actor=CLI) for _ in range(2))
    for issued in (old, new):
        headers = {"Authorization": f"Bearer {issued.key}"}
        assert call(shared_api, "check", headers).status_code == 200
    keys.revoke(old.id, actor=CLI)
    headers = {"Authorization": f"Bearer {new.key}"}
    assert call(shared_api, "check", headers).status_code == 200


@pytest.mark.parametrize("role", Role)
def test_a_role_can_do_by_api_what_it_may_and_no_more(shared_api: Api, role: Role) -> None:
    scopes = ROLE_PERMISSIONS[role] & API_SCOPES
    headers = shared_api.key(scopes) if scopes else {}
    for name, (needed, *_) in CALLS.items():
        status = call(shared_api, name, headers).status_code
        assert (status == 403) == (needed not in scopes), name
        assert status < 500


@pytest.mark.parametrize("path", PUBLIC)
def test_what_is_public_needs_no_key_and_minds_no_bad_one(shared_api: Api, path: str) -> None:
    plain = shared_api.client().get(path, buffered=True)
    assert plain.status_code in (200, 404)
    bad = shared_api.client().get(path, headers={"Authorization": "Bearer nonsense"}, buffered=True)
    assert (bad.status_code, bad.data) == (plain.status_code, plain.data)


def test_who_may_not_call_learns_nothing_of_what_is_there(shared_api: Api) -> None:
    event = shared_api.record(person(), said("granted"))["events"][0]
    mine = f"/v1/consent/events/{event['id']}/receipt"
    for headers, status in (({}, 401), (shared_api.key({Permission.CONSENT_CHECK}), 403)):
        answers = [
            shared_api.client().get(path, headers=headers, buffered=True) for path in (mine, EVENT)
        ]
        proofs = [
            shared_api.client().post(path, headers=headers, json={}, buffered=True)
            for path in (mine.replace("/receipt", "/proof"), PROOF)
        ]
        assert answers[0].data == answers[1].data
        assert proofs[0].data == proofs[1].data
        assert {answer.status_code for answer in (*answers, *proofs)} == {status}


def test_a_refused_caller_is_told_so_before_the_body_is_looked_at(shared_api: Api) -> None:
    for body in (b"[" * 100_000, b"\xff", b"x" * 20_000_000):
        answer = shared_api.client().post(
            "/v1/consent/check", data=body, content_type="application/json", buffered=True
        )
        problem(answer, 401, "NOT_AUTHENTICATED")


def test_keys_are_kept_as_hashes_and_never_shown_again(shared_api: Api) -> None:
    key = shared_api.key()["Authorization"].removeprefix("Bearer ")
    secret = key[-43:]
    with shared_api.services.database.read() as reader:
        rows = reader.execute(select(api_key)).all()
        assert rows
        assert not any(secret in str(value) for row in rows for value in row)
