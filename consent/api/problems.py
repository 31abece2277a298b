"""Errors over HTTP: RFC 9457 problem details with a stable reason code.

A problem never repeats what the caller sent: no value of the request is in it, only field names.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from consent import errors
from consent.errors import ConsentError

MEDIA_TYPE: Final = "application/problem+json"

API_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""What every answer of the API carries: it is data, for the caller alone, and no page."""

_STATUS: Final[Mapping[type[ConsentError], HTTPStatus]] = {
    errors.UnknownEventError: HTTPStatus.NOT_FOUND,
    errors.UnknownSubjectError: HTTPStatus.NOT_FOUND,
    errors.IdempotencyConflictError: HTTPStatus.CONFLICT,
    errors.MirrorOutdatedError: HTTPStatus.CONFLICT,
    errors.EvidenceErasedError: HTTPStatus.GONE,
    errors.LedgerError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Which status an error becomes; what is not here (nor a base of it) is the caller's 422."""


class Problem(Exception):  # noqa: N818 - the RFC's word
    """An answer that is an error. `reason` is for programs, `detail` for people."""

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        detail: str,
        *,
        fields: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.fields = fields
        self.headers = headers or {}

    def response(self) -> Response:
        """The HTTP response that says this problem."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.fields:
            body["errors"] = self.fields
        headers = [*API_HEADERS, *self.headers.items()]
        return Response(json.dumps(body), self.status, headers=headers, content_type=MEDIA_TYPE)


def problem_of(error: ConsentError) -> Problem:
    """What an error of this package is to the caller."""
    status = next(
        (_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS),
        HTTPStatus.UNPROCESSABLE_ENTITY,
    )
    return Problem(status, error.code, str(error))


def problem_of_http(error: HTTPException) -> Problem:
    """What an error of the web framework (no such path, method, size) is to the caller."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {}
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        headers["Allow"] = ", ".join(sorted(allowed))
    return Problem(status, status.name, _DETAIL.get(status, status.description), headers=headers)


_DETAIL: Final = {
    HTTPStatus.NOT_FOUND: "There is nothing at this address.",
    HTTPStatus.METHOD_NOT_ALLOWED: "This address does not answer to this method.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than this address accepts.",
    HTTPStatus.BAD_REQUEST: "The request is malformed.",
    HTTPStatus.LENGTH_REQUIRED: "State the length of the body.",
}


def register_problems(app: Flask) -> None:
    """Answer errors of this package and of the API's own as problem details."""
    app.register_error_handler(Problem, Problem.response)
    app.register_error_handler(ConsentError, lambda error: problem_of(error).response())


def wants_problem() -> bool:
    """Whether the request came to the API, where every error is a problem document."""
    return request.path.startswith(("/v1/", "/log/")) or request.path == "/openapi.json"
