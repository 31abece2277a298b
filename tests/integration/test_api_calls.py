"""Every call of the API: what it takes, what it gives, and in which form."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from consent.ledger.checkpoint import open_checkpoint, parse_vkey
from consent.ledger.leaf import timestamp
from consent.ledger.tiles import unbundle
from consent.ledger.tlog_proof import TlogProof
from consent.ledger.tree import leaf_hash
from governance.database import Database
from policies.permissions import API_SCOPES, Permission
from tests.fakes.services import JSON, MARKETING, NDJSON, NOTICE, Api, person, problem, said

DECISION = {"allow", "status", "reason", "record_id", "as_of", "expires_at", "basis", "policy"}
CHANGE = {
    "index",
    "id",
    "subject",
    "type",
    "purpose",
    "channel",
    "state",
    "occurred_at",
    "recorded_at",
}
CHECK = "/v1/consent/check"
BATCH = "/v1/consent/check/batch"
CHOICES = "/v1/consent/choices"
LOOKUP = "/v1/consent/subjects/lookup"
CHANGES = "/v1/consent/changes"
LIST = f"{BATCH}?purpose={MARKETING}&channel=email"


def now(api: Api) -> str:
    return timestamp(api.clock())


# --- check -------------------------------------------------------------------------------------


def test_a_decision_carries_all_that_explains_it(shared_api: Api) -> None:
    who = person()
    recorded = shared_api.record(who, said("granted"))
    assert shared_api.check(who) == {
        "allow": True,
        "status": "given",
        "reason": "GRANTED",
        "record_id": recorded["events"][0]["id"],
        "as_of": now(shared_api),
        "expires_at": "2028-03-01T09:00:00.000000Z",
        "basis": "consent",
        "policy": shared_api.services.policies().hash,
    }


@pytest.mark.parametrize(
    ("state", "status", "reason"),
    [
        ("refused", "refused", "REFUSED"),
        ("withdrawn", "withdrawn", "WITHDRAWN"),
        ("objected", "withdrawn", "OBJECTED"),
    ],
)
def test_every_denial_is_a_no_with_its_reason(
    shared_api: Api, state: str, status: str, reason: str
) -> None:
    who = person()
    shared_api.record(who, said("granted"))
    shared_api.record(who, said(state, notice=None))
    decision = shared_api.check(who)
    assert (decision["allow"], decision["status"], decision["reason"]) == (False, status, reason)
    assert decision["expires_at"] is None


@pytest.mark.parametrize(
    ("asked", "reason", "basis"),
    [
        ({}, "SUBJECT_UNKNOWN", "consent"),
        ({"purpose": "no_such_purpose"}, "PURPOSE_UNKNOWN", None),
        ({"purpose": "newsletter", "channel": "sms"}, "CHANNEL_NOT_COVERED", "consent"),
    ],
)
def test_the_unknown_is_a_no_and_not_an_error(
    shared_api: Api, asked: Any, reason: str, basis: str | None
) -> None:
    decision = shared_api.check(person(), **asked)
    assert decision.keys() == DECISION
    assert (decision["allow"], decision["status"]) == (False, "unknown")
    assert (decision["reason"], decision["basis"], decision["record_id"]) == (reason, basis, None)


def test_a_person_may_be_named_in_four_ways_however_they_are_typed(shared_api: Api) -> None:
    named: list[tuple[Any, Any]] = [
        ({"email": "Élodie.Test@Example.COM"}, {"email": " élodie.test@example.com"}),
        ({"phone": "+49 (30) 901820-7"}, {"phone": "+49309018207"}),
        (
            {"external_id": {"system": "HubSpot", "id": "Ab 1"}},
            {"external_id": {"system": "hubspot", "id": "Ab 1"}},
        ),
    ]
    for typed, otherwise in named:
        ref = shared_api.record(typed, said("granted"))["subject"]
        assert shared_api.check(otherwise)["allow"]
        assert shared_api.check({"ref": ref})["allow"]
        assert shared_api.record({"ref": ref}, said("withdrawn"))["subject"] == ref
        assert shared_api.check(otherwise)["reason"] == "WITHDRAWN"
    assert not shared_api.check({"external_id": {"system": "hubspot", "id": "aB 1"}})["allow"]


def test_a_check_as_of_a_past_instant_sees_what_held_then(shared_api: Api) -> None:
    who = person()
    at = shared_api.clock() - timedelta(days=30)
    shared_api.record(who, said("granted", occurred_at=timestamp(at)))
    shared_api.record(who, said("withdrawn"))
    before = shared_api.check(who, as_of=timestamp(at - timedelta(seconds=1)))
    then = shared_api.check(who, as_of=at.astimezone().isoformat())
    assert (before["allow"], before["reason"]) == (False, "NO_RECORD")
    assert (then["allow"], then["as_of"]) == (True, timestamp(at))
    assert not shared_api.check(who)["allow"]


def test_a_check_as_of_the_future_is_refused(shared_api: Api) -> None:
    body = {"subject": person(), "purpose": MARKETING, "channel": "email"}
    for moment in ("2026-03-01T09:01:01Z", "9999-12-31T23:59:59Z"):
        problem(shared_api.post(CHECK, body | {"as_of": moment}), 422, "AS_OF_IN_FUTURE")
    # A caller's clock may be a little ahead of ours.
    assert shared_api.check(person(), as_of="2026-03-01T09:00:59Z")["as_of"] == now(shared_api)


# --- batch and list ----------------------------------------------------------------------------


def test_a_batch_answers_in_the_order_of_its_subjects(shared_api: Api) -> None:
    yes, no, nobody = person(), person(), person()
    shared_api.record(yes, said("granted"))
    shared_api.record(no, said("refused"))
    subjects = [no, yes, nobody, yes]
    answer = shared_api.post(
        BATCH, {"purpose": MARKETING, "channel": "email", "subjects": subjects}
    )
    assert answer.status_code == 200
    assert answer.mimetype == JSON
    assert answer.json == {"results": [shared_api.check(who) for who in subjects]}


def test_a_batch_of_nobody_answers_nothing(shared_api: Api) -> None:
    answer = shared_api.post(BATCH, {"purpose": MARKETING, "channel": "email", "subjects": []})
    assert answer.json == {"results": []}


def test_a_batch_takes_ten_thousand_and_no_more(shared_api: Api) -> None:
    yes = person()
    shared_api.record(yes, said("granted"))
    subjects = [{"email": f"n{n}@example.com"} for n in range(9_999)] + [yes]
    body = {"purpose": MARKETING, "channel": "email", "subjects": subjects}
    answer = shared_api.post(BATCH, body)
    assert answer.json is not None
    assert [one["allow"] for one in answer.json["results"]] == [False] * 9_999 + [True]
    body["subjects"] = [*subjects, yes]
    refused = problem(shared_api.post(BATCH, body), 422, "FIELD_INVALID")
    assert refused["errors"].keys() == {"subjects"}


def test_a_list_is_answered_line_by_line_as_a_batch_is(shared_api: Api) -> None:
    yes, no, nobody = person(), person(), person()
    shared_api.record(yes, said("granted"))
    shared_api.record(no, said("refused"))
    subjects = [no, yes, nobody, yes]
    lines = "\n".join(json.dumps(who) for who in subjects)
    for body in (lines, lines + "\n", lines.replace("\n", "\r\n")):
        answer = shared_api.post(LIST, body.encode(), content_type=NDJSON)
        assert answer.status_code == 200
        assert answer.mimetype == NDJSON
        assert answer.text.endswith("}\n")
        assert [json.loads(line) for line in answer.text.splitlines()] == [
            shared_api.check(who) for who in subjects
        ]


def test_an_empty_list_has_an_empty_answer(shared_api: Api) -> None:
    answer = shared_api.post(LIST, b"", content_type=NDJSON)
    assert (answer.status_code, answer.data) == (200, b"")


def test_a_line_that_is_no_subject_is_denied_in_its_place(shared_api: Api) -> None:
    yes = person()
    shared_api.record(yes, said("granted"))
    good = json.dumps(yes).encode()
    bad = [
        b"",
        b"null",
        b'{"email": "no address"}',
        b'{"email": "a@example.com", "email": "b@example.com"}',
        b'{"email": "\\u0000@example.com"}',
        b'{"email": "\\ud800@example.com"}',
        b"\xff\xfe",
        b"[" * 3000,
        b"1" * 4000,
        # Longer than a line may be, and in the middle of it what would be a subject by itself.
        b" " * 4097 + good + b" " * 8000 + good,
        b'{"email":"' + b"x" * 5000 + b'@example.com"}',
    ]
    lines = b"\n".join([good, *bad, good]) + b"\n"
    answer = shared_api.post(LIST, lines, content_type=NDJSON)
    decisions = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["reason"] for one in decisions] == [
        "GRANTED",
        *["SUBJECT_INVALID"] * len(bad),
        "GRANTED",
    ]
    assert all(one.keys() == DECISION for one in decisions)
    assert [one["allow"] for one in decisions[1:-1]] == [False] * len(bad)


def test_the_last_line_needs_no_end_however_long_it_is(shared_api: Api) -> None:
    for last in (b"x" * 4096, b"x" * 4097, b"x" * 4098, b"x" * 100_000):
        answer = shared_api.post(LIST, b"{}\n" + last, content_type=NDJSON)
        assert answer.text.count("SUBJECT_INVALID") == 2, len(last)


def test_a_list_of_a_hundred_thousand_lines_is_answered_whole(shared_api: Api) -> None:
    lines = b"".join(b'{"email":"many%d@example.com"}\n' % (n % 5000) for n in range(100_000))
    answer = shared_api.post(LIST, lines, content_type=NDJSON)
    assert answer.data.count(b"\n") == 100_000
    assert answer.data.count(b"SUBJECT_UNKNOWN") == 100_000


class Sabotage(io.RawIOBase):
    """A body of many lines; while it is read, the database loses a table."""

    size = 200_000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._line = b'{"email":"one@example.com"}\n'
        self._sent = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if 0 < self._sent < self.size // 2 <= self._sent + len(buffer):
            with self._database.begin() as session:
                session.connection().exec_driver_sql("DROP TABLE consent_state")
                session.connection().exec_driver_sql("DROP TABLE vault_identifier")
        count = min(len(buffer), self.size - self._sent)
        start = self._sent % len(self._line)
        buffer[:count] = (self._line * (count // len(self._line) + 2))[start:][:count]
        self._sent += count
        return count


def test_a_list_that_fails_half_way_is_an_error_and_not_half_an_answer(api: Api) -> None:
    answer = api.client().post(
        LIST,
        headers=api.key(),
        content_type=NDJSON,
        environ_overrides={
            "wsgi.input": Sabotage(api.services.database),
            "CONTENT_LENGTH": str(Sabotage.size),
        },
        buffered=True,
    )
    assert answer.status_code in (500, 503)
    problem(answer, answer.status_code, (answer.json or {})["reason"])
    assert "allow" not in answer.text


# --- record ------------------------------------------------------------------------------------


def test_recording_answers_with_the_events_and_a_signed_checkpoint_over_them(
    shared_api: Api,
) -> None:
    who = person()
    answer = shared_api.post(
        CHOICES,
        {"subject": who, "choices": [said("granted"), said("refused", channel="sms")]},
    )
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers
    body = answer.json
    assert body is not None
    assert body.keys() == {"subject", "events", "checkpoint"}
    verifier = parse_vkey(shared_api.services.verifier_key)
    checkpoint = open_checkpoint(body["checkpoint"], [verifier])
    first, second = body["events"]
    assert first.keys() == second.keys() == {"id", "index", "leaf_hash"}
    assert second["index"] == first["index"] + 1 == checkpoint.size - 1
    with shared_api.services.database.read() as reader:
        entries = list(shared_api.services.log.entries(reader, first["index"], second["index"] + 1))
    assert [entry.id for entry in entries] == [first["id"], second["id"]]
    assert [base64.b64decode(one["leaf_hash"]) for one in (first, second)] == [
        leaf_hash(entry.leaf) for entry in entries
    ]


def test_all_choices_of_a_request_are_recorded_or_none(shared_api: Api) -> None:
    who = person()
    before = shared_api.contents()
    body = {"subject": who, "choices": [said("granted"), said("granted", purpose="no_such")]}
    refused = problem(shared_api.post(CHOICES, body), 422, "PURPOSE_UNKNOWN")
    assert refused["errors"]["choices"].keys() == {"1"}
    assert shared_api.contents() == before
    assert shared_api.check(who)["reason"] == "SUBJECT_UNKNOWN"


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (said("granted", purpose="no_such"), "PURPOSE_UNKNOWN"),
        (said("granted", purpose="newsletter", channel="sms"), "CHANNEL_NOT_COVERED"),
        (said("granted", notice=None), "CHOICE_INVALID"),
        (said("granted", purpose="*"), "CHOICE_INVALID"),
        (said("granted", channel="*"), "CHOICE_INVALID"),
        (said("granted", evidence={"age": 12.5}), "CHOICE_INVALID"),
        (said("granted", evidence={"age": True}), "CHOICE_INVALID"),
        (said("granted", evidence={"age": -1}), "CHOICE_INVALID"),
        (said("granted", evidence={"words": "x" * 8192}), "CHOICE_INVALID"),
        (
            said(
                "granted",
                occurred_at="2026-02-01T00:00:00Z",
                evidence={"confirmed_at": "2026-01-31T23:59:59Z"},
            ),
            "CHOICE_INVALID",
        ),
    ],
)
def test_a_choice_that_cannot_be_shown_later_is_refused(
    shared_api: Api, choice: Any, reason: str
) -> None:
    before = shared_api.contents()
    answer = shared_api.post(CHOICES, {"subject": person(), "choices": [choice]})
    problem(answer, 422, reason)
    assert shared_api.contents() == before


def test_a_denial_may_speak_for_everything_and_needs_no_words(shared_api: Api) -> None:
    who = person()
    shared_api.record(who, said("granted"), said("granted", channel="sms"))
    bare = {"purpose": "*", "channel": "*", "state": "withdrawn"}
    shared_api.record(who, bare)
    assert shared_api.check(who)["reason"] == "WITHDRAWN"
    assert shared_api.check(who, channel="sms")["reason"] == "WITHDRAWN"


def test_a_ref_that_names_nobody_is_refused(shared_api: Api) -> None:
    before = shared_api.contents()
    body = {"subject": {"ref": "a" * 26}, "choices": [said("withdrawn")]}
    problem(shared_api.post(CHOICES, body), 404, "SUBJECT_UNKNOWN")
    assert shared_api.contents() == before
    assert shared_api.check({"ref": "a" * 26})["reason"] == "SUBJECT_UNKNOWN"


def test_what_is_claimed_of_the_future_counts_from_now(shared_api: Api) -> None:
    who = person()
    recorded = shared_api.record(who, said("granted", occurred_at="9999-12-31T23:59:59.999999Z"))
    looked_up = shared_api.post(LOOKUP, {"subject": who}).json
    assert looked_up is not None
    assert looked_up["timeline"]["events"][0]["occurred_at"] == now(shared_api)
    shared_api.record(who, said("withdrawn"))
    assert not shared_api.check(who)["allow"]
    receipt = shared_api.get(f"/v1/consent/events/{recorded['events'][0]['id']}/receipt")
    disclosed = [
        json.loads(base64.urlsafe_b64decode(one + "=="))
        for one in receipt.get_json(force=True)["tutela:ledgerEntry"]["tutela:disclosures"]
    ]
    assert "9999-12-31T23:59:59.999999Z" in [value for _, _, value in disclosed]


def test_a_whole_number_may_be_written_with_a_point(shared_api: Api) -> None:
    who = person()
    shared_api.record(who, said("granted", evidence={"age": 12.0}))
    assert shared_api.check(who)["reason"] == "CHILD_WITHOUT_AUTHORITY"
    body = json.dumps({"subject": who, "limit": 2e1}).encode()
    assert shared_api.post(LOOKUP, body).status_code == 200


def test_a_double_opt_in_that_the_caller_carried_out_is_in_force(shared_api: Api) -> None:
    asked, confirmed = person(), person()
    at = "2026-02-28T10:00:00Z"
    shared_api.record(asked, said("granted", "newsletter", occurred_at=at))
    evidence = {"confirmed_at": "2026-02-28T11:00:00+01:00"}
    shared_api.record(confirmed, said("granted", "newsletter", occurred_at=at, evidence=evidence))
    assert shared_api.check(asked, purpose="newsletter")["status"] == "requested"
    assert shared_api.check(confirmed, purpose="newsletter")["allow"]


# --- idempotency -------------------------------------------------------------------------------


def test_a_repeated_request_is_one_act_and_has_one_answer(shared_api: Api) -> None:
    body = {"subject": person(), "choices": [said("granted")]}
    headers = {"Idempotency-Key": "order-4711/consent"}
    first = shared_api.post(CHOICES, body, headers=headers)
    before = shared_api.contents()
    again = shared_api.post(CHOICES, body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json is not None
    assert again.json is not None
    assert again.json["events"] == first.json["events"]
    assert again.json["subject"] == first.json["subject"]
    assert shared_api.contents() == before


def test_one_key_for_two_bodies_is_a_conflict(shared_api: Api) -> None:
    headers = {"Idempotency-Key": "k" * 255}
    who = person()
    shared_api.record(who, said("granted"), headers=headers)
    before = shared_api.contents()
    other = {"subject": who, "choices": [said("withdrawn")]}
    problem(shared_api.post(CHOICES, other, headers=headers), 409, "IDEMPOTENCY_CONFLICT")
    assert shared_api.contents() == before
    assert shared_api.check(who)["allow"]


def test_a_key_that_failed_may_be_used_again(shared_api: Api) -> None:
    headers = {"Idempotency-Key": "retry-after-mistake"}
    who = person()
    wrong = {"subject": who, "choices": [said("granted", notice=None)]}
    problem(shared_api.post(CHOICES, wrong, headers=headers), 422, "CHOICE_INVALID")
    shared_api.record(who, said("granted"), headers=headers)


def test_keys_of_two_callers_do_not_meet(shared_api: Api) -> None:
    headers = {"Idempotency-Key": "the-same"}
    who = person()
    shared_api.record(who, said("granted"), headers=headers)
    other = shared_api.key({Permission.CONSENT_WRITE})
    shared_api.record(who, said("withdrawn"), headers=headers | other)
    assert shared_api.check(who)["reason"] == "WITHDRAWN"


def test_an_idempotency_key_is_kept_for_a_day(api: Api) -> None:
    headers = {"Idempotency-Key": "daily"}
    who = person()
    first = api.record(who, said("granted"), headers=headers)
    api.clock.advance(timedelta(hours=23, minutes=59))
    assert api.record(who, said("granted"), headers=headers)["events"] == first["events"]
    api.clock.advance(timedelta(minutes=2))
    assert api.record(who, said("granted"), headers=headers)["events"] != first["events"]


def test_the_same_request_sent_by_many_threads_at_once_is_one_act(shared_api: Api) -> None:
    who = person()
    headers = {"Idempotency-Key": "all-at-once"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: shared_api.record(who, said("granted"), headers=headers), range(16))
        )
    assert len({answer["events"][0]["id"] for answer in answers}) == 1


# --- look-up -----------------------------------------------------------------------------------


def test_a_look_up_gives_every_decision_and_the_timeline(shared_api: Api) -> None:
    who = person()
    recorded = shared_api.record(who, said("granted"), said("objected", channel="sms"))
    answer = shared_api.post(LOOKUP, {"subject": who})
    assert answer.status_code == 200
    body = answer.json
    assert body is not None
    assert body.keys() == {"ref", "matrix", "timeline"}
    assert body["ref"] == recorded["subject"]
    rules = shared_api.services.policies().purposes.values()
    cells = {(one.pop("purpose"), one.pop("channel")): one for one in body["matrix"]}
    assert cells.keys() == {(rule.key, channel) for rule in rules for channel in rule.channels}
    for (purpose, channel), decision in cells.items():
        assert decision == shared_api.check(who, purpose=purpose, channel=channel)
    newest, oldest = body["timeline"]["events"]
    assert newest.keys() == CHANGE
    assert (newest["state"], newest["channel"]) == ("objected", "sms")
    assert (oldest["id"], oldest["index"]) == (
        recorded["events"][0]["id"],
        recorded["events"][0]["index"],
    )
    assert body["timeline"]["cursor"] is None


def test_a_long_timeline_is_read_in_pages_without_gap_or_repeat(shared_api: Api) -> None:
    who = person()
    states = ["granted", "withdrawn"]
    recorded = shared_api.record(who, *[said(states[n % 2]) for n in range(11)])
    read: list[str] = []
    cursor: str | None = None
    for size in (4, 4, 3):
        body = {"subject": who, "limit": 4} | ({"cursor": cursor} if cursor else {})
        timeline = (shared_api.post(LOOKUP, body).json or {})["timeline"]
        assert len(timeline["events"]) == size
        read += [event["id"] for event in timeline["events"]]
        cursor = timeline["cursor"]
    assert cursor is None
    assert read == [event["id"] for event in reversed(recorded["events"])]


def test_whom_nobody_knows_is_not_found(shared_api: Api) -> None:
    before = shared_api.contents()
    for subject in (person(), {"ref": "b" * 26}, {"phone": "+4930901820"}):
        answer = shared_api.post(LOOKUP, {"subject": subject})
        problem(answer, 404, "SUBJECT_UNKNOWN")
    assert shared_api.contents() == before


# --- change feed -------------------------------------------------------------------------------


def test_the_feed_gives_every_event_once_and_in_order(api: Api) -> None:
    people = [person() for _ in range(7)]
    recorded = [api.record(who, said("granted"))["events"][0] for who in people]
    read: list[Any] = []
    cursor = ""
    for size, more in ((3, True), (3, True), (1, False), (0, False)):
        answer = api.get(f"{CHANGES}?limit=3{cursor}")
        assert answer.status_code == 200
        page = answer.json
        assert page is not None
        assert page.keys() == {"changes", "cursor", "more"}
        assert (len(page["changes"]), page["more"]) == (size, more)
        read += page["changes"]
        cursor = f"&cursor={page['cursor']}"
    assert [(one["id"], one["index"]) for one in read] == [
        (event["id"], event["index"]) for event in recorded
    ]
    assert all(one.keys() == CHANGE for one in read)
    assert cursor == "&cursor=7"


def test_a_cursor_beyond_the_end_is_refused_so_that_its_holder_starts_over(
    shared_api: Api,
) -> None:
    for cursor in ("999999999", "9" * 18):
        problem(shared_api.get(f"{CHANGES}?cursor={cursor}"), 422, "CURSOR_INVALID")


def test_whoever_waits_for_news_gets_it_when_it_comes(api: Api) -> None:
    who = person()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.get, f"{CHANGES}?wait=20")
        while api.app.extensions["tutela.consent"].long_polls._value == 4:
            assert not waiting.done()
        api.record(who, said("granted"))
        page = waiting.result(timeout=15).json
    assert page is not None
    assert [change["state"] for change in page["changes"]] == ["granted"]


def test_whoever_finds_all_waiting_places_taken_is_answered_at_once(api: Api) -> None:
    polls = api.app.extensions["tutela.consent"].long_polls
    while polls.acquire(blocking=False):
        pass
    page = api.get(f"{CHANGES}?wait=25").json
    assert page == {"changes": [], "cursor": "0", "more": False}


# --- receipts ----------------------------------------------------------------------------------


def test_a_receipt_comes_in_three_forms(shared_api: Api) -> None:
    event = shared_api.record(person(), said("granted"))["events"][0]
    address = f"/v1/consent/events/{event['id']}/receipt"
    for query, media_type in (
        ("", "application/ld+json"),
        ("?format=ts27560", "application/ld+json"),
        ("?format=kantara", "application/json"),
        ("?format=tlog-proof", "text/plain"),
    ):
        answer = shared_api.get(address + query)
        assert (answer.status_code, answer.mimetype) == (200, media_type)
    proof = TlogProof.parse(shared_api.get(f"{address}?format=tlog-proof").text)
    assert proof.index == event["index"]
    assert leaf_hash(proof.extra or b"") == base64.b64decode(event["leaf_hash"])
    assert shared_api.get(f"/v1/consent/events/{event['id'].upper()}/receipt").status_code == 200


def test_evidence_is_disclosed_to_those_who_may_see_it(shared_api: Api) -> None:
    evidence = {"form": "spring-fair", "page": 7.5, "seen": [1, None, {"deep": True}]}
    event = shared_api.record(person(), said("granted", evidence=evidence))["events"][0]
    address = f"/v1/consent/events/{event['id']}/receipt"

    def disclosed(headers: dict[str, str]) -> dict[str, Any]:
        receipt = json.loads(shared_api.get(address, headers=headers).text)
        return {
            name: value
            for _, name, value in (
                json.loads(base64.urlsafe_b64decode(one + "=="))
                for one in receipt["tutela:ledgerEntry"]["tutela:disclosures"]
            )
        }

    assert disclosed(shared_api.key())["evidence"] == evidence
    shown = disclosed(shared_api.key(API_SCOPES - {Permission.EVIDENCE_READ}))
    assert "evidence" not in shown
    assert shown["notice"] == NOTICE


def test_an_event_that_never_was_has_no_receipt(shared_api: Api) -> None:
    for form in ("ts27560", "kantara", "tlog-proof"):
        address = f"/v1/consent/events/01a2013e-3610-7233-a1c9-2a1f55281f18/receipt?format={form}"
        problem(shared_api.get(address), 404, "EVENT_UNKNOWN")


def test_what_was_erased_is_gone_but_still_proved(api: Api) -> None:
    event = api.record(person(), said("granted"))["events"][0]
    with api.services.database.begin() as session:
        session.connection().exec_driver_sql("DELETE FROM consent_event")
    address = f"/v1/consent/events/{event['id']}/receipt"
    problem(api.get(address), 410, "EVIDENCE_ERASED")
    problem(api.get(f"{address}?format=kantara"), 410, "EVIDENCE_ERASED")
    assert api.get(f"{address}?format=tlog-proof").status_code == 200


# --- the log -----------------------------------------------------------------------------------


def test_the_log_is_open_to_everyone(shared_api: Api) -> None:
    recorded = shared_api.record(person(), said("granted"))
    anyone = shared_api.client()
    note = anyone.get("/log/checkpoint")
    assert (note.status_code, note.mimetype) == (200, "text/plain")
    assert note.headers["Cache-Control"] == "no-cache"
    checkpoint = open_checkpoint(note.text, [parse_vkey(shared_api.services.verifier_key)])
    width = min(checkpoint.size, 255)
    hashes = anyone.get(f"/log/tile/0/000.p/{width}")
    entries = anyone.get(f"/log/tile/entries/000.p/{width}")
    assert hashes.mimetype == entries.mimetype == "application/octet-stream"
    assert hashes.headers["Cache-Control"] == "public, max-age=60"
    leaves = unbundle(entries.data)
    assert hashes.data == b"".join(leaf_hash(leaf) for leaf in leaves)
    if recorded["events"][0]["index"] < width:
        assert recorded["events"][0]["id"] in leaves[recorded["events"][0]["index"]].decode()


def test_a_full_tile_may_be_kept_for_good(api: Api) -> None:
    api.record(person(), *[said("refused", notice=None) for _ in range(200)])
    api.record(person(), *[said("refused", notice=None) for _ in range(57)])
    for path in ("0/000", "entries/000"):
        tile = api.client().get(f"/log/tile/{path}")
        assert tile.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert len(api.client().get("/log/tile/1/000.p/1").data) == 32
    assert len(api.client().get("/log/tile/0/001.p/1").data) == 32
    problem(api.client().get("/log/tile/0/001.p/2"), 404, "TILE_UNKNOWN")


def test_a_ledger_that_was_rolled_back_answers_503_and_signs_nothing(api: Api) -> None:
    who = person()
    api.record(who, said("granted"))
    origin = api.services.notary.origin
    last = api.services.checkpoints.last(origin)
    assert last is not None
    for _ in range(3):
        api.record(who, said("granted"))
    rolled_back = "DELETE FROM ledger_entry WHERE idx > 0"
    with api.services.database.begin() as session:
        connection = session.connection()
        if api.services.database.dialect == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER ledger_entry_refuses_delete")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        connection.exec_driver_sql(rolled_back)
        connection.exec_driver_sql(
            f"UPDATE ledger_head SET size = 1, frontier = {_literal(last.root, api)}"
        )
    before = api.contents()
    body = {"subject": who, "choices": [said("withdrawn")]}
    problem(api.post(CHOICES, body), 503, "LEDGER_ROLLED_BACK")
    problem(api.client().get("/log/checkpoint"), 503, "LEDGER_ROLLED_BACK")
    assert api.contents() == before


def _literal(data: bytes, api: Api) -> str:
    return f"x'{data.hex()}'" if api.services.database.dialect == "sqlite" else f"'\\x{data.hex()}'"


# --- what every answer has ---------------------------------------------------------------------


def test_no_answer_about_people_may_be_kept_by_anyone_between(shared_api: Api) -> None:
    who = person()
    shared_api.record(who, said("granted"))
    for answer in (
        shared_api.post(CHECK, {"subject": who, "purpose": MARKETING, "channel": "email"}),
        shared_api.post(LOOKUP, {"subject": who}),
        shared_api.get(CHANGES),
        shared_api.post(LIST, b"{}", content_type=NDJSON),
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
