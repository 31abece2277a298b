"""One HTTPS connection pool to the service: tries again where that may help, and gives up in time.

Guarantees: a body is written once, so that every try sends the same bytes; the key travels in a
header, to the address that was given and nowhere else (no redirect is followed, no proxy is taken
from the environment, plain http is for this machine alone); no error quotes a body, an address of
a person or the key. Shared by threads, and usable in a forked child.
"""

import json
import os
import random
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from consent.client.errors import (
    BusyError,
    ClientError,
    FailedError,
    KeyRefusedError,
    NotAnsweredError,
    RefusedError,
    UnreadableAnswerError,
)

JSON: Final = "application/json"
MOST_BYTES: Final = 256 * 1024 * 1024
"""Of an answer. A list of two million decisions has more: it is asked for in parts."""

_CHUNK: Final = 256 * 1024
_ON_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_AGENT: Final = "tutela-client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait and how often to try. Seconds."""

    connect: float = 2.0
    """For a connection."""
    read: float = 5.0
    """For the next bytes of an answer."""
    total: float = 10.0
    """For everything, pauses included."""
    tries: int = 4
    first_pause: float = 0.1
    """The longest first pause; each next one may be twice as long."""
    longest_pause: float = 5.0

    def pause(self, failures: int, chance: Callable[[], float]) -> float:
        """Full jitter: anything up to the bound, so that many callers do not come back at once."""
        return chance() * min(self.longest_pause, self.first_pause * 2.0 ** min(failures, 32))


@dataclass(frozen=True, slots=True)
class Timing:
    """What waiting needs from outside, so that tests need not wait."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    chance: Callable[[], float] = random.random
    """Between 0 and 1. Only spreads retries: nothing secret depends on it."""
    wall: Callable[[], float] = time.time
    """Seconds that go on while a machine sleeps, where the monotonic clock may stand still."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back with a status of success."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    asked_at: float
    """When the try that was answered was sent, on the monotonic clock."""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            UnreadableAnswerError: it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise UnreadableAnswerError("the answer is not JSON") from error


