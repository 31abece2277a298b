"""`require_consent` for FastAPI: `pip install 'tutela-client[fastapi]'`.

A no is a `ConsentDeniedError`, which FastAPI answers by itself: give it an exception handler to
answer in another form.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from fastapi.concurrency import run_in_threadpool

from consent.client.decisions import Decision
from consent.client.gate import HEADERS, Gate, Using, problem, status_of
from consent.client.subjects import Subject


class ConsentDeniedError(HTTPException):
    """The path operation was not reached. `decision` says why, the status is 403 or 503."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(status_of(decision), problem(decision), dict(HEADERS))
        self.decision = decision


def require_consent(
    purpose: str, channel: str, *, subject: Callable[..., Any], using: Using
) -> Callable[..., Awaitable[Decision]]:
    """A dependency without which a path operation is not reached; its value is the decision.

    While a client asks, in a thread of the pool, the event loop goes on. A mirror needs no thread.

    Args:
        purpose: the key of a purpose of the service's policy.
        channel: such as `email`.
        subject: a dependency that gives the `Subject`, or None if that is nobody. Take it from who
            is logged in, not from what was sent: the reason of a no tells what somebody chose. What
            it raises, such as `HTTPException(401)`, goes on to FastAPI.
        using: a `Client` or a `Mirror`, or what gives it when it is needed.

    Raises:
        ConsentDeniedError: of the dependency; nothing further is called.
    """
    gate = Gate(purpose, channel, using)

    async def consent(whom: Annotated[Subject | None, Depends(subject)]) -> Decision:
        decision = await run_in_threadpool(gate.decide, whom) if gate.waits else gate.decide(whom)
        if not decision:
            raise ConsentDeniedError(decision)
        return decision

    return consent
