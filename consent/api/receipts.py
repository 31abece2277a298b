"""GET /v1/consent/events/{id}/receipt: evidence of one event, for whoever may see it."""

from http import HTTPStatus
from typing import Final
from uuid import UUID

from flask import Response
from flask_smorest import Blueprint

from consent.api.context import ConsentApi, consent_api
from consent.api.http import endpoint, read_query, schema
from consent.api.schemas import ReceiptQuery
from policies.permissions import Permission, requires

blueprint = Blueprint(
    "receipts", __name__, url_prefix="/v1/consent", description="Evidence of one event."
)

_QUERY: Final = ReceiptQuery()
_ALWAYS_SEEN: Final = frozenset(
    {
        "subject",
        "occurred_at",
        "claimed_at",
        "method",
        "actor",
        "notice",
        "claimed_notice",
        "ends_at",
        "confirms",
        "confirmed_at",
        "child_without_authority",
    }
)


@endpoint(
    blueprint,
    "/events/<uuid:event_id>/receipt",
    "GET",
    summary="Receipt",
    gives={
        HTTPStatus.OK: (
            "The receipt.",
            {
                "application/ld+json": schema({"type": "object"}),
                "application/json": schema({"type": "object"}),
                "text/plain; charset=utf-8": schema({"type": "string"}),
            },
        )
    },
    parameters=[
        {
            "in": "query",
            "name": "format",
            "schema": {
                "type": "string",
                "enum": ["ts27560", "kantara", "tlog-proof"],
                "default": "ts27560",
            },
            "description": "Which form of receipt.",
        }
    ],
    problems=(
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.GONE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    ),
)
@requires(Permission.CONSENT_READ)
def receipt(event_id: UUID) -> Response:
    """Evidence of one event: ISO/IEC TS 27560 as DPV JSON-LD, Kantara 1.1, or the bare proof.

    What the person said as evidence is disclosed only to keys with `evidence.read`.
    """
    api = consent_api()
    asked = read_query(_QUERY)
    with api.snapshot() as reader:
        issued = api.receipts.issue(reader, str(event_id), asked["format"], claims_seen(api))
    return Response(issued.body, content_type=issued.media_type)


def claims_seen(api: ConsentApi) -> frozenset[str]:
    """The names of the claims that the caller may see."""
    return _ALWAYS_SEEN | ({"evidence"} if api.may(Permission.EVIDENCE_READ) else frozenset())
