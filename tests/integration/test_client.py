"""The SDK against the real API, and against a server that fails in every way."""

import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consent.client.choices import Notice, granted, objected, refused, withdrawn
from consent.client.decisions import read_decision
from consent.client.errors import (
    BusyError,
    ClientError,
    FailedError,
    KeyRefusedError,
    LocalReason,
    NotAnsweredError,
    RefusedError,
    UnreadableAnswerError,
)
from consent.client.http import CHUNK, Client
from consent.client.subjects import Subject, email, external_id, phone, ref
from consent.client.transport import Patience, Timing
from policies.permissions import Permission
from tests.fakes.services import MARKETING, Api, person
from tests.fakes.serving import Answer, Asked, Behaviour, scripted, serve, told

NOTICE = Notice("privacy", "3", "en")
KEY = "tutela_abcdefgh_secretsecretsecret"
YES = {
    "allow": True,
    "status": "given",
    "reason": "GRANTED",
    "record_id": "0195f3a0-0000-7000-8000-000000000000",
    "as_of": "2026-03-01T09:00:00.000000Z",
    "expires_at": None,
    "basis": "consent",
    "policy": "sha256:00",
}
PROBLEM = {
    "type": "about:blank",
    "title": "x",
    "status": 422,
    "detail": "Some fields are missing.",
    "reason": "FIELD_INVALID",
    "errors": {"subject": ["malformed"]},
}
RECORDED = {
    "subject": "a" * 26,
    "events": [{"id": "e", "index": 4, "leaf_hash": "x"}],
    "checkpoint": "note",
}


