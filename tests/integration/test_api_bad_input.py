"""What the API refuses: with a reason, without a trace, and without repeating what was sent."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.fakes.services import MARKETING, NDJSON, NOTICE, Api, person, problem, said

CHECK = "/v1/consent/check"
BATCH = "/v1/consent/check/batch"
CHOICES = "/v1/consent/choices"
LOOKUP = "/v1/consent/subjects/lookup"
PROOF = "/v1/consent/events/01a2013e-3610-7233-a1c9-2a1f55281f18/proof"
CHANGES = "/v1/consent/changes"
LIST = f"{BATCH}?purpose={MARKETING}&channel=email"
POSTS = (CHECK, BATCH, CHOICES, LOOKUP, PROOF)

MARK = "zebra-7731"
"""Stands in every bad value, so that an answer that repeats it is noticed."""


@contextmanager
def nothing_changes(api: Api) -> Iterator[None]:
    """What is sent inside leaves no row behind."""
    api.key()
    before = api.contents()
    yield
    assert api.contents() == before


def refused(answer: TestResponse, status: int, reason: str) -> Any:
    """A problem that repeats nothing."""
    assert MARK not in answer.text
    assert not any(MARK in value for _, value in answer.headers)
    return problem(answer, status, reason)


def good(path: str) -> dict[str, Any]:
    """A body that the call accepts."""
    asked = {"purpose": MARKETING, "channel": "email"}
    bodies: dict[str, dict[str, Any]] = {
        CHECK: {"subject": person(), **asked},
        BATCH: {"subjects": [person()], **asked},
        CHOICES: {"subject": person(), "choices": [said("granted")]},
        LOOKUP: {"subject": person()},
        PROOF: asked,
    }
    return bodies[path]


def text_of(path: str) -> str:
    return json.dumps(good(path))


# --- bodies that are not strict JSON -----------------------------------------------------------

MALFORMED = {
    "nothing": (b"", "BODY_NOT_JSON"),
    "words": (MARK.encode(), "BODY_NOT_JSON"),
    "half": (b'{"subject": {"email": "zebra-7731', "BODY_NOT_JSON"),
    "two values": (b'{"a": 1} {"zebra-7731": 2}', "BODY_NOT_JSON"),
    "NaN": (b'{"zebra-7731": NaN}', "BODY_NOT_JSON"),
    "Infinity": (b'{"zebra-7731": Infinity}', "BODY_NOT_JSON"),
    "minus Infinity": (b'{"zebra-7731": -Infinity}', "BODY_NOT_JSON"),
    "a number beyond all": (b'{"zebra-7731": 1e999}', "BODY_NOT_JSON"),
    "a number of 5,000 digits": (b'{"zebra-7731": ' + b"7" * 5000 + b"}", "BODY_NOT_JSON"),
    "a comma too many": (b'{"zebra-7731": 1,}', "BODY_NOT_JSON"),
    "single quotes": (b"{'zebra-7731': 1}", "BODY_NOT_JSON"),
    "a raw line end in a string": (b'{"zebra-7731": "a\nb"}', "BODY_NOT_JSON"),
    "a raw NUL": (b'{"zebra-7731": "a\x00b"}', "BODY_NOT_JSON"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "BODY_NOT_JSON"),
    "Latin-1": ('{"zebra-7731": "ü"}'.encode("latin-1"), "BODY_NOT_UTF8"),
    "UTF-16": ('{"zebra-7731": "ü"}'.encode("utf-16"), "BODY_NOT_UTF8"),
    "a surrogate in bytes": (b'{"zebra-7731": "\xed\xa0\x80"}', "BODY_NOT_UTF8"),
    "an overlong form": (b'{"zebra-7731": "\xc0\x80"}', "BODY_NOT_UTF8"),
    "a lone surrogate": (b'{"zebra-7731": "\\ud800"}', "BODY_NOT_JSON"),
    "a surrogate as a key": (b'{"\\udfff": "zebra-7731"}', "BODY_NOT_JSON"),
    "an escaped NUL": (b'{"zebra-7731": "\\u0000"}', "BODY_HAS_NUL"),
    "an escaped NUL in a key": (b'{"zebra-7731\\u0000": 1}', "BODY_HAS_NUL"),
    "a NUL behind a backslash": (b'{"zebra-7731": "\\\\\\u0000"}', "BODY_HAS_NUL"),
    "a key twice": (b'{"zebra-7731": 1, "zebra-7731": 2}', "BODY_DUPLICATE_KEY"),
    "a key twice, deep": (b'{"a": [{"zebra-7731": 1, "zebra-7731": 1}]}', "BODY_DUPLICATE_KEY"),
    "a key twice, escaped": (b'{"zebra-7731": 1, "\\u007aebra-7731": 1}', "BODY_DUPLICATE_KEY"),
    "deep lists": (b"[" * 20_000 + b"]" * 20_000, "BODY_TOO_DEEP"),
    "deep objects": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "BODY_TOO_DEEP"),
    "deep lists, open": (b"[" * 60_000, "BODY_TOO_DEEP"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_not_strict_json_is_refused(shared_api: Api, name: str) -> None:
    body, reason = MALFORMED[name]
    with nothing_changes(shared_api):
        for path in POSTS:
            refused(shared_api.post(path, body), 400, reason)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"zebra-7731"', b"1", b"true", b"[1,2]"])
def test_a_body_that_is_no_object_is_refused(shared_api: Api, body: bytes) -> None:
    with nothing_changes(shared_api):
        for path in POSTS:
            refused(shared_api.post(path, body), 422, "FIELD_INVALID")


def test_a_backslash_before_an_escape_is_text_and_no_escape(shared_api: Api) -> None:
    words = "C:\\u0000 and \\ud800"
    recorded = shared_api.record(person(), said("granted", evidence={"words": words}))
    assert recorded["events"]


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/jsonx",
        "application/json-seq",
        "application/problem+json",
        MARK,
    ],
)
def test_a_body_of_another_media_type_is_refused(shared_api: Api, media_type: str) -> None:
    with nothing_changes(shared_api):
        for path in POSTS:
            answer = shared_api.post(path, good(path), content_type=media_type)
            refused(answer, 415, "MEDIA_TYPE_UNSUPPORTED")


def test_parameters_of_the_media_type_do_not_matter(shared_api: Api) -> None:
    for media_type in ("application/json; charset=utf-8", "Application/JSON;x=y"):
        assert shared_api.post(CHECK, good(CHECK), content_type=media_type).status_code == 200


# --- size --------------------------------------------------------------------------------------

LIMITS = {
    **dict.fromkeys((CHECK, LOOKUP, PROOF), 64 * 1024),
    CHOICES: 1024 * 1024,
    BATCH: 8 * 1024 * 1024,
}


@pytest.mark.parametrize("path", POSTS)
def test_a_body_is_taken_up_to_its_limit_and_not_a_byte_beyond(shared_api: Api, path: str) -> None:
    body = text_of(path).encode()
    exact = body + b" " * (LIMITS[path] - len(body))
    expected = {CHECK: 200, BATCH: 200, CHOICES: 201, LOOKUP: 404, PROOF: 404}[path]
    assert shared_api.post(path, exact).status_code == expected
    with nothing_changes(shared_api):
        for more in (b" ", b" " * 100_000):
            refused(shared_api.post(path, exact + more), 413, "REQUEST_ENTITY_TOO_LARGE")


def test_a_list_beyond_its_limit_is_refused_before_it_is_read(shared_api: Api) -> None:
    class Untouched:
        def read(self, _: int = -1) -> bytes:
            raise AssertionError("the body was read")

    answer = shared_api.client().post(
        LIST,
        headers=shared_api.key(),
        content_type=NDJSON,
        environ_overrides={"wsgi.input": Untouched(), "CONTENT_LENGTH": str(64 * 1024 * 1024 + 1)},
        buffered=True,
    )
    refused(answer, 413, "REQUEST_ENTITY_TOO_LARGE")


# --- members -----------------------------------------------------------------------------------

WRONG_VALUES: list[Any] = [None, True, 7, 1.5, "", MARK, [], [MARK], {}, {"zebra-7731": MARK}]
FIELDS = {
    CHECK: ("subject", "purpose", "channel", "as_of"),
    BATCH: ("subjects", "purpose", "channel"),
    CHOICES: ("subject", "choices"),
    LOOKUP: ("subject", "cursor", "limit"),
    PROOF: ("purpose", "channel", "as_of"),
}


@pytest.mark.parametrize(
    ("path", "field"), [(path, one) for path in FIELDS for one in FIELDS[path]]
)
def test_a_value_of_the_wrong_type_is_named_and_not_repeated(
    shared_api: Api, path: str, field: str
) -> None:
    with nothing_changes(shared_api):
        for value in WRONG_VALUES:
            if (field, value) in (("limit", 7), ("subjects", [])):
                continue  # those are good
            body = good(path) | {field: value}
            found = refused(shared_api.post(path, body), 422, "FIELD_INVALID")
            assert field in found["errors"], value


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (CHECK, "subject"),
        (CHECK, "purpose"),
        (CHECK, "channel"),
        (BATCH, "subjects"),
        (BATCH, "purpose"),
        (BATCH, "channel"),
        (CHOICES, "subject"),
        (CHOICES, "choices"),
        (LOOKUP, "subject"),
        (PROOF, "purpose"),
        (PROOF, "channel"),
    ],
)
def test_a_member_that_is_missing_is_named(shared_api: Api, path: str, field: str) -> None:
    body = good(path)
    del body[field]
    with nothing_changes(shared_api):
        found = refused(shared_api.post(path, body), 422, "FIELD_INVALID")
    assert found["errors"].keys() == {field}


@pytest.mark.parametrize("path", POSTS)
def test_a_member_too_many_is_refused(shared_api: Api, path: str) -> None:
    with nothing_changes(shared_api):
        found = refused(shared_api.post(path, good(path) | {"prupose": MARK}), 422, "FIELD_INVALID")
        assert found["errors"] == {"prupose": ["Unknown field."]}
        # A name that could be no field's may be anything, a person's address too.
        for name in (MARK, "zebra-7731@example.com", "Zebra-7731 " * 2000):
            found = refused(shared_api.post(path, good(path) | {name: 1}), 422, "FIELD_INVALID")
            assert list(found["errors"].values()) == [["Unknown field."]]


BAD_SUBJECTS: list[Any] = [
    {"email": MARK},
    {"email": f"{MARK}@localhost"},
    {"email": f"{MARK}@example..com"},
    {"email": f"{MARK} x@example.com"},
    {"email": f"{MARK}\n@example.com"},
    {"email": f"{MARK}@example.com\r\nBcc: all@example.com"},
    {"email": f"{MARK}@" + "x" * 250 + ".com"},
    {"email": "x" * 65 + f"{MARK}@example.com"},
    {"email": f"{MARK}\u202e@example.com"},
    {"email": [f"{MARK}@example.com"]},
    {"phone": "030 7731 zebra-7731"},
    {"phone": "+0773173117731"},
    {"phone": "+77"},
    {"phone": "+" + "7731" * 5},
    {"phone": "+٧٧٣١٧٧٣١٧٧٣١"},
    {"phone": 4930901820},
    {"ref": MARK},
    {"ref": "A" * 26},
    {"ref": "a" * 26 + "\n"},
    {"ref": "1" * 26},
    {"external_id": MARK},
    {"external_id": {"system": "hubspot"}},
    {"external_id": {"system": "hubspot", "id": ""}},
    {"external_id": {"system": "hubspot", "id": "   "}},
    {"external_id": {"system": "hubspot", "id": MARK * 30}},
    {"external_id": {"system": "hubspot", "id": 7731}},
    {"external_id": {"system": "hubspot", "id": f"{MARK}\x1b[2J"}},
    {"external_id": {"system": f"{MARK} ä", "id": "1"}},
    {"external_id": {"system": "hubspot\n", "id": f"{MARK}\n{MARK}"}},
    {"external_id": {"system": "hubspot", "id": "1", "zebra-7731": MARK}},
    {"email": "a@example.com", "phone": "+4930901820"},
    {"name": MARK},
    {},
]


@pytest.mark.parametrize("subject", BAD_SUBJECTS)
def test_a_subject_that_names_nobody_is_refused(shared_api: Api, subject: Any) -> None:
    sent = [value for value in _strings(subject) if len(value) > 3]
    with nothing_changes(shared_api):
        for path in (CHECK, CHOICES, LOOKUP):
            answer = shared_api.post(path, good(path) | {"subject": subject})
            found = refused(answer, 422, "FIELD_INVALID")
            assert found["errors"].keys() == {"subject"}
            assert not [value for value in sent if value in answer.text]
        answer = shared_api.post(BATCH, good(BATCH) | {"subjects": [person(), subject]})
        assert refused(answer, 422, "FIELD_INVALID")["errors"]["subjects"].keys() == {"1"}


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    return [text for inner in value for text in _strings(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "purpose",
    [
        f"{MARK}",
        "Marketing",
        "marketing_information\n",
        " marketing_information",
        "marketing..information",
        "marketing.",
        "a" * 65,
        "márketing",
        "*",
        "marketing_information\u0085",
    ],
)
def test_what_has_not_the_form_of_a_purpose_is_refused(shared_api: Api, purpose: str) -> None:
    with nothing_changes(shared_api):
        for path in (CHECK, BATCH, PROOF):
            answer = shared_api.post(path, good(path) | {"purpose": purpose})
            assert refused(answer, 422, "FIELD_INVALID")["errors"].keys() == {"purpose"}
        if purpose != "*":
            body = {"subject": person(), "choices": [said("withdrawn", purpose)]}
            refused(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")


@pytest.mark.parametrize("channel", [MARK, "Email", "email\n", "email ", "fax", "*", "e\u200bmail"])
def test_what_is_no_channel_is_refused(shared_api: Api, channel: str) -> None:
    with nothing_changes(shared_api):
        for path in (CHECK, BATCH, PROOF):
            answer = shared_api.post(path, good(path) | {"channel": channel})
            assert refused(answer, 422, "FIELD_INVALID")["errors"].keys() == {"channel"}
        if channel != "*":
            body = {"subject": person(), "choices": [said("withdrawn", channel=channel)]}
            refused(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")


@pytest.mark.parametrize(
    "instant",
    [
        MARK,
        "2026-02-28",
        "2026-02-28T10:00:00",
        "2026-02-28 10:00:00Z",
        "2026-02-28T10:00Z",
        "2026-02-30T10:00:00Z",
        "2026-13-01T10:00:00Z",
        "2026-02-28T24:00:00Z",
        "2026-02-28T10:00:60Z",
        "2026-02-28T10:00:00+24:00",
        "2026-02-28T10:00:00+01:00:30",
        "2026-02-28T10:00:00,5Z",
        "2026-W09-6T10:00:00Z",
        "20260228T100000Z",
        "2026-02-28T10:00:00Z\n",
        "٢٠٢٦-02-28T10:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "",
        1_770_000_000,
        None,
    ],
)
def test_what_is_no_instant_is_refused(shared_api: Api, instant: Any) -> None:
    with nothing_changes(shared_api):
        answer = shared_api.post(CHECK, good(CHECK) | {"as_of": instant})
        assert refused(answer, 422, "FIELD_INVALID")["errors"].keys() == {"as_of"}
        for choice in (
            said("granted") | {"occurred_at": instant},
            said("granted", evidence={"confirmed_at": instant}),
        ):
            if instant is None and "evidence" in choice:
                continue  # no confirmation
            body = {"subject": person(), "choices": [choice]}
            refused(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")


def test_instants_come_in_every_form_that_rfc_3339_has(shared_api: Api) -> None:
    for instant in (
        "2026-02-28T10:00:00Z",
        "2026-02-28t10:00:00z",
        "2026-02-28T10:00:00.1Z",
        "2026-02-28T10:00:00.123456789+05:45",
        "2026-02-27T23:59:59-23:59",
        "0001-01-01T00:00:00Z",
    ):
        assert shared_api.check(person(), as_of=instant)["as_of"].endswith("Z")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": MARK},
        {"state": "Granted"},
        {"state": None},
        {"state": "given"},
        {"method": "Web Form"},
        {"method": "x" * 65},
        {"method": "web_form\n"},
        {"method": ""},
        {"method": f"{MARK} "},
        {"notice": MARK},
        {"notice": {}},
        {"notice": {"id": "privacy", "version": "3"}},
        {"notice": NOTICE | {"zebra-7731": MARK}},
        {"notice": NOTICE | {"id": ""}},
        {"notice": NOTICE | {"id": " privacy"}},
        {"notice": NOTICE | {"id": "privacy\n"}},
        {"notice": NOTICE | {"id": "x" * 129}},
        {"notice": NOTICE | {"id": "prïvacy"}},
        {"notice": NOTICE | {"version": 3}},
        {"notice": NOTICE | {"version": "3" * 65}},
        {"notice": NOTICE | {"language": "english please zebra-7731"}},
        {"notice": NOTICE | {"language": "e"}},
        {"notice": NOTICE | {"language": "en\n"}},
        {"evidence": MARK},
        {"evidence": [MARK]},
        {"evidence": {"": MARK}},
        {"evidence": {"k" * 65: MARK}},
        {"evidence": {"zebra-7731 " * 10: 1}},
        {"evidence": {"a": [[[[[[[[MARK]]]]]]]]}},
        {"extra": MARK},
    ],
)
def test_a_choice_with_a_malformed_member_is_refused(
    shared_api: Api, changes: dict[str, Any]
) -> None:
    body = {"subject": person(), "choices": [said("granted"), said("granted") | changes]}
    with nothing_changes(shared_api):
        found = refused(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")
    assert found["errors"]["choices"].keys() == {"1"}
    (name,) = changes
    assert name in found["errors"]["choices"]["1"]


def test_between_one_and_two_hundred_choices_fit_in_a_request(shared_api: Api) -> None:
    who = person()
    assert len(shared_api.record(who, *[said("granted")] * 200)["events"]) == 200
    with nothing_changes(shared_api):
        for count in (0, 201):
            body = {"subject": who, "choices": [said("granted")] * count}
            found = refused(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")
            assert found["errors"].keys() == {"choices"}


@pytest.mark.parametrize(
    "evidence",
    [
        {"number": 2**63},
        {"number": 10**300},
        {"number": -1.5e308},
        {"number": 5e-324},
        {"text": "\x1b[2J\u202e😀\ufeff"},
        {"nested": {"a": {"b": {"c": {"d": [1, "2", None, True, 3.5]}}}}},
        {"k" * 64: "v"},
        {"dotted.key [0]": ["\\", '"', "/", " "]},
        {"age": None, "parental_authority": None, "confirmed_at": None},
        {"text": "x" * 8000},
    ],
)
def test_free_facts_of_any_kind_are_kept_and_come_back_as_evidence(
    shared_api: Api, evidence: Any
) -> None:
    event = shared_api.record(person(), said("granted", evidence=evidence))["events"][0]
    for form in ("ts27560", "kantara", "tlog-proof"):
        receipt = shared_api.get(f"/v1/consent/events/{event['id']}/receipt?format={form}")
        assert receipt.status_code == 200, form


@pytest.mark.parametrize("limit", [0, -1, 201, 10**30, 1e30, 7.5, "50", True, [50]])
def test_a_page_of_the_timeline_has_one_to_two_hundred_events(shared_api: Api, limit: Any) -> None:
    body = {"subject": person(), "limit": limit}
    found = refused(shared_api.post(LOOKUP, body), 422, "FIELD_INVALID")
    assert found["errors"].keys() == {"limit"}


@pytest.mark.parametrize(
    "cursor", [MARK, "", "-1", "1.5", " 1", "1\n", "9" * 19, "٣", "0x1", "1_0"]
)
def test_a_cursor_that_we_never_gave_out_is_refused(shared_api: Api, cursor: str) -> None:
    with nothing_changes(shared_api):
        answer = shared_api.post(LOOKUP, {"subject": person(), "cursor": cursor})
        assert refused(answer, 422, "FIELD_INVALID")["errors"].keys() == {"cursor"}
        answer = shared_api.get(CHANGES, query_string={"cursor": cursor})
        assert refused(answer, 422, "FIELD_INVALID")["errors"].keys() == {"cursor"}


# --- queries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=+1", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=", "limit"),
        ("wait=26", "wait"),
        ("wait=zebra-7731", "wait"),
        ("cursor=%FF", "cursor"),
        ("cursor=1%00", "cursor"),
        ("cursor=1&cursor=2", "cursor"),
        ("limit=1&limit=1", "limit"),
        ("offset=zebra-7731", "offset"),
    ],
)
def test_a_query_of_the_feed_that_is_malformed_is_refused(
    shared_api: Api, query: str, field: str
) -> None:
    found = refused(shared_api.get(f"{CHANGES}?{query}"), 422, "FIELD_INVALID")
    assert found["errors"].keys() == {field}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("purpose=marketing_information", "channel"),
        ("channel=email", "purpose"),
        ("purpose=zebra-7731&channel=email", "purpose"),
        ("purpose=*&channel=email", "purpose"),
        ("purpose=marketing_information&channel=zebra-7731", "channel"),
        ("purpose=marketing_information&channel=email&channel=email", "channel"),
        ("purpose=marketing_information%0A&channel=email", "purpose"),
        ("purpose=marketing_information&channel=email&as_of=zebra-7731", "as_of"),
    ],
)
def test_a_list_without_a_clear_question_is_refused(
    shared_api: Api, query: str, field: str
) -> None:
    answer = shared_api.post(f"{BATCH}?{query}", b"{}\n", content_type=NDJSON)
    found = refused(answer, 422, "FIELD_INVALID")
    assert found["errors"].keys() == {field}


@pytest.mark.parametrize("query", ["format=zebra-7731", "format=", "format=kantara&format=ts27560"])
def test_a_form_of_receipt_that_there_is_not_is_refused(shared_api: Api, query: str) -> None:
    event = shared_api.record(person(), said("granted"))["events"][0]
    answer = shared_api.get(f"/v1/consent/events/{event['id']}/receipt?{query}")
    refused(answer, 422, "FIELD_INVALID")


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event_id",
    [
        MARK,
        "0",
        "01a2013e361072 33a1c92a1f55281f18",
        "01a2013e-3610-7233-a1c9-2a1f55281f1",
        "01a2013e-3610-7233-a1c9-2a1f55281f180",
        "{01a2013e-3610-7233-a1c9-2a1f55281f18}",
        "01a2013e361072 33a1c92a1f55281f18%0A",
        "%00",
        "..%2f..%2flog%2fcheckpoint",
        "zebra-7731@example.com",
    ],
)
def test_what_is_no_event_id_is_not_found(shared_api: Api, event_id: str) -> None:
    refused(shared_api.get(f"/v1/consent/events/{event_id}/receipt"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path",
    [
        "0/000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/257",
        "0/000.p/01",
        "0/000.p/",
        "0/000.p/99999999999999999999",
        "00/000",
        "0/0",
        "0/0000",
        "0/001000",
        "0/x000/000",
        "0/X001/000",
        "64/000.p/1",
        "99/000.p/1",
        "-1/000.p/1",
        "63/000.p/1",
        "0/x999/x999/x999/x999/x999/999",
        "0/x999/x999/x999/x999/x999/999.p/1",
        "entries/x999/x999/x999/x999/x999/999",
        "entries/x009/x223/x372/x036/854/775",
        "63/x999/x999/x999/x999/x999/999",
        "0/x999/x999/x999/x999/x999/x999/999",
        "Entries/000",
        "data/000",
        "0/000.p/1/",
        "0/000.p/1%0A",
        "0/000%00",
        "%30/000.p/٣",
        "0/..%2f000",
        "../checkpoint",
        "%2e%2e/checkpoint",
        "0/%2e%2e/0/000",
        "0/./000",
        "//etc/passwd",
        "0//000",
        "/0/000",
        "",
        "%FF%FE",
        "zebra-7731",
        pytest.param("0/" + "x001/" * 2000 + "000", id="long"),
    ],
)
def test_what_is_no_tile_is_not_found(shared_api: Api, path: str) -> None:
    answer = shared_api.client().get(f"/log/tile/{path}", buffered=True)
    assert answer.status_code == 404
    refused(answer, 404, answer.get_json(force=True)["reason"])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/zebra-7731",
        "/v1/consent/check/",
        "/v1//consent/check",
        "/v1/consent/Check",
        "/v1/consent/%63heck%20",
        "/v1/consent/subjects/zebra-7731@example.com",
        "/log/",
        "/log/zebra-7731",
        "/log//checkpoint",
        "/log/checkpoint/",
    ],
)
def test_an_address_that_there_is_not_is_a_problem_too(shared_api: Api, path: str) -> None:
    with nothing_changes(shared_api):
        refused(shared_api.get(path), 404, "NOT_FOUND")
        refused(shared_api.post(path, {}), 404, "NOT_FOUND")


# --- methods -----------------------------------------------------------------------------------

ADDRESSES = {
    **dict.fromkeys(POSTS, "POST"),
    CHANGES: "GET",
    "/v1/consent/events/01a2013e-3610-7233-a1c9-2a1f55281f18/receipt": "GET",
    "/log/checkpoint": "GET",
    "/log/tile/0/000": "GET",
    "/openapi.json": "GET",
}


@pytest.mark.parametrize(("path", "takes"), ADDRESSES.items())
def test_a_method_that_a_call_has_not_is_refused(shared_api: Api, path: str, takes: str) -> None:
    with nothing_changes(shared_api):
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "FOO"} - {takes}:
            answer = shared_api.client().open(
                path, method=method, data=MARK, headers=shared_api.key(), buffered=True
            )
            refused(answer, 405, "METHOD_NOT_ALLOWED")
            assert takes in answer.headers["Allow"].split(", ")
            assert method not in answer.headers["Allow"].split(", ")


@pytest.mark.parametrize(("path", "takes"), ADDRESSES.items())
def test_options_and_head_say_no_more_than_they_should(
    shared_api: Api, path: str, takes: str
) -> None:
    with nothing_changes(shared_api):
        options = shared_api.client().open(path, method="OPTIONS", buffered=True)
        assert (options.status_code, options.data) == (200, b"")
        assert takes in options.headers["Allow"]
        head = shared_api.client().head(path, headers=shared_api.key(), buffered=True)
        assert head.data == b""
        if takes == "POST":
            assert head.status_code == 405
        else:
            get = shared_api.get(path)
            assert head.status_code == get.status_code
            assert head.content_type == get.content_type


# --- idempotency keys --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["", "x" * 256, "zebra 7731", "\tx", "x\x7f", "x\x1b[2J", "zebra-7731é", "\xa0"]
)
def test_a_malformed_idempotency_key_is_refused(shared_api: Api, key: str) -> None:
    with nothing_changes(shared_api):
        answer = shared_api.client().post(
            CHOICES,
            json=good(CHOICES),
            headers=shared_api.key(),
            environ_overrides={"HTTP_IDEMPOTENCY_KEY": key},
            buffered=True,
        )
        refused(answer, 400, "IDEMPOTENCY_KEY_INVALID")
