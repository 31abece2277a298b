"""The API over real sockets, from the server of production: what no test client does."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from admin_ui.services import build, migrate
from admin_ui.settings import Settings
from governance.audit.trail import CLI
from policies.permissions import API_SCOPES
from tests.fakes.services import MARKETING, person, said
from tools import servers

JSON = "application/json"
CHECK = "/v1/consent/check"
LIST = f"{CHECK}/batch?purpose={MARKETING}&channel=email"
LINE = b'{"email":"somebody@example.com"}\n'


@dataclass
class Wire:
    """A server and a key, and the bytes between."""

    server: servers.Running
    key: str

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=60)

    def head(self, method: str, path: str, *more: str) -> bytes:
        """The head of a request."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: tutela.example",
            f"Authorization: Bearer {self.key}",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def send(self, *parts: bytes) -> "Answer":
        """Send a whole request, and only then read the answer."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return read_answer(connection)

    def post(self, path: str, body: bytes, *more: str) -> "Answer":
        """POST a JSON body of a stated length."""
        length = f"Content-Length: {len(body)}"
        return self.send(self.head("POST", path, f"Content-Type: {JSON}", length, *more), body)

    def size(self) -> int:
        """How many entries the ledger has."""
        note = self.send(self.head("GET", "/log/checkpoint")).body
        return int(note.splitlines()[1])


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> Any:
        """The reason of a problem document, which this must be."""
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)["reason"]


def read_answer(connection: socket.socket) -> Answer:
    """Read one response, of which the length is stated."""
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.decode("latin-1").partition(": ")
        headers[name.lower()] = value
    return Answer(status, headers, file.read(int(headers.get("content-length", 0))))


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks, whose length nobody states."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def question() -> bytes:
    return json.dumps({"subject": person(), "purpose": MARKETING, "channel": "email"}).encode()


def choices() -> bytes:
    return json.dumps({"subject": person(), "choices": [said("granted")]}).encode()


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    folder: Path = tmp_path_factory.mktemp("wire")
    settings = Settings(data_dir=folder)
    migrate(settings)
    services = build(settings)
    key = services.api_keys.create(name="wire", scopes=API_SCOPES, actor=CLI).key
    services.close()
    with servers.service(settings.database, folder, workers=1, threads=4) as server:
        yield Wire(server, key)


def test_a_body_may_come_in_chunks(wire: Wire) -> None:
    body = question()
    head = wire.head("POST", CHECK, f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
    answer = wire.send(head, chunked(body[:7], body[7:8], body[8:]))
    assert answer.status == 200
    assert not json.loads(answer.body)["allow"]


def test_chunks_may_not_add_up_to_more_than_a_body_may_have(wire: Wire) -> None:
    before = wire.size()
    for path, limit, body in (
        (CHECK, 64 * 1024, question()),
        ("/v1/consent/choices", 1024 * 1024, choices()),
    ):
        head = wire.head("POST", path, f"Content-Type: {JSON}", "Transfer-Encoding: chunked")
        answer = wire.send(head, chunked(body, b" " * (limit - len(body) + 1)))
        assert (answer.status, answer.reason) == (413, "REQUEST_ENTITY_TOO_LARGE")
    assert wire.size() == before


def test_a_body_of_no_stated_length_that_is_not_chunked_is_no_body(wire: Wire) -> None:
    answer = wire.send(wire.head("POST", CHECK, f"Content-Type: {JSON}"))
    assert (answer.status, answer.reason) == (400, "BODY_NOT_JSON")
    answer = wire.send(wire.head("POST", LIST, "Content-Type: application/x-ndjson"))
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_request_that_breaks_off_changes_nothing(wire: Wire, half_closed: bool) -> None:
    before = wire.size()
    body = choices()
    post = ("POST", "/v1/consent/choices", f"Content-Type: {JSON}")
    stated = wire.head(*post, f"Content-Length: {len(body) + 1}")
    in_chunks = wire.head(*post, "Transfer-Encoding: chunked")
    for request in (
        stated[:40],
        stated,
        stated + body,
        stated + body[:-5],
        in_chunks + b"%x\r\n%s" % (len(body), body[:-1]),
    ):
        with wire.connect() as connection:
            connection.sendall(request)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
                answered = connection.recv(4096)
                assert not answered or answered.split()[1] == b"400", request
    time.sleep(0.3)  # nobody waits for an answer: a record made in spite of all would come now
    assert wire.size() == before


def test_whoever_waits_to_be_told_to_continue_is_told(wire: Wire) -> None:
    body = question()
    with wire.connect() as connection:
        connection.sendall(
            wire.head(
                "POST",
                CHECK,
                f"Content-Type: {JSON}",
                f"Content-Length: {len(body)}",
                "Expect: 100-continue",
            )
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection).status == 200


def test_a_refused_body_does_not_become_the_next_request(wire: Wire) -> None:
    hidden = wire.head("GET", "/v1/consent/changes") * 2000
    body = b" " * 70_000 + hidden
    with wire.connect() as connection:
        try:
            connection.sendall(
                wire.head("POST", CHECK, f"Content-Type: {JSON}", f"Content-Length: {len(body)}")
                + body
            )
        except ConnectionError:
            return  # refused and closed before all of it was sent
        assert read_answer(connection).status == 413
        try:
            connection.sendall(wire.head("GET", "/log/checkpoint"))
            answer = read_answer(connection)
        except (ConnectionError, IndexError):
            return  # closed: nobody can mistake one thing for another
        assert answer.headers["content-type"].startswith("text/plain")


def test_two_lengths_or_two_ways_to_state_one_are_refused(wire: Wire) -> None:
    before = wire.size()
    body = choices()
    post = ("POST", "/v1/consent/choices", f"Content-Type: {JSON}")
    for more in (
        (f"Content-Length: {len(body)}", "Content-Length: 5"),
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Transfer-Encoding: gzip, identity",),
    ):
        with wire.connect() as connection:
            connection.sendall(wire.head(*post, *more) + body)
            connection.shutdown(socket.SHUT_WR)
            answered = connection.recv(4096)
            assert not answered or 400 <= int(answered.split()[1]) < 502, more
    assert wire.size() == before


@pytest.mark.parametrize("key", ["a\tb", "a b", "é", "x" * 256, "a\x7f"])
def test_a_malformed_idempotency_key_is_refused(wire: Wire, key: str) -> None:
    before = wire.size()
    answer = wire.post("/v1/consent/choices", choices(), f"Idempotency-Key: {key}")
    assert answer.status == 400
    if answer.body:  # else the server itself refused the header
        assert answer.reason == "IDEMPOTENCY_KEY_INVALID"
    assert wire.size() == before


@pytest.mark.parametrize(
    "path",
    [
        "/log/tile/0/%30%30%30",
        "/log/tile/%2e%2e/checkpoint",
        "/log/tile/../checkpoint",
        "/log/%74ile/9/000",
        "/log//checkpoint",
        "/v1/consent/events/%00/receipt",
        "/v1/consent/events/..%2f..%2f..%2flog%2fcheckpoint/receipt",
    ],
)
def test_an_address_in_disguise_is_not_found(wire: Wire, path: str) -> None:
    answer = wire.send(wire.head("GET", path))
    assert answer.status == 404
    assert answer.reason in ("NOT_FOUND", "TILE_UNKNOWN")


def test_a_long_list_sent_whole_before_anything_is_read_is_answered_in_little_memory(
    wire: Wire,
) -> None:
    count = 200_000
    head = wire.head(
        "POST", LIST, "Content-Type: application/x-ndjson", f"Content-Length: {count * len(LINE)}"
    )
    with wire.connect() as connection:
        connection.sendall(head)
        for _ in range(100):
            connection.sendall(LINE * (count // 100))
        answer = read_answer(connection)
    assert answer.status == 200
    assert answer.body.count(b"\n") == answer.body.count(b"SUBJECT_UNKNOWN") == count
    # 40 MB of answers went out.
    assert len(answer.body) > 40_000_000
    assert servers._largest(wire.server.pid) < wire.server.worker_megabytes + 40


def test_a_list_in_chunks_is_answered_too(wire: Wire) -> None:
    head = wire.head(
        "POST", LIST, "Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"
    )
    answer = wire.send(head, chunked(LINE[:10], LINE[10:] + LINE, b"x" * 5000, b"\n" + LINE))
    reasons = [json.loads(line)["reason"] for line in answer.body.splitlines()]
    assert reasons == ["SUBJECT_UNKNOWN"] * 2 + ["SUBJECT_INVALID", "SUBJECT_UNKNOWN"]
