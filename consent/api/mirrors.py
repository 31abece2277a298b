"""GET /v1/consent/snapshot and /snapshot/changes: what a mirror reads, and follows."""

import time
from http import HTTPStatus
from typing import Any, Final

from flask import Response
from flask_smorest import Blueprint

from consent.api.changes import MAX_WAIT, POLL_EVERY
from consent.api.checks import NDJSON_TYPE
from consent.api.context import ConsentApi, consent_api
from consent.api.http import endpoint, read_query, schema
from consent.api.problems import API_HEADERS
from consent.api.schemas import (
    CELLS,
    MIRROR_CURSOR,
    MIRROR_EPOCH,
    MIRROR_KINDS,
    REF,
    SnapshotChangesQuery,
    SnapshotQuery,
)
from consent.mirrors import MAX_PEOPLE, Page, Wanted, encode, text_of
from policies.permissions import Permission, requires
from policies.vocabulary import Channel

blueprint = Blueprint(
    "mirrors", __name__, url_prefix="/v1/consent", description="Copies that answer by themselves."
)

_SNAPSHOT = SnapshotQuery()
_CHANGES = SnapshotChangesQuery()
_LINES: Final = {
    NDJSON_TYPE: schema(
        {
            "type": "string",
            "description": "A head, one line a person, and a foot that counts them.",
        }
    )
}
_PROBLEMS: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


def _parameter(name: str, of: dict[str, Any], means: str, *, required: bool = False) -> Any:
    return {"in": "query", "name": name, "schema": of, "description": means, "required": required}


_WANTED: Final = [
    _parameter(
        "cells",
        {"type": "string", "pattern": CELLS, "maxLength": 1200},
        "What to decide about: up to 16 of `purpose:channel`, with commas between.",
        required=True,
    ),
    _parameter(
        "by",
        {"type": "string", "pattern": MIRROR_KINDS, "maxLength": 400},
        "By what people are looked up: `email`, `phone`, `ref`, `external_id`, or "
        "`external_id:SYSTEM` for those of one system, with commas between.",
        required=True,
    ),
]
_LIMIT: Final = _parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_PEOPLE, "default": MAX_PEOPLE},
    "How much at most.",
)


@endpoint(
    blueprint,
    "/snapshot",
    "GET",
    summary="Read everybody",
    gives={HTTPStatus.OK: ("A page of everybody.", _LINES)},
    problems=_PROBLEMS,
    parameters=[
        *_WANTED,
        _parameter(
            "epoch",
            {"type": "string", "pattern": MIRROR_EPOCH},
            "Of the first page.",
        ),
        _parameter(
            "after", {"type": "string", "pattern": REF}, "Where the page before said to go on."
        ),
        _LIMIT,
    ],
)
@requires(Permission.CONSENT_MIRROR)
def snapshot() -> Response:
    """What may happen to everybody, for some purposes and channels, page by page.

    Names no one: a person is a token that only who knows an identifier can compute, with the secret
    in the head. Then follow the changes, from the cursor of the first page on.
    """
    asked = read_query(_SNAPSHOT)
    api = consent_api()
    wanted = _wanted(api, asked)
    first = "after" not in asked
    page = api.mirrors.everybody(wanted, asked.get("epoch"), asked.get("after", ""), asked["limit"])
    more: dict[str, Any] = {"secret": text_of(api.mirrors.secret(wanted.audience))}
    if first:
        more["people"] = api.mirrors.people()
    return _reply(encode(page, wanted, **more))


@endpoint(
    blueprint,
    "/snapshot/changes",
    "GET",
    summary="Follow a snapshot",
    gives={HTTPStatus.OK: ("Everybody about whom something changed.", _LINES)},
    problems=_PROBLEMS,
    parameters=[
        *_WANTED,
        _parameter(
            "epoch",
            {"type": "string", "pattern": MIRROR_EPOCH},
            "Of the snapshot.",
            required=True,
        ),
        _parameter(
            "cursor",
            {"type": "string", "pattern": MIRROR_CURSOR},
            "Of the first page of the snapshot, or of the changes before.",
            required=True,
        ),
        _LIMIT,
        _parameter(
            "wait",
            {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
            "Seconds to wait for news where there are none yet.",
        ),
    ],
)
@requires(Permission.CONSENT_MIRROR)
def snapshot_changes() -> Response:
    """Everybody about whom something changed behind a cursor, as they are now.

    `MIRROR_OUTDATED` means that no line can say what changed: rules, keys or the history itself.
    Read everybody anew. When many callers wait at once, some are answered at once.
    """
    began = time.monotonic()
    asked = read_query(_CHANGES)
    api = consent_api()
    wanted = _wanted(api, asked)
    page, waited = _wait(api, wanted, asked, began)
    return _reply(encode(page, wanted, waited))


def _wait(
    api: ConsentApi, wanted: Wanted, asked: dict[str, Any], began: float
) -> tuple[Page, float]:
    """The page, and after how many seconds it was read, or a little earlier."""

    def read() -> tuple[Page, float]:
        waited = time.monotonic() - began
        page = api.mirrors.changes(wanted, asked["epoch"], asked["cursor"], asked["limit"])
        return page, waited

    seconds = asked["wait"]
    before = api.mirrors.stirred() if seconds else ()
    page, waited = read()
    if page.lines or not seconds or not api.long_polls.acquire(blocking=False):
        return page, waited
    try:
        while not page.lines and time.monotonic() - began < seconds:
            time.sleep(POLL_EVERY)
            now = api.mirrors.stirred()
            if now != before:
                before = now
                page, waited = read()
    finally:
        api.long_polls.release()
    return (page, waited) if page.lines else read()


def _wanted(api: ConsentApi, asked: dict[str, Any]) -> Wanted:
    cells = dict.fromkeys(asked["cells"].split(","))
    return Wanted(
        cells=tuple(
            (purpose, Channel(channel))
            for purpose, _, channel in (one.partition(":") for one in cells)
        ),
        kinds=tuple(sorted(set(asked["by"].split(",")))),
        audience=api.actor(),
    )


def _reply(body: bytes) -> Response:
    return Response(body, HTTPStatus.OK, headers=API_HEADERS, content_type=NDJSON_TYPE)
