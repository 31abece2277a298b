"""Calls to other hosts: where `Reach` allows, once, and for so long.

Guarantees:
- The host's name is resolved once; every address that it has must be admitted, and the connection
  goes to one of those, so that a name that changes its mind between look and call gains nothing.
- Nothing is followed: a redirect is an answer like any other. No proxy is taken from anywhere.
- TLS is verified against the name, with the certificates that the system trusts.
- An answer is read to a limit of bytes, a call ends within a limit of seconds, however slowly the
  other side sends.

Non-goals: retries, cookies, connections that are kept.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, TypeAlias

from governance.outbound.errors import OutboundError
from governance.outbound.reach import Address, Reach, Target, parse_url

CONNECT_SECONDS: Final = 5.0
STEP_SECONDS: Final = 10.0
WHOLE_SECONDS: Final = 20.0
MAX_ANSWER: Final = 64 * 1024

Resolver: TypeAlias = Callable[[str, int], Sequence[str]]


class CallRefusedError(OutboundError):
    """The call was not made: it is not allowed. `reason` is a code, the message a sentence."""

    code = "CALL_REFUSED"

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class CallFailedError(OutboundError):
    """No whole answer came. Whether the other side acted is not known."""

    code = "CALL_FAILED"

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call failed: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    """By lower-case name; of several with one name, the last."""
    body: bytes = field(repr=False)


def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of a host, as this machine looks names up.

    Raises:
        OSError: there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class HttpClient:
    """Makes calls. Shared by threads."""

    def __init__(
        self,
        reach: Reach,
        *,
        context: ssl.SSLContext | None = None,
        resolve: Resolver = system_resolver,
        whole_seconds: float = WHOLE_SECONDS,
        step_seconds: float = STEP_SECONDS,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        """What may be called, and for tests certificates, names and limits."""
        self.reach: Final = reach
        self._context = context or ssl.create_default_context()
        self._resolve = resolve
        self._whole_seconds = whole_seconds
        self._step_seconds = step_seconds
        self._max_answer = max_answer

    def check(self, url: str) -> Target:
        """Whether a URL may be called, as far as can be said without looking it up.

        Raises:
            CallRefusedError: it may not.
        """
        try:
            target = parse_url(url)
        except ValueError as error:
            raise CallRefusedError("URL_INVALID", str(error)) from error
        if not self.reach.allows(target):
            raise CallRefusedError(
                "HOST_NOT_ALLOWED",
                "this host and port are not in TUTELA_OUTBOUND_HOSTS; whoever runs the service "
                "can add them",
            )
        return target

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Make one call.

        Args:
            method: such as `POST`.
            url: http or https; what is secret in it stays out of errors.
            headers: beside Host, Content-Length and Connection, which are ours.
            body: what to send.

        Raises:
            CallRefusedError: it is not allowed to go there.
            CallFailedError: no whole answer came.
        """
        target = self.check(url)
        addresses = self._addresses(target)
        watch = _Watch(self._whole_seconds)
        try:
            return self._exchange(target, addresses, watch, method, headers, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CallFailedError("TIMED_OUT" if watch.cut else _reason(error)) from error
        finally:
            watch.end()

    def _addresses(self, target: Target) -> list[Address]:
        try:
            found = [ip_address(one) for one in self._resolve(target.host, target.port)]
        except (OSError, UnicodeError) as error:
            raise CallFailedError("NAME_UNKNOWN") from error
        except ValueError as error:
            # An IPv6 address with a zone: link-local.
            raise _forbidden() from error
        if not found:
            raise CallFailedError("NAME_UNKNOWN")
        if not all(self.reach.admits(address) for address in found):
            raise _forbidden()
        return found

    def _exchange(
        self,
        target: Target,
        addresses: Sequence[Address],
        watch: "_Watch",
        method: str,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Answer:
        raw = self._connect(target, addresses, watch)
        with raw:
            sock = raw
            if target.scheme == "https":
                sock = self._context.wrap_socket(
                    raw, server_hostname=target.host, do_handshake_on_connect=False
                )
                watch.over(sock)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = sock
            with sock:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                connection.putrequest(
                    method, target.path, skip_host=True, skip_accept_encoding=True
                )
                ours = {
                    "Host": target.authority,
                    "Content-Length": str(len(body)),
                    "Connection": "close",
                }
                for name, value in {**headers, **ours}.items():
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                with response:
                    content = response.read(self._max_answer + 1)
        if len(content) > self._max_answer:
            raise CallFailedError("ANSWER_TOO_LARGE")
        if response.length:
            raise http.client.IncompleteRead(content, response.length)
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, content)

    def _connect(
        self, target: Target, addresses: Sequence[Address], watch: "_Watch"
    ) -> socket.socket:
        failure: OSError | None = None
        for address in addresses:
            if watch.cut:
                break
            try:
                sock = socket.create_connection((str(address), target.port), CONNECT_SECONDS)
            except OSError as error:
                failure = error
                continue
            sock.settimeout(self._step_seconds)
            watch.over(sock)
            return sock
        raise CallFailedError("TIMED_OUT" if watch.cut else "NOT_REACHED") from failure


class _Watch:
    """Cuts a connection off after so many seconds in all.

    Python's own wait for each step starts anew with every byte that comes.
    """

    def __init__(self, seconds: float) -> None:
        self.cut = False
        self._sock: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def over(self, sock: socket.socket) -> None:
        """Watch over this connection from now on."""
        self._sock = sock
        if self.cut:
            raise TimeoutError

    def end(self) -> None:
        """The call is over."""
        self._timer.cancel()

    def _cut(self) -> None:
        self.cut = True
        if self._sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "TLS_FAILED"
    if isinstance(error, TimeoutError):
        return "TIMED_OUT"
    # A connection that ends before an answer is both kinds of error to Python.
    return "CONNECTION_LOST" if isinstance(error, OSError) else "ANSWER_MALFORMED"


def _forbidden() -> CallRefusedError:
    return CallRefusedError(
        "ADDRESS_FORBIDDEN",
        "the host's name leads to an address inside a private or special network; whoever runs "
        "the service can name it in TUTELA_OUTBOUND_NETWORKS",
    )
