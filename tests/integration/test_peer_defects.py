"""Defects seen in other programs of this kind, each tried here on the running service.

They were found by running those programs or reading their source; the first words of each section
say what went wrong there.
"""

import base64
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.exc import DBAPIError

from admin_ui.services import Services
from admin_ui.settings import Settings
from consent import bulk
from consent.ledger.leaf import timestamp
from consent.models import event as event_table
from consent.models import ledger
from governance.audit.models import audit_log
from governance.audit.trail import CLI
from policies.permissions import API_SCOPES, Permission, Role
from tests.fakes import curl
from tests.fakes.clock import FrozenClock
from tests.fakes.services import (
    MARKETING,
    NDJSON,
    NOTICE,
    Api,
    open_services,
    person,
    problem,
    said,
)

ROOT = Path(__file__).resolve().parents[2]
CHOICES = "/v1/consent/choices"
CHECK = "/v1/consent/check"
LOOKUP = "/v1/consent/subjects/lookup"


def disclosed(api: Api, event_id: str) -> dict[str, Any]:
    """What a receipt of an event discloses to those who may see everything."""
    receipt = json.loads(api.get(f"/v1/consent/events/{event_id}/receipt").text)
    read = [
        json.loads(base64.urlsafe_b64decode(one + "=="))
        for one in receipt["tutela:ledgerEntry"]["tutela:disclosures"]
    ]
    return {name: value for _, name, value in read}


@contextmanager
def without_table(api: Api, table: str) -> Iterator[None]:
    """The database as it is when something is broken in it."""
    with api.services.database.begin() as session:
        session.execute(text(f"ALTER TABLE {table} RENAME TO lost"))
    yield
    with api.services.database.begin() as session:
        session.execute(text(f"ALTER TABLE lost RENAME TO {table}"))


# --- 1: after `email: false, sms: false` the check said `hasConsent: true` -----------------------


@pytest.mark.parametrize("state", ["refused", "withdrawn", "objected"])
@pytest.mark.parametrize("granted_before", [False, True])
def test_refusal_is_nowhere_read_as_consent(api: Api, state: str, granted_before: bool) -> None:
    who = person()
    if granted_before:
        api.record(who, said("granted"), said("granted", channel="sms"))
        api.clock.advance(timedelta(minutes=1))
    no = api.record(who, said(state), said(state, channel="sms"))["events"]
    asked = {"purpose": MARKETING, "channel": "sms"}
    listed = f"{CHECK}/batch?purpose={MARKETING}&channel=sms"
    answers = [
        api.check(who),
        api.check(who, channel="sms"),
        api.check(who, as_of=timestamp(api.clock())),
        api.post(f"{CHECK}/batch", {**asked, "subjects": [who]}).get_json()["results"][0],
        json.loads(api.post(listed, json.dumps(who).encode(), content_type=NDJSON).data),
        *(
            cell
            for cell in api.post(LOOKUP, {"subject": who}).get_json()["matrix"]
            if (cell["purpose"], cell["channel"]) == (MARKETING, "sms")
        ),
    ]
    assert len(answers) == 6
    for answer in answers:
        assert answer["allow"] is False
        assert answer["status"] not in ("given", "renewed")
        assert answer["record_id"] in {event["id"] for event in no}
    receipt = api.get(f"/v1/consent/events/{no[0]['id']}/receipt").text
    assert "ConsentGiven" not in receipt


# --- 2: without an index, 526,000 consents made a check thirty times slower ----------------------

GROWING = (
    "ledger_entry",
    "ledger_tile",
    "consent_event",
    "consent_state",
    "consent_idempotency",
    "vault_person",
    "vault_identifier",
    "data_key",
    "audit_entry",
    "audit_tile",
)