@dataclass
class Still:
    """A clock that only sleeping moves, and a chance that is always its upper bound."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        """Remember, and be later."""
        self.slept.append(seconds)
        self.now += seconds

    def timing(self) -> Timing:
        """For a client."""
        return Timing(lambda: self.now, self.sleep, lambda: 1.0)


@pytest.fixture
def url(shared_api: Api) -> Iterator[str]:
    with serve(shared_api.app) as address:
        yield address


@pytest.fixture
def client(shared_api: Api, url: str) -> Iterator[Client]:
    with Client(url, shared_api.key()["Authorization"][7:]) as made:
        yield made


def someone() -> Subject:
    return email(person()["email"])


def ask(client: Client, subject: Subject | None = None) -> Any:
    return client.check(subject or email("ada@example.com"), MARKETING, "email")


# --- against the service -----------------------------------------------------------------------


def test_a_choice_is_recorded_checked_and_taken_back(client: Client) -> None:
    ada = someone()
    assert ask(client, ada).reason == "SUBJECT_UNKNOWN"
    recorded = client.record(ada, granted(MARKETING, "email", notice=NOTICE))
    decision = ask(client, ada)
    assert decision.allow
    assert bool(decision)
    assert (decision.reason, decision.status, decision.basis) == ("GRANTED", "given", "consent")
    assert decision.record_id == recorded.events[0].id
    assert decision.as_of.tzinfo is UTC
    assert ask(client, ref(recorded.ref)).allow
    client.withdraw(ada)
    after = ask(client, ada)
    assert not after
    assert after.reason == "WITHDRAWN"


def test_every_way_of_naming_a_person_works(client: Client) -> None:
    for one in (someone(), phone("+49 30 9018-2001"), external_id("shop", "C 4711")):
        client.record(one, granted(MARKETING, "email", notice=NOTICE, evidence={"form": "spring"}))
        assert ask(client, one).allow


def test_every_denial_is_recorded_as_what_it_is(client: Client) -> None:
    for choice, reason in (
        (refused(MARKETING, "email", notice=NOTICE), "REFUSED"),
        (withdrawn(MARKETING), "WITHDRAWN"),
        (objected(), "OBJECTED"),
    ):
        one = someone()
        client.record(one, granted(MARKETING, "email", notice=NOTICE))
        client.record(one, choice)
        assert ask(client, one).reason == reason


def test_the_past_is_asked_as_of_an_instant(client: Client) -> None:
    one = someone()
    said = datetime(2025, 5, 1, tzinfo=UTC)
    client.record(one, granted(MARKETING, "email", notice=NOTICE, occurred_at=said))
    assert client.check(one, MARKETING, "email", said).allow
    before = client.check(one, MARKETING, "email", said - timedelta(seconds=1))
    assert before.reason == "NO_RECORD"


def test_an_instant_without_a_zone_is_the_callers_mistake(client: Client) -> None:
    naive = datetime(2025, 5, 1)  # noqa: DTZ001 - the mistake
    with pytest.raises(ValueError, match="time zone"):
        client.check(someone(), MARKETING, "email", naive)
    with pytest.raises(ValueError, match="time zone"):
        client.record(someone(), granted(MARKETING, "email", notice=NOTICE, occurred_at=naive))


def test_a_list_is_answered_in_its_order(client: Client) -> None:
    people = [someone() for _ in range(30)]
    for one in people[::3]:
        client.record(one, granted(MARKETING, "email", notice=NOTICE))
    asked = [*people, email("no address at all"), external_id("shop", "line\nend")]
    answers = list(client.check_many(asked, MARKETING, "email"))
    assert [one.allow for one in answers] == [n % 3 == 0 for n in range(30)] + [False, False]
    assert [one.reason for one in answers[30:]] == ["SUBJECT_INVALID", "SUBJECT_INVALID"]


def test_a_list_of_nobody_is_answered_without_a_question() -> None:
    with scripted(None) as server, Client(server.url, KEY) as client:
        assert list(client.check_many([], MARKETING, "email")) == []
        assert server.asked == []


def test_a_long_list_is_asked_in_parts(client: Client) -> None:
    known = someone()
    client.record(known, granted(MARKETING, "email", notice=NOTICE))
    many = [email(f"nobody-{n}@example.com") for n in range(CHUNK + 1)]
    answers = list(client.check_many([*many, known], MARKETING, "email"))
    assert [place for place, one in enumerate(answers) if one.allow] == [CHUNK + 1]


def test_the_same_act_is_recorded_once(client: Client) -> None:
    one, choice = someone(), granted(MARKETING, "email", notice=NOTICE, evidence={"b": 1, "a": 2})
    first = client.record(one, choice, idempotency_key="form 77".replace(" ", "-"))
    again = granted(MARKETING, "email", notice=NOTICE, evidence={"a": 2, "b": 1})
    second = client.record(one, again, idempotency_key="form-77")
    assert (first.replayed, second.replayed) == (False, True)
    assert first.events == second.events
    with pytest.raises(RefusedError) as conflict:
        client.record(one, withdrawn(), idempotency_key="form-77")
    assert conflict.value.reason == "IDEMPOTENCY_CONFLICT"


def test_a_choice_that_breaks_a_rule_raises_and_names_the_rule(client: Client) -> None:
    with pytest.raises(RefusedError) as refusal:
        client.record(someone(), granted("no_such_purpose", "email", notice=NOTICE))
    assert (refusal.value.status, refusal.value.reason) == (422, "PURPOSE_UNKNOWN")
    assert "choices" in refusal.value.fields


def test_a_malformed_identifier_is_a_no(client: Client) -> None:
    for one in (email("nobody"), phone("12"), external_id("", "x"), ref("x"), email("\ud800@a.b")):
        decision = ask(client, one)
        assert not decision.allow
        assert decision.reason == LocalReason.QUESTION_REFUSED


def test_a_key_without_the_scope_is_a_no(shared_api: Api, url: str) -> None:
    key = shared_api.key([Permission.CONSENT_WRITE])["Authorization"][7:]
    with Client(url, key) as client:
        decision = ask(client)
        assert (decision.allow, decision.reason) == (False, LocalReason.KEY_REFUSED)
        assert "consent.check" in decision.detail
    with (
        Client(url, "tutela_unknown", on_failure="raise") as client,
        pytest.raises(KeyRefusedError),
    ):
        ask(client)


# --- against a server that fails ---------------------------------------------------------------

Fault = tuple[Behaviour, LocalReason, type[ClientError]]
FAULTS: dict[str, Fault] = {
    "hangs up": (None, LocalReason.SERVICE_UNREACHABLE, NotAnsweredError),
    "breaks off": (Answer(200, b'{"allow": tr', stated=500), LocalReason.SERVICE_UNREACHABLE,
                   NotAnsweredError),
    "is busy": (told({}, 503), LocalReason.SERVICE_BUSY, BusyError),
    "throttles": (told({}, 429), LocalReason.SERVICE_BUSY, BusyError),
    "fails": (told({}, 500), LocalReason.SERVICE_FAILED, FailedError),
    "has a failing proxy": (Answer(502, b"<html>"), LocalReason.SERVICE_FAILED, FailedError),
    "refuses the key": (told({}, 401), LocalReason.KEY_REFUSED, KeyRefusedError),
    "lacks the scope": (told(PROBLEM, 403), LocalReason.KEY_REFUSED, KeyRefusedError),
    "refuses": (told(PROBLEM, 422), LocalReason.QUESTION_REFUSED, RefusedError),
    "is elsewhere": (told({}, 404), LocalReason.QUESTION_REFUSED, RefusedError),
    "redirects": (told({}, 302, Location="http://127.0.0.1:1/"), LocalReason.ANSWER_UNREADABLE,
                  UnreadableAnswerError),
    "speaks HTML": (Answer(200, b"<html>yes</html>"), LocalReason.ANSWER_UNREADABLE,
                    UnreadableAnswerError),
    "says nothing": (Answer(200, b""), LocalReason.ANSWER_UNREADABLE, UnreadableAnswerError),
    "says a list": (told([YES]), LocalReason.ANSWER_UNREADABLE, UnreadableAnswerError),
    "says null": (told(None), LocalReason.ANSWER_UNREADABLE, UnreadableAnswerError),
    "says half": (told({"allow": True}), LocalReason.ANSWER_UNREADABLE, UnreadableAnswerError),
    "says 1": (told(YES | {"allow": 1}), LocalReason.ANSWER_UNREADABLE, UnreadableAnswerError),
    "says 'true'": (told(YES | {"allow": "true"}), LocalReason.ANSWER_UNREADABLE,
                    UnreadableAnswerError),
    "has no time": (told(YES | {"as_of": "yesterday"}), LocalReason.ANSWER_UNREADABLE,
                    UnreadableAnswerError),
    "has no zone": (told(YES | {"as_of": "2026-01-01T00:00:00"}), LocalReason.ANSWER_UNREADABLE,
                    UnreadableAnswerError),
    "has an odd reason": (told(YES | {"reason": 7}), LocalReason.ANSWER_UNREADABLE,
                          UnreadableAnswerError),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_whatever_fails_a_check_is_a_no_with_a_reason(name: str) -> None:
    behaviour, reason, error = FAULTS[name]
    timing = Still().timing()
    with scripted(behaviour) as server:
        with Client(server.url, KEY, timing=timing) as client:
            decision = ask(client)
            assert (decision.allow, decision.reason) == (False, reason)
            assert decision.detail
            (listed,) = client.check_many([email("ada@example.com")], MARKETING, "email")
            assert (listed.allow, listed.reason) == (False, reason)
        with Client(server.url, KEY, timing=timing, on_failure="raise") as client:
            with pytest.raises(error):
                ask(client)
            with pytest.raises(error):
                list(client.check_many([email("ada@example.com")], MARKETING, "email"))


def test_nobody_at_the_address_is_a_no() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", KEY, timing=Still().timing()) as client:
        assert ask(client).reason == LocalReason.SERVICE_UNREACHABLE


def test_an_answer_that_does_not_come_is_a_no_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        patience = Patience(read=0.1, total=0.3)
        with Client(address, KEY, patience=patience) as client:
            began = time.monotonic()
            assert ask(client).reason == LocalReason.SERVICE_UNREACHABLE
            assert time.monotonic() - began < 5


def test_an_answer_that_drips_does_not_hold_the_caller() -> None:
    """Each byte comes within the time for the next one; all of them together do not."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                while not ended.wait(0.05):
                    connection.sendall(b"1\r\n \r\n")

        dripping = threading.Thread(target=drip)
        dripping.start()
        patience = Patience(read=5.0, total=0.5, tries=1)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(address, KEY, patience=patience) as client:
            assert ask(client).reason == LocalReason.SERVICE_UNREACHABLE
        ended.set()
        dripping.join()


