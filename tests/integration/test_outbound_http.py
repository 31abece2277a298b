"""Calls to other hosts, against servers that are down, slow, false, and worse."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from governance.outbound.http import CallFailedError, CallRefusedError, HttpClient
from governance.outbound.reach import Reach
from tests.fakes.certificates import authority
from tests.fakes.receiver import Receiver, Reply, receiving

NAME = "hooks.example.com"


class Names:
    """A resolver whose answers change from look to look."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


HERE = Names(["127.0.0.1"])


@contextmanager
def client_of(
    receiver: Receiver, *, names: Names = HERE, networks: str = "127.0.0.1", **limits: float
) -> Iterator[HttpClient]:
    hosts = f"{receiver.scheme}://{NAME}:{receiver.port}"
    yield HttpClient(
        Reach.of(hosts, networks),
        context=authority().trusting(),
        resolve=names,
        whole_seconds=limits.get("whole", 5),
        step_seconds=limits.get("step", 2),
        max_answer=1000,
    )


def post(client: HttpClient, receiver: Receiver, path: str = "/hook?a=b") -> int:
    url = receiver.url(NAME, path)
    return client.send("POST", url, {"Content-Type": "text/plain", "X-Own": "1"}, b"hello").status


def failure(client: HttpClient, receiver: Receiver) -> str:
    with pytest.raises(CallFailedError) as caught:
        post(client, receiver)
    assert receiver.url(NAME) not in str(caught.value)
    return caught.value.reason


@pytest.fixture
def plain() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


# --- as it should be ---------------------------------------------------------------------------


def test_a_call_says_what_it_was_told_and_no_more(plain: Receiver) -> None:
    plain.behave = lambda _: Reply(200, {"X-Said": "yes"}, b"thanks")
    with client_of(plain) as client:
        answer = client.send("POST", plain.url(NAME, "/a?b=c"), {"X-Own": "1"}, b"hello")
    assert (answer.status, answer.headers["x-said"], answer.body) == (200, "yes", b"thanks")
    (request,) = plain.received
    assert (request.method, request.path, request.body) == ("POST", "/a?b=c", b"hello")
    assert request.headers == {
        "host": f"{NAME}:{plain.port}",
        "x-own": "1",
        "content-length": "5",
        "connection": "close",
    }


def test_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    with receiving(authority().server(tmp_path, NAME)) as receiver, client_of(receiver) as client:
        assert post(client, receiver) == 204


# --- TLS that is not theirs ----------------------------------------------------------------------


def test_a_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    with (
        receiving(authority().server(tmp_path, "other.example.com")) as receiver,
        client_of(receiver) as client,
    ):
        assert failure(client, receiver) == "TLS_FAILED"
        assert receiver.received == []


def test_a_certificate_that_has_expired_is_refused(tmp_path: Path) -> None:
    with (
        receiving(authority().server(tmp_path, NAME, days=-1)) as receiver,
        client_of(receiver) as client,
    ):
        assert failure(client, receiver) == "TLS_FAILED"


def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    with receiving(authority().server(tmp_path, NAME)) as receiver:
        client = HttpClient(
            Reach.of(f"{NAME}:{receiver.port}", "127.0.0.1"),
            context=ssl.create_default_context(),
            resolve=HERE,
        )
        assert failure(client, receiver) == "TLS_FAILED"
        assert receiver.received == []


def test_a_server_without_tls_is_refused_where_tls_was_meant(plain: Receiver) -> None:
    client = HttpClient(Reach.of(f"{NAME}:{plain.port}", "127.0.0.1"), resolve=HERE, step_seconds=1)
    with pytest.raises(CallFailedError) as caught:
        client.send("POST", f"https://{NAME}:{plain.port}/", {}, b"")
    assert caught.value.reason in ("TLS_FAILED", "TIMED_OUT")
    assert plain.received == []


# --- where it may not go -------------------------------------------------------------------------


def test_a_host_that_was_not_named_is_not_even_looked_up(plain: Receiver) -> None:
    names = Names(["127.0.0.1"])
    with client_of(plain, names=names) as client:
        for url in (
            f"http://other.example.com:{plain.port}/",
            f"http://127.0.0.1:{plain.port}/",
            f"http://{NAME}/",
            f"https://{NAME}:{plain.port}/",
        ):
            with pytest.raises(CallRefusedError) as caught:
                client.send("POST", url, {})
            assert caught.value.reason == "HOST_NOT_ALLOWED"
        with pytest.raises(CallRefusedError) as caught:
            client.send("POST", "http://x y/", {})
        assert caught.value.reason == "URL_INVALID"
    assert names.asked == []
    assert plain.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["93.184.216.34", "127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
    ],
)
def test_a_name_that_leads_inside_is_refused(plain: Receiver, addresses: list[str]) -> None:
    with client_of(plain, names=Names(addresses), networks="") as client:
        with pytest.raises(CallRefusedError) as caught:
            post(client, plain)
        assert caught.value.reason == "ADDRESS_FORBIDDEN"
    assert plain.connections == 0


