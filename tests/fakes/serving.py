"""Servers in a thread: an app of ours over a real socket, and one that misbehaves as it is told."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from wsgiref.types import WSGIApplication

from werkzeug.serving import WSGIRequestHandler, make_server


class _Quiet(WSGIRequestHandler):
    # As the server of production: a connection serves one request after another.
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any, **__: Any) -> None:
        """Nothing: a test reads its own output."""


@contextmanager
def serve(app: WSGIApplication) -> Iterator[str]:
    """An app on a loopback port; its address. Ends when what it was asked is answered."""
    busy: set[object] = set()

    def counted(environ: Any, start_response: Any) -> Any:
        mark = object()
        busy.add(mark)
        try:
            answer = app(environ, start_response)
            try:
                return list(answer)
            finally:
                getattr(answer, "close", lambda: None)()
        finally:
            busy.discard(mark)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True  # type: ignore[attr-defined]
    server.block_on_close = False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        ends = time.monotonic() + 30
        while busy and time.monotonic() < ends:
            time.sleep(0.01)
        server.server_close()


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What to answer. Less than the stated length breaks off half-way."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    stated: int | None = None


def told(body: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps(body).encode(), named)


Behaviour: TypeAlias = Answer | Callable[[Asked], "Answer | None"] | None
"""An answer, a function that makes one, or None: hang up without a word."""


@dataclass
class Scripted:
    """A server that does as it is told, the last thing for ever, and knows what it was asked."""

    script: list[Behaviour]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)

    def next(self, asked: Asked) -> Answer | None:
        """What becomes of a request."""
        self.asked.append(asked)
        behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return behaviour(asked) if callable(behaviour) else behaviour


@contextmanager
def scripted(*script: Behaviour) -> Iterator[Scripted]:
    """A server that answers with these, in order."""
    state = Scripted(list(script))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            answer = state.next(asked)
            if answer is None:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            stated = len(answer.body) if answer.stated is None else answer.stated
            self.send_header("Content-Length", str(stated))
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(answer.body)
            self.close_connection = stated != len(answer.body)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