def test_what_passes_is_waited_for() -> None:
    still = Still()
    with scripted(None, told({}, 503), told({}, 500), told(YES)) as server:
        with Client(server.url, KEY, timing=still.timing()) as client:
            assert ask(client).allow
        assert len(server.asked) == 4
        assert len({one.body for one in server.asked}) == 1
    assert still.slept == [0.1, 0.2, 0.4]


def test_pauses_are_spread_over_all_of_their_bound() -> None:
    patience = Patience(first_pause=1.0, longest_pause=5.0)
    assert [patience.pause(n, lambda: 1.0) for n in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert [patience.pause(n, lambda: 0.0) for n in range(5)] == [0.0] * 5
    assert patience.pause(10_000, lambda: 0.5) == 2.5


def test_the_pause_that_the_service_asks_for_is_kept() -> None:
    still = Still()
    with (
        scripted(told({}, 503, Retry_After="3"), told(YES)) as server,
        Client(server.url, KEY, timing=still.timing()) as client,
    ):
        assert ask(client).allow
    assert still.slept == [3.1]


@pytest.mark.parametrize("date", ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "soon", "٣"])
def test_an_odd_pause_is_none(date: str) -> None:
    still = Still()
    headers = {"Retry-After": date.encode().decode("latin-1")}
    with (
        scripted(Answer(503, b"", headers), told(YES)) as server,
        Client(server.url, KEY, timing=still.timing()) as client,
    ):
        assert ask(client).allow
    assert still.slept == [0.1]