@contextmanager
def statements() -> Iterator[dict[str, Any]]:
    """Every statement that reaches a database meanwhile, with parameters of one of its runs."""
    seen: dict[str, Any] = {}

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        seen.setdefault(statement, parameters[0] if many else parameters)

    run = bulk.run

    def noted(connection: Connection, sql: str, parameters: Any) -> list[tuple[Any, ...]]:
        seen.setdefault(sql, parameters)
        return run(connection, sql, parameters)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        # These ask the driver itself.
        with patch("consent.bulk.run", noted), patch("consent.checks.run", noted):
            yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def scans(services: Services, statement: str, parameters: Any) -> list[str]:
    """The growing tables that a statement would read from one end to the other."""
    if re.search(r"FROM \w+\s+LIMIT ", statement):
        return []  # reads the first rows, whichever they are
    sqlite = services.database.dialect == "sqlite"
    with services.database.begin() as session:
        connection = session.connection()
        if not sqlite:
            # With few rows a scan is cheaper; what matters is whether there is another way.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if sqlite else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
    plan = "\n".join(str(row[-1]) for row in rows)
    pattern = r"SCAN (\w+)(?! USING (?:COVERING )?INDEX)" if sqlite else r"Seq Scan on (\w+)"
    return [table for table in re.findall(pattern, plan) if table in GROWING]


def test_no_query_reads_a_table_that_grows_from_end_to_end(api: Api) -> None:
    people = [
        person(),
        {"phone": "+4930901820"},
        {"external_id": {"system": "hubspot", "id": "4711"}},
    ]
    recorded, *_ = [
        api.record(who, said("granted"), said("refused", channel="sms")) for who in people
    ]
    services = api.services
    account = services.accounts.create(
        login="officer",
        display_name="Officer",
        roles=(Role.OFFICER,),
        password="plum-orbit-candle-9",
        actor=CLI,
    )
    browser = api.client()
    browser.set_cookie("tutela_session", services.sessions.open(account.id).token)
    shown = (
        "/admin",
        "/admin/consent",
        "/admin/consent?before=3",
        f"/admin/consent?purpose={MARKETING}&channel=email&stored=granted&effective=granted",
        f"/admin/consent/people/{recorded['subject']}",
        f"/admin/consent/people/{recorded['subject']}?as_of=2026-02-01",
        f"/admin/consent/events/{recorded['events'][0]['id']}/receipt",
        "/admin/ledger",
    )
    with statements() as seen:
        for number, who in enumerate([*people, {"ref": recorded["subject"]}]):
            api.check(who)
            api.check(who, as_of="2026-02-01T00:00:00Z")
            api.record(who, said("withdrawn"), headers={"Idempotency-Key": f"k{number}"})
            api.post(LOOKUP, {"subject": who, "cursor": "5", "limit": 2})
        api.post(
            f"{CHECK}/batch", {"purpose": MARKETING, "channel": "email", "subjects": people * 3}
        )
        api.get("/v1/consent/changes?cursor=2&limit=2")
        for form in ("ts27560", "kantara", "tlog-proof"):
            api.get(f"/v1/consent/events/{recorded['events'][0]['id']}/receipt?format={form}")
        for path in ("checkpoint", "tile/0/000.p/3", "tile/entries/000.p/3"):
            assert api.client().get(f"/log/{path}").status_code == 200
        for path in shown:
            assert browser.get(path).status_code == 200, path
    queries = {
        statement: parameters
        for statement, parameters in seen.items()
        if re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", statement)
        and any(table in statement for table in GROWING)
    }
    assert len(queries) > 15
    found = {query: scans(services, query, queries[query]) for query in queries}
    assert {query: tables for query, tables in found.items() if tables} == {}


# --- 5, 10: anybody could set a consent, or make an id lead to another person --------------------


def writing_calls(api: Api) -> list[tuple[str, str]]:
    """The calls that no scope of reading opens, by the API's own document."""
    reading = {scope for scope in API_SCOPES if scope is not Permission.CONSENT_WRITE}
    paths = (api.get("/openapi.json").json or {})["paths"]
    return [
        (method.upper(), path)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method != "parameters"
        and operation["security"]
        and not set(operation["security"][0]["api_key"]) & reading
    ]


def test_no_choice_is_changed_without_a_key_that_may_write(shared_api: Api) -> None:
    who = person()
    shared_api.record(who, said("withdrawn"))
    reading = shared_api.key(API_SCOPES - {Permission.CONSENT_WRITE})
    before = shared_api.contents()
    body = json.dumps({"subject": who, "choices": [said("granted")]}).encode()
    for headers, status, reason in (
        ({}, 401, "NOT_AUTHENTICATED"),
        ({"X-Forwarded-For": "127.0.0.1"}, 401, "NOT_AUTHENTICATED"),
        ({"X-Original-Method": "GET", "X-HTTP-Method-Override": "GET"}, 401, "NOT_AUTHENTICATED"),
        (reading, 403, "PERMISSION_DENIED"),
    ):
        answer = shared_api.client().post(
            CHOICES, data=body, headers=headers, content_type="application/json", buffered=True
        )
        problem(answer, status, reason)
    assert shared_api.contents() == before
    assert shared_api.check(who)["reason"] == "WITHDRAWN"


