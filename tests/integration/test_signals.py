"""Browser signals: what is one, what it stops, and what is recorded of it."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from consent.signals import asserts_gpc
from policies.permissions import Permission
from policies.vocabulary import Signal
from tests.fakes.services import Api, person, problem, said

SIGNALS = "/v1/consent/signals"
SALE = "data_sale"
HEEDING = ["audience_sharing", "data_sale", "personalised_advertising"]


@pytest.mark.parametrize(
    ("field", "asserted"),
    [
        ("1", True),
        ("1,1", True),
        ("0, 1", True),
        (" 1\t", True),
        (None, False),
        ("", False),
        ("0", False),
        ("11", False),
        ("1.0", False),
        ('"1"', False),
        ("1;q=1", False),
        ("true", False),
        ("1 1", False),
        ("１", False),  # noqa: RUF001 - a digit, and not the one
        ("¹", False),
    ],
)
def test_the_header_opts_out_if_one_of_its_values_is_exactly_one(
    field: str | None, asserted: bool
) -> None:
    assert asserts_gpc(field) is asserted


def report(api: Api, value: str = "1", **more: Any) -> Any:
    answer = api.post(SIGNALS, {"signal": "gpc", "value": value, **more})
    assert answer.status_code == 200, answer.text
    return answer.json


def may_sell(api: Api, subject: Any) -> str:
    return str(api.check(subject, purpose=SALE)["reason"])


def test_a_signal_stops_what_heeds_it_and_nothing_else(api: Api) -> None:
    alice = person()
    api.record(alice, said("granted", SALE), said("granted"))
    assert may_sell(api, alice) == "GRANTED"
    api.clock.advance(timedelta(minutes=1))
    told = report(api, subject=alice)
    (one,) = told["subjects"]
    assert (told["honoured"], told["purposes"]) == (True, HEEDING)
    assert (one["in_force"], one["recorded"], one["conflicts"]) == (True, True, [SALE])
    assert may_sell(api, alice) == "SIGNAL_OPT_OUT"
    # European consent, which no policy ties to the signal, stands as it did.
    assert api.check(alice)["reason"] == "GRANTED"


def test_it_is_recorded_when_it_changes_something_and_not_with_each_request(api: Api) -> None:
    alice = person()
    (first,) = report(api, subject=alice)["subjects"]
    before = api.contents()
    for _ in range(3):
        (again,) = report(api, subject=alice)["subjects"]
        assert (again["recorded"], again["record_id"]) == (False, first["record_id"])
    assert api.contents() == before


def test_a_browser_and_the_person_who_uses_it_are_opted_out_together(api: Api) -> None:
    alice, browser = person(), "b-123"
    api.record(alice, said("granted", SALE))
    told = report(api, subject=alice, browser=browser)
    assert len({one["subject"] for one in told["subjects"]}) == 2
    assert may_sell(api, alice) == "SIGNAL_OPT_OUT"
    named = {"external_id": {"system": "browser", "id": browser}}
    assert may_sell(api, named) == "SIGNAL_OPT_OUT"


@pytest.mark.parametrize("value", ["0", "", "2", "true", "1 ; 1", "1\u200b"])
def test_what_is_no_signal_changes_nothing_and_makes_nobody(api: Api, value: str) -> None:
    before = api.contents()
    told = report(api, value, subject=person(), browser="b-9")
    assert (told["honoured"], told["subjects"]) == (False, [])
    assert api.contents() == before


def test_its_absence_later_is_no_opt_in(api: Api) -> None:
    alice = person()
    api.record(alice, said("granted", SALE))
    report(api, subject=alice)
    api.clock.advance(timedelta(days=300))
    report(api, "0", subject=alice)
    assert may_sell(api, alice) == "SIGNAL_OPT_OUT"
    # Nor is another yes: the person was not asked about the conflict.
    api.record(alice, said("granted", SALE))
    assert may_sell(api, alice) == "SIGNAL_OPT_OUT"


def test_who_says_that_their_yes_stands_is_not_opted_out_by_the_same_signal_again(api: Api) -> None:
    alice = person()
    ref = api.record(alice, said("granted", SALE))["subject"]
    report(api, subject=alice)
    api.clock.advance(timedelta(minutes=1))
    signals = api.services.signals
    assert signals.lift(ref, Signal.GPC, actor="person:code")
    assert may_sell(api, alice) == "GRANTED"
    api.clock.advance(timedelta(minutes=1))
    (one,) = report(api, subject=alice)["subjects"]
    assert (one["in_force"], one["recorded"]) == (False, False)
    assert may_sell(api, alice) == "GRANTED"
    assert not signals.lift(ref, Signal.GPC, actor="person:code")
    # What they say by another way still counts.
    api.record(alice, said("withdrawn", SALE))
    assert may_sell(api, alice) == "WITHDRAWN"


def test_many_reports_at_once_are_one_event(api: Api) -> None:
    alice = person()
    start = threading.Barrier(6)
    told: list[Any] = []

    def send() -> None:
        start.wait()
        told.append(report(api, subject=alice))

    senders = [threading.Thread(target=send) for _ in range(6)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(told) == 6
    assert len({one["subjects"][0]["record_id"] for one in told}) == 1
    with api.services.database.read() as reader:
        assert api.services.log.frontier(reader).size == 1


def test_a_signal_takes_a_scope_of_its_own_and_tells_no_choices_without_another(api: Api) -> None:
    alice = person()
    api.record(alice, said("granted", SALE))
    body = {"signal": "gpc", "value": "1", "subject": alice}

    def send(scope: Permission) -> TestResponse:
        return api.client().post(SIGNALS, json=body, headers=api.key([scope]))

    problem(send(Permission.CONSENT_WRITE), 403, "PERMISSION_DENIED")
    told = send(Permission.SIGNALS_REPORT).json
    assert told is not None
    assert told["subjects"][0]["conflicts"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"signal": "gpc", "value": "1"},
        {"signal": "dnt", "value": "1", "browser": "b"},
        {"signal": "gpc", "value": 1, "browser": "b"},
        {"signal": "gpc", "value": "1" * 201, "browser": "b"},
        {"signal": "gpc", "value": "1", "browser": ""},
        {"signal": "gpc", "value": "1", "browser": "b", "more": 1},
        {"signal": "gpc", "value": "1", "subject": {"email": "no address"}},
        {"signal": "unclear_reply", "value": "1", "browser": "b"},
    ],
)
def test_a_malformed_report_is_refused_and_changes_nothing(api: Api, body: Any) -> None:
    before = api.contents()
    problem(api.post(SIGNALS, body), 422, "FIELD_INVALID")
    assert api.contents() == before


def test_a_ref_that_names_nobody_is_not_found(api: Api) -> None:
    body = {"signal": "gpc", "value": "1", "subject": {"ref": "a" * 26}}
    problem(api.post(SIGNALS, body), 404, "SUBJECT_UNKNOWN")


def test_what_is_said_of_the_signal_is_what_the_policy_does(api: Api) -> None:
    answer = api.client().get("/.well-known/gpc.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.json == {"gpc": True, "lastUpdate": "2026-11-24"}