def test_a_pause_that_is_longer_than_the_patience_is_not_begun() -> None:
    still = Still()
    with scripted(told({}, 503, Retry_After="3600")) as server:
        with Client(server.url, KEY, timing=still.timing()) as client:
            assert ask(client).reason == LocalReason.SERVICE_BUSY
        assert len(server.asked) == 1
    assert still.slept == []


def test_what_was_refused_is_not_asked_again() -> None:
    for answer in (told({}, 401), told(PROBLEM, 422), told({}, 302), Answer(200, b"x")):
        with scripted(answer) as server:
            with Client(server.url, KEY, timing=Still().timing()) as client:
                assert not ask(client)
            assert len(server.asked) == 1


def test_one_act_has_one_key_and_one_body_whatever_the_number_of_tries() -> None:
    with scripted(None, told({}, 503), told({}, 500), told(RECORDED, 201)) as server:
        with Client(server.url, KEY, timing=Still().timing()) as client:
            assert client.withdraw(email("ada@example.com")).events[0].index == 4
            client.withdraw(email("ada@example.com"))
        sent = [(one.headers["Idempotency-Key"], one.body) for one in server.asked]
    assert len(set(sent[:4])) == 1
    assert sent[4][0] != sent[0][0], "another act"


def test_a_write_that_failed_says_under_which_key_to_repeat_it() -> None:
    with scripted(None) as server, Client(server.url, KEY, timing=Still().timing()) as client:
        with pytest.raises(NotAnsweredError) as failure:
            client.withdraw(email("ada@example.com"))
        key = failure.value.idempotency_key
        assert key
        with pytest.raises(NotAnsweredError):
            client.withdraw(email("ada@example.com"), idempotency_key=key)
        assert {one.headers["Idempotency-Key"] for one in server.asked} == {key}
        assert len({one.body for one in server.asked}) == 1


@pytest.mark.parametrize("answer", [{}, [], None, {"events": 7}, RECORDED | {"events": [{}]}])
def test_a_write_whose_answer_is_unreadable_is_not_taken_for_done(answer: Any) -> None:
    with scripted(told(answer, 201)) as server, Client(server.url, KEY) as client:
        with pytest.raises(UnreadableAnswerError) as failure:
            client.withdraw(email("ada@example.com"))
        assert failure.value.idempotency_key


def lines(*answers: Any) -> Callable[[Asked], Answer]:
    body = b"".join(json.dumps(one).encode() + b"\n" for one in answers)
    return lambda _: Answer(200, body)


@pytest.mark.parametrize("answers", [[], [YES], [YES, YES, YES], [YES, "yes"], [YES, {}]])
def test_a_list_with_a_wrong_answer_is_denied_as_a_whole(answers: list[Any]) -> None:
    with scripted(lines(*answers)) as server, Client(server.url, KEY) as client:
        told_of = list(client.check_many([email("a@example.com")] * 2, MARKETING, "email"))
    assert [(one.allow, one.reason) for one in told_of] == [(False, "ANSWER_UNREADABLE")] * 2


