"""A server that receives webhooks, and does whatever a test wants with them."""

import contextlib
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True)
class Received:
    """One request, whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass(frozen=True)
class Reply:
    """What to answer, byte for byte where `raw` says so."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    """How long to think first, unless the test is over."""
    raw: bytes | None = None
    drip: bool = False
    """Send without end, one byte at a time."""
    hang_up: bool = False


OK: Final = Reply()
Behaviour = Callable[[Received], Reply]


class Receiver:
    """Keeps all it received, in order; `behave` decides on the answer."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.scheme = scheme
        self.received: list[Received] = []
        self.connections = 0
        self.behave: Behaviour = lambda _: OK
        self.over = threading.Event()
        self._lock = threading.Lock()

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def take(self, request: Received) -> Reply:
        with self._lock:
            self.received.append(request)
            return self.behave(request)

    @property
    def ids(self) -> list[str]:
        """The ids of the events that came, repeats included."""
        return [one.id for one in self.received]


@contextmanager
def receiving(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a port of its own, with TLS where a context is given."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            receiver.connections += 1
            with contextlib.suppress(OSError, ssl.SSLError):
                sock = self.request
                if context is not None:
                    sock = context.wrap_socket(sock, server_side=True)
                with sock:
                    _serve(receiver, sock)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def shutdown_request(self, request: Any) -> None:
            # A socket that TLS took over is closed by it.
            with contextlib.suppress(OSError):
                super().shutdown_request(request)

    server = Server(("127.0.0.1", 0), Handler)
    scheme = "http" if context is None else "https"
    receiver = Receiver(server.server_address[1], scheme)
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _serve(receiver: Receiver, sock: socket.socket) -> None:
    request = _read(sock)
    if request is None:
        return
    reply = receiver.take(request)
    if reply.seconds:
        receiver.over.wait(reply.seconds)
    if reply.hang_up:
        return
    while reply.drip and not receiver.over.is_set():
        sock.sendall(b"H" if reply.raw is None else reply.raw)
        time.sleep(0.02)
    if reply.raw is not None:
        sock.sendall(reply.raw)
        return
    headers = {"Content-Length": str(len(reply.body))} | reply.headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    sock.sendall(f"HTTP/1.1 {reply.status} Said\r\n{lines}\r\n".encode() + reply.body)


def _read(sock: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += sock.recv(65536)
    return Received(method, path, headers, body)
