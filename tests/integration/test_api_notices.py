"""Notices over the API: what forms show, and what choices may name."""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest

from consent.ledger.leaf import timestamp
from tests.fakes.notices import publish
from tests.fakes.services import NOTICE, Api, person, problem, said

NOTICES = "/v1/consent/notices"
CHOICES = "/v1/consent/choices"
DAY = timedelta(days=1)


def release(api: Api, version: str, **more: Any) -> None:
    with api.services.database.begin() as session:
        stated = {"now": api.clock()} | more
        publish(session, api.services.policies(), version, **stated)


def read(api: Api, path: str = "") -> Any:
    """What an address below the notices answers."""
    answer = api.get(f"{NOTICES}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json


def listed(api: Api) -> Any:
    """The notice `privacy` in the list."""
    (found,) = [one for one in read(api)["notices"] if one["id"] == "privacy"]
    return found


def test_a_form_finds_the_words_in_effect_with_the_hash_of_what_it_shows(api: Api) -> None:
    change = api.clock() + DAY
    release(api, "4", languages=("de", "en"), material=True, effective_from=change)
    shown = listed(api)
    assert shown["current"] == "3"
    assert [(one["version"], one["material"]) for one in shown["versions"]] == [
        ("4", True),
        ("3", False),
    ]
    assert shown["versions"][0]["effective_from"] == timestamp(change)
    assert read(api, "/privacy?language=en")["version"] == "3"
    api.clock.set(change)
    assert listed(api)["current"] == "4"
    words = read(api, "/privacy?language=de-CH")
    assert (words["version"], words["language"], words["direction"]) == ("4", "de", "ltr")
    assert words["hash"] == f"sha256:{sha256(words['text'].encode()).hexdigest()}"
    rendering = sha256(words["rendering"].encode()).hexdigest()
    assert words["rendering_hash"] == f"sha256:{rendering}"
    (german,) = [one for one in listed(api)["versions"][0]["languages"] if one["language"] == "de"]
    assert german == {name: words[name] for name in german}
    notice = {name: words[name] for name in ("id", "version", "language", "hash")}
    who = person()
    api.record(who, said("granted", notice=notice))
    assert api.check(who)["allow"]


def test_an_older_version_stays_readable(api: Api) -> None:
    before = read(api, "/privacy/versions/3?language=en")
    release(api, "4", material=True)
    assert read(api, "/privacy/versions/3?language=EN") == before


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/terms?language=en", 404, "NOTICE_UNKNOWN"),
        ("/privacy?language=de", 404, "NOTICE_UNKNOWN"),
        ("/privacy%00?language=en", 404, "NOTICE_UNKNOWN"),
        ("/priv%C3%AFacy?language=en", 404, "NOTICE_UNKNOWN"),
        ("/privacy/versions/4?language=en", 404, "NOTICE_UNKNOWN"),
        ("/privacy/versions/3%0A?language=en", 404, "NOTICE_UNKNOWN"),
        ("/privacy/versions/3?language=en-GB", 404, "NOTICE_UNKNOWN"),
        ("/privacy", 422, "FIELD_INVALID"),
        ("/privacy?language=", 422, "FIELD_INVALID"),
        ("/privacy?language=en%0A", 422, "FIELD_INVALID"),
        ("/privacy?language=english%20please", 422, "FIELD_INVALID"),
        ("/privacy?language=en&language=de", 422, "FIELD_INVALID"),
        ("/privacy?language=en&version=3", 422, "FIELD_INVALID"),
        ("/privacy/versions/?language=en", 404, "NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_a_problem(
    shared_api: Api, path: str, status: int, reason: str
) -> None:
    problem(shared_api.get(f"{NOTICES}{path}"), status, reason)


def test_a_draft_is_nowhere_to_be_read(api: Api) -> None:
    from consent.notice_drafts import begin_draft

    with api.services.database.begin() as session:
        begin_draft(session, "terms", "example-shop", ("en",), "account:a", api.clock())
    assert [one["id"] for one in read(api)["notices"]] == ["privacy"]


def test_nobody_publishes_by_a_key(api: Api) -> None:
    for method in ("post", "put", "patch", "delete"):
        for path in ("", "/privacy", "/privacy/versions/3"):
            answer = getattr(api.client(), method)(
                f"{NOTICES}{path}", headers=api.key(), json={"title": "Mine"}
            )
            problem(answer, 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "terms"},
        {"version": "4"},
        {"language": "fr"},
        {"hash": "sha256:" + "a" * 64},
    ],
)
def test_a_refused_grant_says_which_and_a_denial_is_taken(
    api: Api, changes: dict[str, str]
) -> None:
    who, notice = person(), NOTICE | changes
    body = {"subject": who, "choices": [said("refused"), said("granted", notice=notice)]}
    refused = problem(api.post(CHOICES, body), 422, "NOTICE_UNKNOWN")
    assert refused["errors"].keys() == {"choices"}
    assert refused["errors"]["choices"].keys() == {"1"}
    assert refused["errors"]["choices"]["1"].keys() == {"notice"}
    assert "terms" not in str(refused)
    for state in ("withdrawn", "objected", "refused"):
        api.record(who, said(state, notice=notice))
    assert api.check(who)["reason"] == "REFUSED"


@pytest.mark.parametrize(
    "value", ["", "sha256:", "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 64 + "\n", 7]
)
def test_what_is_no_hash_is_refused_at_the_door(shared_api: Api, value: Any) -> None:
    body = {"subject": person(), "choices": [said("granted", notice=NOTICE | {"hash": value})]}
    problem(shared_api.post(CHOICES, body), 422, "FIELD_INVALID")


def test_receipts_of_older_words_stay_as_they_were_byte_by_byte(api: Api) -> None:
    who = person()
    event = api.record(who, said("granted"))["events"][0]["id"]
    paths = [
        f"/v1/consent/events/{event}/receipt{form}"
        for form in ("", "?format=kantara", "?format=tlog-proof")
    ]
    before = [api.get(path).data for path in paths]
    release(api, "4", material=True, effective_from=api.clock() + DAY)
    api.clock.advance(2 * DAY)
    assert api.check(who)["reason"] == "NOTICE_SUPERSEDED"
    assert [api.get(path).data for path in paths] == before