def test_no_call_makes_an_identifier_lead_to_another_person(shared_api: Api) -> None:
    assert writing_calls(shared_api) == [("POST", CHOICES)]
    alice, bob = person(), person()
    of_alice = shared_api.record(alice, said("granted"))["subject"]
    of_bob = shared_api.record(bob, said("refused"))["subject"]
    before = shared_api.contents()
    for subject in (
        {**alice, "phone": "+4930901820"},
        {**alice, "ref": of_bob},
        {"external_id": {"system": "shop", "id": "1"}, "ref": of_bob},
        {"ref": of_bob, "link": alice},
    ):
        body = {"subject": subject, "choices": [said("granted")]}
        problem(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")
    for method in ("PUT", "PATCH", "DELETE"):
        answer = shared_api.client().open(
            CHOICES, method=method, json={"subject": alice}, headers=shared_api.key(), buffered=True
        )
        problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert shared_api.contents() == before
    assert shared_api.record(alice, said("granted"))["subject"] == of_alice
    assert shared_api.record(bob, said("refused"))["subject"] == of_bob


# --- 8: the new consent was written over the old one ---------------------------------------------


def test_history_is_kept_whatever_comes_after_it(api: Api) -> None:
    who = person()
    states = ["granted", "withdrawn", "granted", "objected", "refused", "granted"]
    ids = []
    for state in states:
        api.clock.advance(timedelta(days=1))
        ids.append(api.record(who, said(state))["events"][0]["id"])
    timeline = api.post(LOOKUP, {"subject": who}).get_json()["timeline"]["events"]
    assert [(one["id"], one["state"]) for one in reversed(timeline)] == list(
        zip(ids, states, strict=True)
    )
    for days, allow in enumerate([True, False, True, False, False, True], start=1):
        at = datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(days=days)
        assert api.check(who, as_of=timestamp(at))["allow"] is allow


@pytest.mark.parametrize("table", [ledger.entry, ledger.tile, audit_log.entry])
def test_history_cannot_be_written_over_by_sql_either(api: Api, table: Any) -> None:
    for _ in range(2):
        api.record(person(), *[said("refused") for _ in range(130)])
    for statement in (f"DELETE FROM {table.name}", f"UPDATE {table.name} SET {_a_change(table)}"):
        with (
            pytest.raises(DBAPIError, match="append-only"),
            api.services.database.begin() as session,
        ):
            session.connection().exec_driver_sql(statement)


def _a_change(table: Any) -> str:
    name = next(iter(table.primary_key)).name
    return f"{name} = {name} + 1000000"


# --- 9: `200 {"status": "ok"}` although the write had failed -------------------------------------


@pytest.mark.parametrize(
    "table", ["consent_event", "consent_state", "ledger_entry", "consent_idempotency", "data_key"]
)
def test_write_that_failed_is_never_acknowledged(api: Api, table: str) -> None:
    who = person()
    api.record(who, said("granted"))
    before = api.contents()
    body = {"subject": who, "choices": [said("withdrawn")]}
    headers = {"Idempotency-Key": "once-and-for-all"}
    with without_table(api, table):
        answer = api.post(CHOICES, body, headers=headers)
        assert answer.status_code >= 500
        assert answer.get_json()["reason"] in ("INTERNAL_ERROR", "DATABASE_UNAVAILABLE")
    assert api.contents() == before
    api.clock.advance(timedelta(seconds=1))
    first = api.post(CHOICES, body, headers=headers)
    again = api.post(CHOICES, body, headers=headers)
    assert (first.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert api.check(who)["reason"] == "WITHDRAWN"


# --- 11: two people of one address, made at the same moment --------------------------------------


def test_people_who_come_at_once_are_not_made_twice(
    api: Api, migrated_url: str, tmp_path: Path, clock: FrozenClock
) -> None:
    who = {"email": "Everyone@example.com"}
    with open_services(migrated_url, tmp_path, clock) as second:
        nodes = [api, Api.of(second)]
        for node in nodes:
            node.key()
        with ThreadPoolExecutor(12) as pool:
            recorded = list(
                pool.map(lambda n: nodes[n % 2].record(who, said("granted")), range(24))
            )
    assert len({one["subject"] for one in recorded}) == 1
    assert len({one["events"][0]["id"] for one in recorded}) == 24
    contents = api.contents()
    assert contents["vault_person"] == contents["vault_identifier"] == 1


# --- 12: an outage erased a saved rejection and granted ------------------------------------------


def test_outage_neither_grants_nor_forgets(api: Api) -> None:
    who = person()
    api.record(who, said("granted"))
    api.clock.advance(timedelta(seconds=1))
    api.record(who, said("refused"))
    asked = {"purpose": MARKETING, "channel": "email"}
    listed = f"{CHECK}/batch?purpose={MARKETING}&channel=email"
    for table in ("consent_state", "vault_identifier"):
        with without_table(api, table):
            for answer in (
                api.post(CHECK, {"subject": who, **asked}),
                api.post(f"{CHECK}/batch", {"subjects": [who], **asked}),
                api.post(listed, json.dumps(who).encode(), content_type=NDJSON),
                api.post(LOOKUP, {"subject": who}),
            ):
                assert answer.status_code >= 500
                assert "allow" not in answer.text
    assert api.check(who)["reason"] == "REFUSED"


# --- 16: one root token for everybody ------------------------------------------------------------


def test_each_service_has_a_key_of_its_own_and_is_named_by_it(api: Api) -> None:
    keys = {
        name: api.services.api_keys.create(
            name=name, scopes={Permission.CONSENT_WRITE, Permission.CONSENT_CHECK}, actor=CLI
        )
        for name in ("shop", "newsletter")
    }
    who = person()
    for issued in keys.values():
        headers = {"Authorization": f"Bearer {issued.key}"}
        event_id = api.record(who, said("granted"), headers=headers)["events"][0]["id"]
        assert disclosed(api, event_id)["actor"] == f"api_key:{issued.id}"
    api.services.api_keys.revoke(keys["shop"].id, actor=CLI)
    body = {"subject": who, "choices": [said("withdrawn")]}
    for name, status in (("shop", 401), ("newsletter", 201)):
        headers = {"Authorization": f"Bearer {keys[name].key}"}
        assert api.post(CHOICES, body, headers=headers).status_code == status


def test_no_setting_holds_a_key_that_opens_everything() -> None:
    names = {one.name for one in fields(Settings)} - {"smtp_password"}  # the mail server's
    assert not re.search(r"root|master|token|api_key|password", " ".join(names))


# --- audit records could be deleted or switched off, and their errors were dropped ----------------


def test_audit_cannot_be_switched_off() -> None:
    assert not [one.name for one in fields(Settings) if "audit" in one.name]


def test_act_that_cannot_be_audited_does_not_happen(api: Api) -> None:
    before = api.contents()
    with without_table(api, audit_log.entry.name), pytest.raises(DBAPIError):
        api.services.api_keys.create(name="unseen", scopes=API_SCOPES, actor=CLI)
    assert api.contents() == before


# --- 23: a call did not work as it was documented -------------------------------------------------


SNAPSHOT = "/v1/consent/snapshot?cells=marketing_information:email&by=email"


def test_documented_calls_work_as_documented(shared_api: Api) -> None:
    variables = {"TUTELA": "http://127.0.0.1:8080", "KEY": shared_api.key()["Authorization"][7:]}
    shared_api.record(person(), said("granted"))
    called = set()
    for command in curl.commands_in(ROOT / "docs" / "api.md"):
        feed = shared_api.get("/v1/consent/changes").get_json()
        page = shared_api.get(SNAPSHOT).text.splitlines()[0]
        variables |= {
            "CURSOR": feed["cursor"],
            "EVENT": feed["changes"][0]["id"],
            "EPOCH": json.loads(page)["epoch"],
            "PLACE": json.loads(page)["cursor"],
        }
        answer = curl.run(command, shared_api.client(), variables)
        assert answer.status_code in (200, 201), command
        called.add((answer.request.method, answer.request.path))
    for path, methods in shared_api.get("/openapi.json").get_json()["paths"].items():
        place = re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", path.replace("{path}", ".+")))
        for method in methods.keys() - {"parameters"}:
            shown = {one for one in called if one[0] == method.upper() and place.fullmatch(one[1])}
            assert shown, (method, path)
            called -= shown
    assert not called


# --- 25: IP address and user agent were stored unless somebody forbade it -------------------------


def test_nothing_of_the_connection_is_stored(api: Api, migrated_url: str) -> None:
    address, agent = "203.0.113.77", "SuspiciousBrowser/7.7"
    headers = {
        "User-Agent": agent,
        "X-Forwarded-For": address,
        "X-Real-Ip": address,
        "Forwarded": f"for={address}",
        "Referer": f"https://{address}/",
    }
    recorded = (
        api.client()
        .post(
            CHOICES,
            json={"subject": person(), "choices": [said("granted")]},
            headers=headers | api.key(),
            environ_overrides={"REMOTE_ADDR": address},
            buffered=True,
        )
        .get_json()
    )
    claims = disclosed(api, recorded["events"][0]["id"])
    assert claims.keys() == {"subject", "occurred_at", "method", "actor", "notice"}
    with api.services.database.read() as reader:
        (row,) = reader.execute(select(event_table)).all()
        (opened,) = api.services.cipher.open(reader, [(row.subject_ref, row.id, row.sealed)])
    kept = b" ".join(base64.urlsafe_b64decode(one + b"==") for one in (opened or b"").split())
    assert NOTICE["id"].encode() in kept
    assert address.encode() not in kept
    assert agent.encode() not in kept
    if migrated_url.startswith("sqlite"):
        files = Path(migrated_url.removeprefix("sqlite:///")).parent.glob("migrated.db*")
        stored = b"".join(file.read_bytes() for file in files)
        assert address.encode() not in stored
        assert agent.encode() not in stored


# --- 27: times were 32-bit seconds, and end in January 2038 ---------------------------------------


def test_time_goes_on_after_2038(api: Api) -> None:
    who = person()
    api.clock.set(datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC))
    api.record(who, said("granted"))
    assert api.check(who)["expires_at"] == "2040-01-19T03:14:07.000000Z"
    api.clock.set(datetime(2106, 2, 7, 6, 28, 16, 999999, tzinfo=UTC))
    assert api.check(who)["reason"] == "EXPIRED"
    api.record(who, said("granted"))
    assert api.check(who)["as_of"] == "2106-02-07T06:28:16.999999Z"
    api.clock.set(datetime(9997, 6, 1, tzinfo=UTC))
    api.record(who, said("withdrawn", occurred_at="9997-05-31T23:59:59.999999Z"))
    assert api.check(who)["reason"] == "WITHDRAWN"
    assert api.check(who, as_of="2107-01-01T00:00:00Z")["allow"]
    api.clock.set(datetime(9998, 12, 31, tzinfo=UTC))
    api.record(who, said("granted"))
    # No calendar has the end of this grant, so nothing is known to end it.
    assert api.check(who)["allow"]
    newest = api.get("/v1/consent/changes").get_json()["changes"][-1]
    assert newest["occurred_at"] == "9998-12-31T00:00:00.000000Z"


# --- 28: a write that was not valid was accepted, and dropped later -------------------------------


def test_what_is_accepted_is_recorded_and_what_is_not_is_refused_at_once(shared_api: Api) -> None:
    who = person()
    recorded = []
    for choice, accepted in (
        (said("granted"), True),
        (said("granted", purpose="gone"), False),
        (said("granted", channel="fax"), False),
        (said("granted", notice=None), False),
        (said("refused", notice=None), True),
        (said("granted", occurred_at="yesterday"), False),
        (said("granted", purpose="newsletter", channel="sms"), False),
        (said("objected", purpose="*", channel="*", notice=None), True),
        (said("maybe"), False),
    ):
        answer = shared_api.post(CHOICES, {"subject": who, "choices": [choice]})
        assert answer.status_code == (201 if accepted else 422), choice
        if accepted:
            recorded.append(answer.get_json()["events"][0])
    timeline = shared_api.post(LOOKUP, {"subject": who}).get_json()["timeline"]["events"]
    assert [one["id"] for one in reversed(timeline)] == [one["id"] for one in recorded]
    for one in recorded:
        feed = shared_api.get(f"/v1/consent/changes?cursor={one['index']}&limit=1").get_json()
        assert feed["changes"][0]["id"] == one["id"]
        assert shared_api.get(f"/v1/consent/events/{one['id']}/receipt").status_code == 200
