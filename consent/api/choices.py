"""POST /v1/consent/choices and /subjects/lookup: record what people chose, and look it up."""

import hashlib
import re
from base64 import b64encode
from http import HTTPStatus
from typing import Any, Final

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import ValidationError

from consent.api.changes import change_json
from consent.api.checks import decision_json
from consent.api.context import consent_api
from consent.api.http import JSON_TYPE, endpoint, read_body, read_json, reply, schema
from consent.api.problems import Problem
from consent.api.schemas import (
    ChoicesAnswer,
    ChoicesRequest,
    InstantField,
    LookupAnswer,
    LookupRequest,
)
from consent.choices import IdempotencyKey, NewEvent, NoticeRef, Record, choice
from consent.errors import ConsentError, UnknownNoticeError, UnknownSubjectError
from consent.outbox import read_timeline
from policies.model import PolicySet
from policies.permissions import Permission, requires
from policies.vocabulary import ChoiceState

MAX_CHOICES_BODY: Final = 1024 * 1024

blueprint = Blueprint(
    "choices", __name__, url_prefix="/v1/consent", description="What people chose."
)

_CHOICES = ChoicesRequest()
_LOOKUP = LookupRequest()
_INSTANT = InstantField()
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_REFUSALS: Final = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)


@endpoint(
    blueprint,
    "/choices",
    "POST",
    summary="Record choices",
    takes={JSON_TYPE: schema(ChoicesRequest)},
    gives={
        HTTPStatus.CREATED: (
            "Recorded and durable. The header `Idempotency-Replayed` says if it was so before.",
            {JSON_TYPE: schema(ChoicesAnswer)},
        )
    },
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    parameters=[
        {
            "in": "header",
            "name": "Idempotency-Key",
            "schema": {"type": "string", "pattern": r"^[!-~]{1,255}$"},
            "description": "Makes a repeated request one act, for 24 hours.",
        }
    ],
)
@requires(Permission.CONSENT_WRITE)
def record_choices() -> Response:
    """Record what one person said about purposes on channels. All of it is recorded, or nothing.

    A withdrawal is in effect when this answers. `occurred_at` decides between choices, whatever
    the order in which they arrive; a time in the future is set to now. A grant names words that
    were published and in effect by then (`NOTICE_UNKNOWN`, if not); a denial is recorded whatever
    it names.
    """
    api = consent_api()
    actor = api.actor()
    idempotency = _idempotency(actor)
    asked = read_json(_CHOICES, limit=MAX_CHOICES_BODY)
    policies = api.policies()
    events = tuple(_new_event(policies, one, index) for index, one in enumerate(asked["choices"]))
    try:
        committed = api.writer.submit(
            Record(asked["subject"], events, actor, idempotency, asks=True)
        )
    except UnknownNoticeError as error:
        raise _of_notices(error) from error
    recorded = committed.recorded
    body = {
        "subject": recorded.subject,
        "events": [
            {"id": e.id, "index": e.index, "leaf_hash": b64encode(e.leaf_hash).decode()}
            for e in recorded.events
        ],
        "checkpoint": committed.checkpoint,
    }
    headers = {} if recorded.new else {"Idempotency_Replayed": "true"}
    return reply(body, HTTPStatus.CREATED, **headers)


@endpoint(
    blueprint,
    "/subjects/lookup",
    "POST",
    summary="Look up a person",
    takes={JSON_TYPE: schema(LookupRequest)},
    gives={
        HTTPStatus.OK: (
            "The person's ref, every decision, and a page of the timeline, newest first.",
            {JSON_TYPE: schema(LookupAnswer)},
        )
    },
    problems=(*_REFUSALS, HTTPStatus.NOT_FOUND),
)
@requires(Permission.CONSENT_READ)
def look_up() -> Response:
    """What is known of a person's choices. Send the timeline's cursor to read on."""
    api = consent_api()
    asked = read_json(_LOOKUP)
    with api.snapshot() as reader:
        (ref,) = api.directory.find(reader, [asked["subject"]])
        if ref is None:
            raise UnknownSubjectError("nobody is known so")
        matrix = api.checker.matrix(reader, ref)
        events, cursor = read_timeline(reader, ref, asked.get("cursor"), asked["limit"])
    return reply(
        {
            "ref": ref,
            "matrix": [
                {"purpose": purpose, "channel": channel, **decision_json(decision)}
                for (purpose, channel), decision in matrix.items()
            ],
            "timeline": {"events": [change_json(event) for event in events], "cursor": cursor},
        }
    )


def _new_event(policies: PolicySet, asked: dict[str, Any], index: int) -> NewEvent:
    notice = asked.get("notice")
    evidence = asked.get("evidence") or {}
    stated = {"method": asked["method"]} if "method" in asked else {}
    try:
        return choice(
            policies,
            purpose=asked["purpose"],
            channel=asked["channel"],
            state=ChoiceState(asked["state"]),
            occurred_at=asked.get("occurred_at"),
            notice=NoticeRef(**notice) if notice is not None else None,
            evidence=evidence,
            confirmed_at=_confirmed_at(evidence, index),
            **stated,
        )
    except ConsentError as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            error.code,
            str(error),
            fields={"choices": {str(index): [str(error)]}},
        ) from error


def _of_notices(error: UnknownNoticeError) -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        error.code,
        str(error),
        fields={"choices": {str(place): {"notice": [str(error)]} for place in error.places}},
    )


def _confirmed_at(evidence: dict[str, Any], index: int) -> Any:
    stated = evidence.get("confirmed_at")
    if stated is None:
        return None
    try:
        return _INSTANT.deserialize(stated)
    except ValidationError as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "FIELD_INVALID",
            "Some fields are missing, unknown or not acceptable.",
            fields={"choices": {str(index): {"evidence": {"confirmed_at": error.messages}}}},
        ) from error


def _idempotency(actor: str) -> IdempotencyKey | None:
    """The caller's key, scoped to the caller, with the hash of the body it stands for."""
    stated = request.headers.get("Idempotency-Key")
    if stated is None:
        return None
    if _KEY.fullmatch(stated) is None:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "IDEMPOTENCY_KEY_INVALID",
            "The Idempotency-Key is not 1 to 255 printable ASCII characters.",
        )
    body = read_body(MAX_CHOICES_BODY)
    scoped = hashlib.sha256(f"{actor}\n{stated}".encode()).hexdigest()
    return IdempotencyKey(scoped, hashlib.sha256(body).digest())
