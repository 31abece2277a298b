"""POST /v1/consent/check and /check/batch: may this happen now?"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from io import BufferedReader, RawIOBase
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import Any, Final, cast

from flask import Response, request
from flask_smorest import Blueprint
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import FileWrapper

from consent.api.context import ConsentApi, consent_api
from consent.api.http import (
    JSON_TYPE,
    endpoint,
    parse_json,
    read_json,
    read_query,
    reply,
    schema,
)
from consent.api.problems import Problem
from consent.api.schemas import (
    PURPOSE,
    BatchCheckRequest,
    BatchDecisionSchema,
    CheckRequest,
    DecisionSchema,
    ListQuery,
)
from consent.errors import InvalidSubjectError
from consent.ledger.leaf import timestamp
from consent.subjects import Identifier, parse_subject
from policies.decisions import Decision
from policies.permissions import Permission, requires
from policies.vocabulary import Channel, ConsentStatus

NDJSON_TYPE: Final = "application/x-ndjson"
MAX_BATCH_BODY: Final = 8 * 1024 * 1024
MAX_LIST_BODY: Final = 64 * 1024 * 1024
MAX_LINE: Final = 4096
MAX_LINES: Final = 2_000_000
"""An empty line costs one byte and its answer over two hundred: bytes alone bound no disk."""
LINES_AT_ONCE: Final = 2000
ANSWERS_IN_MEMORY: Final = 4 * 1024 * 1024
"""Bytes of answers to a list beyond which they wait in a file. They name nobody."""

blueprint = Blueprint("checks", __name__, url_prefix="/v1/consent", description="May I, now?")

_CHECK = CheckRequest()
_BATCH = BatchCheckRequest()
_LIST = ListQuery()
_NO_LIST = ListQuery(partial=True)
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
    "/check",
    "POST",
    summary="Check one person",
    takes={JSON_TYPE: schema(CheckRequest)},
    gives={HTTPStatus.OK: ("The decision.", {JSON_TYPE: schema(DecisionSchema)})},
    problems=_REFUSALS,
)
@requires(Permission.CONSENT_CHECK)
def check() -> Response:
    """May this channel be used for this purpose towards this person, now or as of an instant?

    What is unknown (the purpose, the person) is a no with a reason, not an error.
    """
    asked = read_json(_CHECK)
    decision = consent_api().checker.check(
        asked["subject"], asked["purpose"], Channel(asked["channel"]), asked.get("as_of")
    )
    return reply(decision_json(decision))


@endpoint(
    blueprint,
    "/check/batch",
    "POST",
    summary="Check many people",
    takes={
        JSON_TYPE: schema(BatchCheckRequest),
        NDJSON_TYPE: schema(
            {
                "type": "string",
                "description": "One subject a line, as JSON, in at most 4,096 bytes; purpose and "
                "channel in the query.",
            }
        ),
    },
    gives={
        HTTPStatus.OK: (
            "Decisions in the order of the subjects.",
            {
                JSON_TYPE: schema(BatchDecisionSchema),
                NDJSON_TYPE: schema(
                    {"type": "string", "description": "One decision a line, in order."}
                ),
            },
        )
    },
    problems=_REFUSALS,
    parameters=[
        {
            "in": "query",
            "name": name,
            "schema": of,
            "description": f"The {name}; for {NDJSON_TYPE} only, and then required.",
        }
        for name, of in (
            ("purpose", {"type": "string", "maxLength": 64, "pattern": PURPOSE}),
            ("channel", {"type": "string", "enum": [channel.value for channel in Channel]}),
        )
    ],
)
@requires(Permission.CONSENT_CHECK)
def check_batch() -> Response:
    """The same question about up to 10,000 people, or in NDJSON of up to 64 MiB about two million.

    In NDJSON a line that is no subject, an empty one too, is answered in its place with
    `allow: false` and the reason `SUBJECT_INVALID`; the other lines are not affected. The answer
    begins when the list has been read to its end.
    """
    api = consent_api()
    if request.mimetype == NDJSON_TYPE:
        asked = read_query(_LIST)
        return _answer_list(api, asked["purpose"], Channel(asked["channel"]))
    read_query(_NO_LIST)
    asked = read_json(_BATCH, limit=MAX_BATCH_BODY)
    decisions = api.checker.check_many(
        asked["subjects"], asked["purpose"], Channel(asked["channel"])
    )
    as_of = timestamp(decisions[0].as_of) if decisions else ""
    return reply({"results": [decision_json(decision, as_of) for decision in decisions]})


def decision_json(decision: Decision, as_of: str = "") -> dict[str, Any]:
    """A decision as the API writes it; `as_of` where that is written already."""
    expires_at = decision.expires_at
    return {
        "allow": decision.allow,
        "status": decision.status,
        "reason": decision.reason,
        "record_id": decision.record_id,
        "as_of": as_of or timestamp(decision.as_of),
        "expires_at": None if expires_at is None else timestamp(expires_at),
        "basis": decision.basis,
        "policy": decision.policy,
    }


def _answer_list(api: ConsentApi, purpose: str, channel: Channel) -> Response:
    """All answers, when all lines are read.

    Most clients send everything before they read anything: answered meanwhile, they and we would
    wait for each other. And what fails half-way is an error, not half an answer.
    """
    request.max_content_length = MAX_LIST_BODY
    lines = _lines(BufferedReader(cast(RawIOBase, request.stream)))
    with ExitStack() as stack:
        answers = stack.enter_context(SpooledTemporaryFile(max_size=ANSWERS_IN_MEMORY))
        read = 0
        while chunk := list(islice(lines, LINES_AT_ONCE)):
            read += len(chunk)
            if read > MAX_LINES:
                raise RequestEntityTooLarge
            answers.writelines(_answers(api, chunk, purpose, channel))
        size = answers.tell()
        answers.seek(0)
        stack.pop_all()
    # The server closes the wrapper, and that the file, when the answer is sent.
    return Response(
        FileWrapper(answers),
        content_type=NDJSON_TYPE,
        headers={"Content-Length": str(size)},
        direct_passthrough=True,
    )


def _lines(body: BufferedReader) -> Iterator[bytes]:
    """Line by line; in the place of one that is too long, an empty one."""
    while line := body.readline(MAX_LINE + 1):
        whole = len(line) <= MAX_LINE or line.endswith(b"\n")
        yield line if whole else b""
        while line and not whole:
            line = body.readline(MAX_LINE + 1)
            whole = line.endswith(b"\n")


def _answers(
    api: ConsentApi, lines: Sequence[bytes], purpose: str, channel: Channel
) -> Iterator[bytes]:
    subjects = [_subject_of(line) for line in lines]
    decisions = iter(
        api.checker.check_many([one for one in subjects if one is not None], purpose, channel)
    )
    for subject in subjects:
        answer = _no_subject(api) if subject is None else decision_json(next(decisions))
        yield json.dumps(answer, separators=(",", ":")).encode() + b"\n"


def _no_subject(api: ConsentApi) -> dict[str, Any]:
    return {
        "allow": False,
        "status": ConsentStatus.UNKNOWN,
        "reason": InvalidSubjectError.code,
        "record_id": None,
        "as_of": timestamp(api.clock()),
        "expires_at": None,
        "basis": None,
        "policy": api.policies().hash,
    }


def _subject_of(line: bytes) -> Identifier | None:
    try:
        return parse_subject(parse_json(line))
    except (Problem, InvalidSubjectError):
        return None
