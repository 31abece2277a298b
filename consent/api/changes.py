"""GET /v1/consent/changes: the ordered change feed, with long polling."""

import time
from http import HTTPStatus
from typing import Any, Final

from flask import Response
from flask_smorest import Blueprint

from consent.api.context import ConsentApi, consent_api
from consent.api.http import JSON_TYPE, endpoint, read_query, reply, schema
from consent.api.schemas import CURSOR, ChangesAnswer, ChangesQuery
from consent.ledger.leaf import timestamp
from consent.outbox import MAX_PAGE, Change, Page, read_changes
from policies.permissions import Permission, requires

POLL_EVERY: Final = 0.1
"""Seconds between two looks while a caller waits for news."""
MAX_WAIT: Final = 25

blueprint = Blueprint(
    "changes", __name__, url_prefix="/v1/consent", description="What changed since."
)

_QUERY = ChangesQuery()


@endpoint(
    blueprint,
    "/changes",
    "GET",
    summary="Follow changes",
    gives={
        HTTPStatus.OK: (
            "Events in the order of the ledger, and the cursor to go on with.",
            {JSON_TYPE: schema(ChangesAnswer)},
        )
    },
    problems=(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
    parameters=[
        {
            "in": "query",
            "name": "cursor",
            "schema": {"type": "string", "pattern": CURSOR},
            "description": "Where to go on; from the beginning, if absent.",
        },
        {
            "in": "query",
            "name": "limit",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE},
            "description": "How many events at most.",
        },
        {
            "in": "query",
            "name": "wait",
            "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
            "description": "Seconds to wait for news where there are none yet.",
        },
    ],
)
@requires(Permission.CONSENT_CHANGES)
def changes() -> Response:
    """Every event in order, without gaps or repeats, from a cursor on.

    When many callers wait at once, some are answered at once with an empty page.
    """
    asked = read_query(_QUERY)
    page = _wait(consent_api(), asked.get("cursor"), asked["limit"], asked["wait"])
    return reply(
        {
            "changes": [change_json(change) for change in page.changes],
            "cursor": page.cursor,
            "more": page.more,
        }
    )


def change_json(change: Change) -> dict[str, Any]:
    """A change as the API writes it."""
    return {
        "index": change.index,
        "id": change.id,
        "subject": change.subject,
        "type": change.type,
        "purpose": change.purpose,
        "channel": change.channel,
        "state": change.state,
        "occurred_at": timestamp(change.occurred_at),
        "recorded_at": timestamp(change.recorded_at),
    }


def _wait(api: ConsentApi, cursor: str | None, limit: int, seconds: int) -> Page:
    page = _read(api, cursor, limit)
    if page.changes or not seconds or not api.long_polls.acquire(blocking=False):
        return page
    try:
        deadline = time.monotonic() + seconds
        while not page.changes and time.monotonic() < deadline:
            time.sleep(POLL_EVERY)
            page = _read(api, cursor, limit)
    finally:
        api.long_polls.release()
    return page


def _read(api: ConsentApi, cursor: str | None, limit: int) -> Page:
    with api.read() as reader:
        return read_changes(reader, cursor, limit)
