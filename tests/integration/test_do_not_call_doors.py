"""Do-not-call lists come in by the command line and by the API: whole, or not at all."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from admin_ui.do_not_call import import_list
from admin_ui.services import Services
from consent.do_not_call import InvalidListError
from governance.vault.models import vault_dnc_number
from policies.permissions import Permission
from tests.fakes.services import Api, problem

LISTS = "/v1/consent/do-not-call"
NUMBERS = b"\xef\xbb\xbfNumber\r\n01632 960001\r\n01632 960002\r\n"


def put(api: Api, body: bytes, registry: str = "uk_tps", **options: Any) -> TestResponse:
    query = {"listed_on": api.clock().date().isoformat(), **options.pop("query", {})}
    return api.client().put(
        f"{LISTS}/{registry}",
        data=body,
        query_string=query,
        headers=api.key([Permission.LISTS_REPLACE]),
        **{"content_type": "text/plain", **options},
    )


def listed(services: Services) -> int:
    with services.database.read() as reader:
        return len(reader.execute(select(vault_dnc_number.c.token)).all())


def test_a_list_comes_in_by_the_api_and_who_replaced_it_is_recorded(api: Api) -> None:
    answer = put(api, NUMBERS)
    assert answer.status_code == 200, answer.text
    today = api.clock().date().isoformat()
    assert answer.json == {
        "registry": "uk_tps",
        "listed_on": today,
        "numbers": 2,
        "before": 0,
        "malformed_lines": 0,
    }
    seen = api.get(LISTS).json
    assert seen is not None
    (tps,) = [one for one in seen["lists"] if one["registry"] == "uk_tps"]
    assert (tps["listed_on"], tps["numbers"], tps["needed"]) == (today, 2, False)
    with api.services.database.read() as reader:
        (newest, *_) = api.services.trail.read(reader)
    assert (newest.action, newest.object) == ("do_not_call.replaced", "registry:uk_tps")
    assert newest.actor.startswith("api_key:")
    assert newest.details["numbers"] == 2


def test_a_list_that_breaks_off_changes_nothing(api: Api) -> None:
    put(api, NUMBERS)
    body = b"01632 960003\n01632 960004\n"
    stated = {"CONTENT_LENGTH": str(len(body) + 1)}
    assert put(api, body, environ_overrides=stated).status_code in {400, 422}
    assert listed(api.services) == 2


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"registry": "xx"}, 404, "REGISTRY_UNKNOWN"),
        ({"content_type": "application/json"}, 415, "MEDIA_TYPE_UNSUPPORTED"),
        ({"query": {"listed_on": "1 March"}}, 422, "FIELD_INVALID"),
        ({"query": {"listed_on": "2026-02-30"}}, 422, "FIELD_INVALID"),
        ({"query": {"listed_on": "9999-12-31"}}, 422, "LIST_INVALID"),
        ({"query": {"listed_on": "0001-01-01"}}, 422, "LIST_INVALID"),
        ({"query": {"smaller": "maybe"}}, 422, "FIELD_INVALID"),
        ({"query": {"more": "1"}}, 422, "FIELD_INVALID"),
    ],
)
def test_a_malformed_call_is_refused(api: Api, options: Any, status: int, reason: str) -> None:
    problem(put(api, NUMBERS, **options), status, reason)
    assert listed(api.services) == 0


@pytest.mark.parametrize("body", [b"\n", b"\x00\xff" * 5000, b"x" * 100_000, b"1\n" * 100])
def test_what_is_no_list_is_refused(api: Api, body: bytes) -> None:
    problem(put(api, body), 422, "LIST_INVALID")
    assert listed(api.services) == 0


def test_a_list_of_unstated_length_is_refused(api: Api) -> None:
    problem(put(api, b""), 411, "LENGTH_REQUIRED")


def test_another_scope_replaces_nothing(api: Api) -> None:
    answer = api.client().put(f"{LISTS}/uk_tps", headers=api.key([Permission.CONSENT_WRITE]))
    problem(answer, 403, "PERMISSION_DENIED")


def test_a_file_comes_in_by_the_command_line(services: Services, tmp_path: Path) -> None:
    file = tmp_path / "tps.txt"
    file.write_bytes(NUMBERS)
    today = services.clock().date()
    seen: list[int] = []
    replaced = import_list(services, file, "uk_tps", today, smaller=False, progress=seen.append)
    assert (replaced.numbers, seen) == (2, [2])
    for registry, day in (("xx", today), ("uk_tps", today + timedelta(days=1))):
        with pytest.raises(InvalidListError):
            import_list(services, file, registry, day, smaller=False, progress=seen.append)
    assert listed(services) == 2