def test_a_part_that_fails_denies_its_own_people_alone() -> None:
    def by_size(asked: Asked) -> Answer | None:
        count = asked.body.count(b"\n")
        return None if count == CHUNK else lines(*[YES] * count)(asked)

    with scripted(by_size) as server, Client(server.url, KEY, timing=Still().timing()) as client:
        many = [email("a@example.com")] * (CHUNK + 2)
        answers = list(client.check_many(many, MARKETING, "email"))
    assert [one.allow for one in answers] == [False] * CHUNK + [True] * 2


# --- what must not show ------------------------------------------------------------------------


def test_nothing_shows_a_person_or_the_key() -> None:
    secret = "zebra-7731"
    subjects = [
        email(f"{secret}@example.com"),
        phone("+49309018277331"),
        external_id(secret, secret),
        ref(secret),
    ]
    with scripted(told(PROBLEM | {"detail": "x"}, 422), None) as server:
        client = Client(server.url, f"tutela_{secret}", timing=Still().timing())
        shown = [repr(one) for one in (*subjects, client, client.transport)]
        shown.append(repr(granted("p", "email", notice=NOTICE, evidence={"words": secret})))
        for one in subjects:
            shown.append(repr(client.check(one, MARKETING, "email")))
            with pytest.raises(ClientError) as failure:
                client.withdraw(one)
            shown += [repr(failure.value), str(failure.value)]
        assert not [one for one in shown if secret in one or "7731" in one]
        assert all(secret not in one.path for one in server.asked)
        assert "redacted" in repr(client)


def test_a_key_does_not_leave_the_process() -> None:
    client = Client("https://consent.example.com", KEY)
    for one in (client, client.transport):
        with pytest.raises(TypeError, match="API key"):
            pickle.dumps(one)


@pytest.mark.parametrize(
    "url",
    [
        "consent.example.com",
        "ftp://consent.example.com",
        "https://",
        "https://name:password@consent.example.com",
        "https://consent.example.com/?key=1",
        "https://consent.example.com/#x",
        "http://consent.example.com",
        "http://127.0.0.1.example.com",
    ],
)
def test_an_address_to_which_the_key_must_not_go_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"https|address"):
        Client(url, KEY)


def test_a_key_is_sent_in_clear_only_to_whom_it_is_meant() -> None:
    assert Client("http://consent.internal", KEY, allow_http=True).transport.url
    for key in ("", "with space", "line\nend", "ümlaut"):
        with pytest.raises(ValueError, match="API key"):
            Client("https://consent.example.com", key)


def test_a_path_before_the_api_is_kept() -> None:
    with scripted(told(YES)) as server:
        with Client(f"{server.url}/tutela/", KEY) as client:
            assert ask(client)
        assert server.asked[0].path == "/tutela/v1/consent/check"


def test_a_larger_answer_than_any_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consent.client.transport.MOST_BYTES", 1000)
    with scripted(Answer(200, b" " * 2000)) as server, Client(server.url, KEY) as client:
        assert ask(client).reason == LocalReason.ANSWER_UNREADABLE


def test_only_a_literal_true_allows() -> None:
    assert read_decision(YES).allow
    others: list[Any] = [1, "true", [], None, {}]
    for allow in others:
        with pytest.raises(UnreadableAnswerError):
            read_decision(YES | {"allow": allow})


# --- threads and forks -------------------------------------------------------------------------


def test_threads_share_a_client(client: Client) -> None:
    one = someone()
    client.record(one, granted(MARKETING, "email", notice=NOTICE))
    seen: list[bool] = []
    threads = [
        threading.Thread(target=lambda: seen.extend(ask(client, one).allow for _ in range(5)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 40


def test_a_forked_child_uses_connections_of_its_own() -> None:
    with scripted(told(YES)) as server, Client(server.url, KEY) as client:
        assert ask(client)
        child = os.fork()
        if child == 0:
            os._exit(0 if ask(client).allow else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert ask(client)
