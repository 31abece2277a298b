"""`require_consent` for Flask: `pip install 'tutela-client[flask]'`.

A no is a `ConsentDeniedError`, which Flask answers by itself with problem details: register an
error handler for it to answer with a page of yours.
"""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

from flask import Response, current_app, g
from werkzeug.exceptions import HTTPException

from consent.client.decisions import Decision
from consent.client.gate import HEADERS, PROBLEM, Gate, Using, problem, status_of
from consent.client.subjects import Subject

_View: TypeAlias = Callable[..., Any]


class ConsentDeniedError(HTTPException):
    """The view was not reached. `decision` says why, `code` is 403 or 503."""

    def __init__(self, decision: Decision) -> None:
        body = json.dumps(problem(decision))
        status = status_of(decision)
        answer = Response(body, status, dict(HEADERS), content_type=PROBLEM)
        super().__init__(decision.reason, answer)
        self.code = status
        self.decision = decision


def require_consent(
    purpose: str, channel: str, *, subject: Callable[[], Subject | None], using: Using
) -> Callable[[_View], _View]:
    """Let nobody reach a view, written with `def` or `async def`, without consent.

    The view finds the decision in `flask.g.consent`: that of the innermost guard, if it has many.

    Args:
        purpose: the key of a purpose of the service's policy.
        channel: such as `email`.
        subject: whom it is about, called in the request; None if that is nobody. Take it from who
            is logged in, not from what was sent: the reason of a no tells what somebody chose. What
            it raises, such as `abort(401)`, goes on to Flask.
        using: a `Client` or a `Mirror`, or what gives it when it is needed.

    Raises:
        ConsentDeniedError: of the view, which was not reached.
    """
    gate = Gate(purpose, channel, using)

    def guard(view: _View) -> _View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            decision = gate.decide(subject())
            if not decision:
                raise ConsentDeniedError(decision)
            g.consent = decision
            return current_app.ensure_sync(view)(*args, **kwargs)

        return guarded

    return guard
