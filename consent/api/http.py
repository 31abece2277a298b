"""Reading and answering JSON, strictly, and saying so in the OpenAPI document.

`endpoint` puts a view on a blueprint and describes it there: one place says what a call takes,
gives and refuses. Bodies are read by `read_json`: UTF-8, one value for each key, no NUL, no lone
surrogate, no NaN, no unknown member.
"""

import inspect
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeVar

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import Schema, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from consent.api.problems import API_HEADERS, MEDIA_TYPE, Problem
from consent.api.schemas import ProblemSchema

JSON_TYPE: Final = "application/json"
MAX_BODY: Final = 64 * 1024
"""Bytes in an ordinary body; the batch takes more."""

View = TypeVar("View", bound=Callable[..., Response])

_MEANINGS: Final = {
    HTTPStatus.BAD_REQUEST: "The body is not strict JSON, or a parameter is malformed.",
    HTTPStatus.UNAUTHORIZED: "The API key is missing, unknown, expired or revoked.",
    HTTPStatus.FORBIDDEN: "The API key lacks the scope for this call.",
    HTTPStatus.NOT_FOUND: "There is no such thing.",
    HTTPStatus.CONFLICT: "An Idempotency-Key was used with another body, or a copy is out of date.",
    HTTPStatus.GONE: "The person's key was destroyed; the disclosures cannot be read any more.",
    HTTPStatus.LENGTH_REQUIRED: "The length of the body is not stated.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not of the media type that this call takes.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is missing, unknown or not acceptable.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The database does not answer, or the ledger refuses to go on.",
}


def endpoint(
    blueprint: Blueprint,
    rule: str,
    method: str,
    *,
    summary: str,
    gives: Mapping[HTTPStatus, tuple[str, Any]],
    problems: Sequence[HTTPStatus] = (),
    takes: Mapping[str, Any] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> Callable[[View], View]:
    """Put a view on a blueprint and describe it there.

    Args:
        blueprint: Where the view goes.
        rule: Its path, under the blueprint's.
        method: The one HTTP method that it answers.
        summary: One line for the documentation; the view's docstring is its description.
        gives: Status → (what it means, content by media type).
        problems: The statuses that come as problem details, beside 503, which any call may meet.
        takes: Request content by media type.
        parameters: OpenAPI parameter objects beside those of the path.
    """
    content = {MEDIA_TYPE: {"schema": ProblemSchema}}
    responses: dict[str, Any] = {
        str(status.value): {"description": meaning, "content": body}
        for status, (meaning, body) in gives.items()
    }
    for status in (*problems, HTTPStatus.SERVICE_UNAVAILABLE):
        responses[str(status.value)] = {"description": _MEANINGS[status], "content": content}

    def place(view: View) -> View:
        doc: dict[str, Any] = {
            "operationId": view.__name__,
            "summary": summary,
            "description": inspect.getdoc(view),
            "responses": responses,
        }
        if takes is not None:
            doc["requestBody"] = {"required": True, "content": takes}
        if parameters:
            doc["parameters"] = list(parameters)
        blueprint.route(rule, methods=[method])(blueprint.doc(**doc)(view))
        return view

    return place


def schema(of: Any) -> dict[str, Any]:
    """The media type object of a schema."""
    return {"schema": of}


def read_json(into: Schema, *, limit: int = MAX_BODY) -> dict[str, Any]:
    """The request's body, checked against a schema.

    Raises:
        Problem: 400, 413, 415 or 422, with the reason.
    """
    if request.mimetype != JSON_TYPE:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "MEDIA_TYPE_UNSUPPORTED",
            f"Send the body as {JSON_TYPE}.",
        )
    return load(into, parse_json(read_body(limit)))


def read_body(limit: int) -> bytes:
    """The request's body as bytes, at most `limit` of them.

    Raises:
        Problem: 413 where it is longer, 400 where the connection broke off before its end.
    """
    # One byte more: of a body that comes in chunks, as much is read and no error raised.
    request.max_content_length = limit + 1
    body = request.get_data()
    if len(body) > limit:
        raise RequestEntityTooLarge
    # The server ends what a broken connection sent as if it were whole. Of chunks, only the
    # JSON itself tells: a document that closes what it opened was sent to its end.
    if request.content_length not in (None, len(body)):
        raise _malformed("BODY_INCOMPLETE", "The body is shorter than its Content-Length.")
    return body


def read_query(into: Schema) -> dict[str, Any]:
    """The request's query, checked against a schema. What is given twice is refused.

    Raises:
        Problem: 422, with the reason.
    """
    given = request.args.to_dict(flat=False)
    return load(into, {name: many[0] if len(many) == 1 else many for name, many in given.items()})


def parse_json(data: bytes) -> Any:
    """Parse strict JSON: what two readers could understand differently is refused.

    Raises:
        Problem: 400 with a reason that names the fault.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:
            _refuse_odd_escapes(value)
    except UnicodeDecodeError as error:
        raise _malformed("BODY_NOT_UTF8", "The body is not UTF-8.") from error
    except RecursionError as error:
        raise _malformed("BODY_TOO_DEEP", "The body is nested too deeply.") from error
    except ValueError as error:
        raise _malformed("BODY_NOT_JSON", "The body is not strict JSON.") from error
    return value


def load(into: Schema, value: Any) -> dict[str, Any]:
    """A parsed value checked against a schema.

    Raises:
        Problem: 422, naming the fields and what is wrong with each, never their values.
    """
    try:
        loaded: dict[str, Any] = into.load(value)
    except ValidationError as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "FIELD_INVALID",
            "Some fields are missing, unknown or not acceptable.",
            fields=_named(error.messages),
        ) from error
    return loaded


def reply(body: Any, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> Response:
    """A JSON answer."""
    response = Response(_ENCODE(body), status, headers=API_HEADERS, content_type=JSON_TYPE)
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _malformed("BODY_DUPLICATE_KEY", "The body has the same key twice in one object.")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _number(digits: str) -> float | int:
    """A number with a point or an exponent. What is whole is whole: 12.0 is the integer 12."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number is larger than any that can be kept")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _refuse_odd_escapes(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    text.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if "\\u0000" in text.replace("\\\\", ""):  # an escaped backslash begins no escape
        raise _malformed("BODY_HAS_NUL", "The body has a NUL character in a string.")


def _malformed(reason: str, detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, reason, detail)


def _named(messages: Any) -> dict[str, Any]:
    return _with_our_names(messages) if isinstance(messages, dict) else {"body": messages}


def _with_our_names(messages: Any) -> Any:
    """The messages under names that could be a field's; any other name is a value that was sent."""
    if not isinstance(messages, dict):
        return messages
    return {
        name if isinstance(name, int) or _NAME.fullmatch(name) else _NO_NAME: _with_our_names(below)
        for name, below in messages.items()
    }


_NAME: Final = re.compile(r"[a-z][a-z_]{0,39}")
_EXACT: Final = 2**53
_NO_NAME: Final = "(a name that no field has)"
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_number
)
_ENCODE: Final = json.JSONEncoder(separators=(",", ":")).encode