class Transport:
    """Sends requests with one API key to one installation."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        patience: Patience | None = None,
        timing: Timing | None = None,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: where the service is, such as `https://consent.example.com`.
            key: an API key.
            patience: how long to wait and how often to try.
            timing: clock, sleep and chance.
            ca_file: certificates to trust instead of the machine's own.
            allow_http: send the key in clear to another machine. Anyone on the way can read it.

        Raises:
            ValueError: the address or the key has not its form, or would travel in clear.
        """
        self.url: Final = _address(url, allow_http=allow_http)
        if not key.isascii() or not key.isprintable() or not key or " " in key:
            raise ValueError("the API key is empty or has characters that no key has")
        self.patience: Final = patience or Patience()
        self.timing: Final = timing or Timing()
        self._headers = {"Authorization": f"Bearer {key}", "User-Agent": _AGENT}
        self._ca_file = ca_file
        self._pool = self._open()
        _transports.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.url}, redacted>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("it holds an API key, and must not be pickled")

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
        patience: Patience | None = None,
    ) -> Answer:
        """Send a request until it is answered, refused, or there is no time left.

        Only send what may be sent twice: questions, and acts that carry an Idempotency-Key.

        Args:
            method: of HTTP.
            path: below the service's address.
            query: never an identifier: addresses are written to logs.
            body: bytes as they are, anything else as JSON.
            content_type: of the body.
            headers: more of them.
            patience: another than that of this transport.

        Raises:
            RefusedError: it was refused (4xx); `KeyRefusedError` for the key.
            NotAnsweredError, BusyError, FailedError: what the last try met.
            UnreadableAnswerError: a redirect, or more than `MOST_BYTES`.
        """
        patience = patience or self.patience
        target = self.url + path + (f"?{urlencode(query)}" if query else "")
        data = body if isinstance(body, bytes) or body is None else encoded(body)
        sent = {**self._headers, "Accept": "*/*", **(headers or {})}
        if data is not None:
            sent["Content-Type"] = content_type
        monotonic = self.timing.monotonic
        ends = monotonic() + patience.total
        failures = 0
        while True:
            wait = 0.0
            try:
                return self._once(method, target, data, sent, patience, ends)
            except (NotAnsweredError, FailedError) as error:
                failure: ClientError = error
            except _BusyForError as error:
                failure, wait = BusyError(str(error)), error.seconds
            pause = wait + patience.pause(failures, self.timing.chance)
            failures += 1
            if failures >= patience.tries or monotonic() + pause >= ends:
                raise failure
            self.timing.sleep(pause)

    def _once(
        self,
        method: str,
        target: str,
        data: bytes | None,
        headers: Mapping[str, str],
        patience: Patience,
        ends: float,
    ) -> Answer:
        asked_at = self.timing.monotonic()
        left = max(0.001, ends - asked_at)
        timeout = urllib3.Timeout(min(patience.connect, left), min(patience.read, left))
        try:
            response = self._pool.request(
                method,
                target,
                body=data,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                body = self._read(response, ends)
            except BaseException:
                response.close()  # what is left on the line belongs to no other request
                raise
            response.release_conn()
        except (HTTPError, OSError) as error:
            raise NotAnsweredError(f"no answer: {type(error).__name__}") from error
        return _judged(response.status, response.headers, body, asked_at)

    def _read(self, response: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        parts, size = [], 0
        while part := response.read1(_CHUNK):
            size += len(part)
            if size > MOST_BYTES:
                raise UnreadableAnswerError("the answer is larger than any of this service")
            if self.timing.monotonic() > ends:
                raise NotAnsweredError("no answer: it did not end in time")
            parts.append(part)
        return b"".join(parts)

    def _open(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(
            num_pools=1, maxsize=32, cert_reqs="CERT_REQUIRED", ca_certs=self._ca_file
        )

    def _after_fork(self) -> None:
        # To close what was inherited could end the parent's conversations; it is only let go.
        _inherited.append(self._pool)
        self._pool = self._open()


class _BusyForError(ClientError):
    """Come back later."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the service is busy")
        self.seconds = seconds


def encoded(body: Any) -> bytes:
    """JSON that is the same bytes whenever the same is said, as an Idempotency-Key demands."""
    return json.dumps(body, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()


def _address(url: str, *, allow_http: bool) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address of the service is written like https://consent.example.com")
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ValueError("the address of the service has no query, fragment, name or password")
    if parts.scheme == "http" and parts.hostname not in _ON_THIS_MACHINE and not allow_http:
        raise ValueError(
            "over http anyone on the way can read the API key; use https, or say allow_http=True"
        )
    return url.rstrip("/")


def _judged(status: int, headers: Mapping[str, str], body: bytes, asked_at: float) -> Answer:
    if 200 <= status < 300:
        return Answer(status, headers, body, asked_at)
    if status in (429, 503):
        raise _BusyForError(_seconds(headers.get("Retry-After")))
    if status >= 500:
        raise FailedError(f"the service failed with {status}")
    if status < 400:
        raise UnreadableAnswerError(f"the address answers with {status}: it is not the service's")
    reason, detail, fields = _problem(body)
    kind = KeyRefusedError if status in (401, 403) else RefusedError
    raise kind(f"refused with {status}: {detail}", reason, status, fields)


def _problem(body: bytes) -> tuple[str, str, Mapping[str, Any] | None]:
    """Reason, sentence and fields of a problem document, which repeats nothing that was sent."""
    try:
        told = json.loads(body)
        reason, detail, fields = told["reason"], told["detail"], told.get("errors")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "REFUSED", "without a reason", None
    if not isinstance(reason, str) or not isinstance(detail, str):
        return "REFUSED", "without a reason", None
    return reason, detail, fields if isinstance(fields, Mapping) else None


def _seconds(retry_after: str | None) -> float:
    """Of a `Retry-After`; a date in it is not needed of this service."""
    if retry_after is None or not retry_after.isascii() or not retry_after.isdecimal():
        return 0.0
    return float(retry_after)


_transports: weakref.WeakSet[Transport] = weakref.WeakSet()
_inherited: list[object] = []


def _forget_inherited_connections() -> None:
    for transport in list(_transports):
        transport._after_fork()  # noqa: SLF001 - this module's own class


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forget_inherited_connections)
