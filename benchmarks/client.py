"""A load generator that costs little: keep-alive connections, requests written beforehand.

It runs in a process of its own and answers with counts and latencies. Loopback only.
"""

import json
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run saw."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failures: int


def encode(path: str, body: Any, key: str | None = None) -> bytes:
    """One HTTP/1.1 POST as bytes; a GET where there is no body."""
    data = b"" if body is None else json.dumps(body).encode()
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    if key is not None:
        head.append(f"Authorization: Bearer {key}")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def measure(
    port: int, requests: Sequence[bytes], *, seconds: float, connections: int = 8
) -> Measured:
    """Send requests round and round for some seconds, after a warm-up of a quarter of that."""
    context = get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_run, (port, list(requests), seconds, connections))


def _run(port: int, requests: list[bytes], seconds: float, connections: int) -> Measured:
    _drive(port, requests, seconds / 4, connections)
    latencies, failures, elapsed = _drive(port, requests, seconds, connections)
    ordered = sorted(latencies) or [0.0]
    return Measured(
        requests_per_second=len(latencies) / elapsed,
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
        failures=failures,
    )


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    sent_at: float = 0.0
    buffer: bytes = b""


def _drive(
    port: int, requests: list[bytes], seconds: float, connections: int
) -> tuple[list[float], int, float]:
    selector = selectors.DefaultSelector()
    queue = cycle(requests)
    latencies: list[float] = []
    failures = 0
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one = _Connection(sock)
        selector.register(sock, selectors.EVENT_READ, one)
        _send(one, next(queue))
    started = time.perf_counter()
    until = started + seconds
    while (now := time.perf_counter()) < until:
        for ready, _ in selector.select(timeout=0.5):
            one = ready.data
            answer = _received(one)
            if answer is None:
                continue
            now = time.perf_counter()
            latencies.append(now - one.sent_at)
            failures += answer[9:10] != b"2"
            _send(one, next(queue))
    elapsed = now - started
    for ready in list(selector.get_map().values()):
        ready.data.sock.close()
    return latencies, failures, elapsed


def _send(one: _Connection, request: bytes) -> None:
    one.buffer = b""
    one.sent_at = time.perf_counter()
    one.sock.sendall(request)


def _received(one: _Connection) -> bytes | None:
    """The whole answer once it is there."""
    chunk = one.sock.recv(1 << 20)
    if not chunk:
        sys.exit("the server closed a connection")
    one.buffer += chunk
    head, found, body = one.buffer.partition(b"\r\n\r\n")
    if not found:
        return None
    lower = head.lower()
    start = lower.find(b"content-length:")
    if start < 0:
        return one.buffer if body.endswith(b"0\r\n\r\n") else None
    length = int(lower[start + 15 :].split(b"\r\n", 1)[0])
    return one.buffer if len(body) >= length else None