def test_a_name_that_changes_between_look_and_call_gains_nothing(plain: Receiver) -> None:
    # What was looked at is 127.0.0.1, which is allowed here; a second look would lead elsewhere.
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    with client_of(plain, names=names) as client:
        assert post(client, plain) == 204
        assert names.asked == [(NAME, plain.port)], "looked up once, and called where that led"
        with pytest.raises(CallRefusedError):
            post(client, plain)
    assert len(plain.received) == 1


def test_a_name_that_nobody_knows_is_a_failure() -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise OSError(f"no {host}:{port}")

    client = HttpClient(Reach.of(NAME), resolve=resolve)
    with pytest.raises(CallFailedError) as caught:
        client.send("POST", f"https://{NAME}/", {})
    assert caught.value.reason == "NAME_UNKNOWN"


def test_another_address_is_tried_where_the_first_is_down(plain: Receiver) -> None:
    # Nothing listens at ::1 on this port.
    with client_of(plain, names=Names(["::1", "127.0.0.1"]), networks="127.0.0.1 ::1") as client:
        assert post(client, plain) == 204


def test_a_redirect_is_an_answer_and_not_followed(plain: Receiver) -> None:
    where = {"Location": "http://169.254.169.254/latest/meta-data/"}
    for status in (301, 302, 303, 307, 308):
        plain.behave = lambda _, status=status: Reply(status, where)  # type: ignore[misc]
        with client_of(plain) as client:
            assert post(client, plain) == status
    assert plain.connections == 5


# --- answers that are none -----------------------------------------------------------------------


def test_nobody_at_home(plain: Receiver) -> None:
    with receiving() as gone:
        pass
    with client_of(gone) as client:
        assert failure(client, gone) == "NOT_REACHED"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(hang_up=True), "CONNECTION_LOST"),
        (Reply(raw=b"hello there\r\n\r\n"), "ANSWER_MALFORMED"),
        (Reply(raw=b"HTTP/1.1 abc OK\r\n\r\n"), "ANSWER_MALFORMED"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"), "ANSWER_MALFORMED"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n"), "ANSWER_MALFORMED"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"), "ANSWER_MALFORMED"),
        (
            Reply(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "ANSWER_MALFORMED",
        ),
        (Reply(200, body=b"x" * 1001), "ANSWER_TOO_LARGE"),
        (Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000), "ANSWER_TOO_LARGE"),
    ],
    ids=range(9),
)
def test_an_answer_that_is_none_has_a_reason(plain: Receiver, reply: Reply, reason: str) -> None:
    plain.behave = lambda _: reply
    with client_of(plain) as client:
        assert failure(client, plain) == reason


def test_a_receiver_that_says_nothing_times_out(plain: Receiver) -> None:
    plain.behave = lambda _: Reply(seconds=30)
    with client_of(plain, step=0.2) as client:
        assert failure(client, plain) == "TIMED_OUT"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(drip=True),
        Reply(drip=True, raw=b"HTTP/1.1 100 Continue\r\n\r\n"),
        Reply(200, {"Content-Length": "5"}, seconds=0, drip=True),
    ],
    ids=["bytes", "continue", "never whole"],
)
def test_a_receiver_that_never_ends_is_cut_off(plain: Receiver, reply: Reply) -> None:
    plain.behave = lambda _: reply
    began = time.monotonic()
    with client_of(plain, whole=0.5, step=5) as client:
        assert failure(client, plain) == "TIMED_OUT"
    assert time.monotonic() - began < 4


def test_a_handshake_that_never_ends_is_cut_off() -> None:
    # It takes the greeting of TLS for a request, and drips what could be a record of TLS.
    with receiving() as receiver:
        receiver.scheme = "https"
        began = time.monotonic()
        with client_of(receiver, whole=0.5, step=5) as client:
            assert failure(client, receiver) in ("TIMED_OUT", "TLS_FAILED")
        assert time.monotonic() - began < 4
