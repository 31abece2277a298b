"""`require_consent` for Django: `pip install 'tutela-client[django]'`."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse

from consent.client.decisions import Decision
from consent.client.gate import HEADERS, PROBLEM, Gate, Using, problem, status_of

_View: TypeAlias = Callable[..., Any]


def answer_denied(request: HttpRequest, decision: Decision) -> HttpResponse:  # noqa: ARG001
    """Problem details, with status 403 or 503."""
    return JsonResponse(
        problem(decision), status=status_of(decision), headers=dict(HEADERS), content_type=PROBLEM
    )


def require_consent(
    purpose: str,
    channel: str,
    *,
    subject: Callable[[HttpRequest], Any],
    using: Using,
    denied: Callable[[HttpRequest, Decision], HttpResponse] = answer_denied,
) -> Callable[[_View], _View]:
    """Let nobody reach a view, written with `def` or `async def`, without consent.

    The view finds the decision in `request.consent`: that of the innermost guard, if it has many.
    In a function written with `async def`, the event loop goes on while the question is out. For a
    class of views, `method_decorator` puts it on `dispatch`: that is no coroutine function, so give
    a class with asynchronous views a mirror.

    Args:
        purpose: the key of a purpose of the service's policy.
        channel: such as `email`.
        subject: the `Subject` that a request is about; None if that is nobody. For an asynchronous
            view it may be a coroutine function. Take it from who is logged in, not from what was
            sent: the reason of a no tells what somebody chose. What it raises, such as
            `PermissionDenied`, goes on to Django.
        using: a `Client` or a `Mirror`, or what gives it when it is needed.
        denied: answers in place of the view; problem details, unless you have a page for it.

    Raises:
        TypeError: when it is put on a view with `def`, and `subject` is a coroutine function.
    """
    gate = Gate(purpose, channel, using)

    def guard(view: _View) -> _View:
        if iscoroutinefunction(view):
            return _guard_async(view, gate, subject, denied)
        if iscoroutinefunction(subject):
            raise TypeError("a view that is not asynchronous cannot wait for its subject")

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            decision = gate.decide(subject(request))
            if not decision:
                return denied(request, decision)
            request.consent = decision
            return view(request, *args, **kwargs)

        return guarded

    return guard


def _guard_async(
    view: _View,
    gate: Gate,
    subject: Callable[[HttpRequest], Any],
    denied: Callable[[HttpRequest, Decision], HttpResponse],
) -> _View:
    # The session and the database are Django's, and bound to its one thread; the service is not.
    find = subject if iscoroutinefunction(subject) else sync_to_async(subject)
    answer = sync_to_async(denied)

    @wraps(view)
    async def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        whom = await find(request)
        decision = await asyncio.to_thread(gate.decide, whom) if gate.waits else gate.decide(whom)
        if not decision:
            return await answer(request, decision)
        request.consent = decision
        return await view(request, *args, **kwargs)

    return guarded
