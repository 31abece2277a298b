"""Mails over SMTP, to a server that is not ours: TLS, refusals, silence, and hostile addresses."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from consent.errors import InvalidSubjectError
from consent.subjects import email
from governance.outbound.errors import DeliveryFailedError, DeliveryRefusedError
from governance.outbound.mail import Letter
from governance.outbound.settings import Sender, SmtpSecurity, SmtpServer
from governance.outbound.templates import Written
from governance.outbound.transports import SmtpTransport, message_of
from tests.fakes.certificates import authority
from tests.fakes.clock import START
from tests.fakes.mail_server import LOGIN, MailServer, mail_server

SENDER = Sender("privacy@shop.example", "Müller & Söhne, Shop")
TEXT = "Your code is 4711.\n\nhttps://shop.example/p/abc\n"
HTML = "<p>Your code is 4711.</p>"


def letter(address: str = "ada@example.org", **changes: object) -> Letter:
    written = Written("Ihr Code für heute", TEXT, HTML)
    return Letter("0198-mail", START, **{"address": address, "written": written} | changes)  # type: ignore[arg-type]


def transport(
    server: MailServer, security: SmtpSecurity = SmtpSecurity.NONE, **more: object
) -> SmtpTransport:
    settings = {"user": "", "password": "", "host": "127.0.0.1"} | more
    return SmtpTransport(
        SmtpServer(port=server.port, security=security, **settings),  # type: ignore[arg-type]
        SENDER,
        context=authority().trusting(),
        step_seconds=2,
        whole=timedelta(seconds=5),
    )


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server() as opened:
        yield opened


# --- what goes over the wire -------------------------------------------------------------------


def test_the_message_is_what_a_reader_expects(server: MailServer) -> None:
    transport(server).send(letter(unsubscribe="https://shop.example/u/abc"))
    (envelope,), (message,) = server.taken, server.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == ("privacy@shop.example", ["ada@example.org"])
    assert message["From"] == '"Müller & Söhne, Shop" <privacy@shop.example>'
    assert message["To"] == "ada@example.org"
    assert message["Subject"] == "Ihr Code für heute"
    assert message["Message-ID"] == "<0198-mail@shop.example>"
    assert message["Date"].datetime == START
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Unsubscribe"] == "<https://shop.example/u/abc>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    plain, html = message.iter_parts()
    assert plain.get_content().replace("\r\n", "\n") == TEXT
    assert html.get_content().strip() == HTML
    assert message.get_content_type() == "multipart/alternative"


def test_every_attempt_is_the_same_byte_for_byte(server: MailServer) -> None:
    for _ in range(2):
        transport(server).send(letter())
    first, second = (one.original_content for one in server.taken)
    assert first == second


def test_headers_that_programs_read_stay_in_one_line(server: MailServer) -> None:
    link = "https://privacy.shop.example/u/" + "k" * 800
    transport(server).send(letter("a" * 64 + "@" + "b" * 60 + ".example", unsubscribe=link))
    raw = server.taken[0].original_content or b""
    head = raw.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    assert f"List-Unsubscribe: <{link}>" in head
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in head
    assert "Message-ID: <0198-mail@shop.example>" in head
    assert server.messages[0]["To"] == "a" * 64 + "@" + "b" * 60 + ".example"
    assert server.taken[0].rcpt_tos == ["a" * 64 + "@" + "b" * 60 + ".example"]


def test_a_message_is_ascii_in_short_lines_whatever_it_says(server: MailServer) -> None:
    written = Written("ü" * 300, "ü" * 3000 + "\n" + "x" * 3000, "<p>" + "ß" * 3000 + "</p>")
    transport(server).send(letter(written=written))
    raw = server.taken[0].original_content or b""
    assert raw.isascii()
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    plain, html = server.messages[0].iter_parts()
    assert plain.get_content().split() == ["ü" * 3000, "x" * 3000]
    assert html.get_content().strip() == written.html
    assert server.messages[0]["Subject"] == "ü" * 300


def test_without_an_address_to_unsubscribe_nothing_is_said_of_it() -> None:
    assert message_of(letter(), SENDER)["List-Unsubscribe"] is None


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.IMPLICIT])
def test_a_mail_goes_encrypted_and_with_a_login(tmp_path: Path, security: SmtpSecurity) -> None:
    context = authority().server(tmp_path, "127.0.0.1")
    implicit = security is SmtpSecurity.IMPLICIT
    with mail_server(context, implicit=implicit, login=True) as server:
        user, password = LOGIN
        transport(server, security, user=user, password=password).send(letter())
        assert len(server.taken) == 1
        with pytest.raises(DeliveryFailedError) as caught:
            transport(server, security, user=user, password="wrong").send(letter())
        assert caught.value.reason == "LOGIN_REFUSED"
        assert not caught.value.final
        assert "wrong" not in repr(transport(server, security, password="wrong")._server)


# --- TLS that is not theirs --------------------------------------------------------------------


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.IMPLICIT])
def test_a_server_with_another_name_gets_nothing(tmp_path: Path, security: SmtpSecurity) -> None:
    context = authority().server(tmp_path, "other.example.com")
    with mail_server(context, implicit=security is SmtpSecurity.IMPLICIT) as server:
        with pytest.raises(DeliveryFailedError) as caught:
            transport(server, security).send(letter())
        assert caught.value.reason == "TLS_FAILED"
        assert server.taken == []


def test_a_server_that_strips_starttls_gets_nothing(server: MailServer) -> None:
    with pytest.raises(DeliveryFailedError) as caught:
        transport(server, SmtpSecurity.STARTTLS, user="tutela", password="secret").send(letter())
    assert caught.value.reason == "NOT_SUPPORTED"
    assert server.taken == []


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "said", "reason", "final"),
    [
        ("at_recipient", "550 no such user", "SMTP_550", True),
        ("at_recipient", "553 never", "SMTP_553", True),
        ("at_recipient", "450 greylisted", "SMTP_450", False),
        ("at_recipient", "452 full", "SMTP_452", False),
        ("at_data", "554 spam", "SMTP_554", True),
        ("at_data", "451 try later", "SMTP_451", False),
        ("at_sender", "550 who are you", "SENDER_REFUSED_550", False),
        ("at_sender", "421 closing", "SENDER_REFUSED_421", False),
    ],
)
def test_what_is_for_good_and_what_is_for_now(
    server: MailServer, step: str, said: str, reason: str, final: bool
) -> None:
    setattr(server, step, said)
    with pytest.raises(DeliveryFailedError) as caught:
        transport(server).send(letter())
    assert (caught.value.reason, caught.value.final) == (reason, final)
    assert "ada@example.org" not in f"{caught.value} {caught.value.reason}"


def test_a_yes_that_is_lost_on_the_way_is_no_yes(server: MailServer) -> None:
    server.after_data = lambda wire: wire.abort()
    with pytest.raises(DeliveryFailedError) as caught:
        transport(server).send(letter())
    assert (caught.value.reason, caught.value.final) == ("NOT_REACHED", False)
    server.after_data = None
    transport(server).send(letter())
    assert len({message["Message-ID"] for message in server.messages}) == 1
    assert len(server.taken) == 2, "taken twice, under one Message-ID"


# --- silence -----------------------------------------------------------------------------------


def test_nobody_at_home() -> None:
    with mail_server() as gone:
        pass
    with pytest.raises(DeliveryFailedError) as caught:
        transport(gone).send(letter())
    assert caught.value.reason == "NOT_REACHED"


@pytest.mark.parametrize("greeting", [b"", b"554 go away\r\n", b"220 hi\r\n", b"220-", b"\xff\r\n"])
def test_a_server_that_talks_without_end_is_cut_off(greeting: bytes) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(greeting)
            while not over.wait(0.05):
                try:
                    connection.sendall(b"2")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    server = SmtpServer("127.0.0.1", listener.getsockname()[1], SmtpSecurity.NONE)
    patient = SmtpTransport(server, SENDER, step_seconds=5, whole=timedelta(seconds=0.5))
    began = time.monotonic()
    with pytest.raises(DeliveryFailedError):
        patient.send(letter())
    assert time.monotonic() - began < 4
    over.set()
    thread.join()
    listener.close()


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "ada@example.org\r\nBcc: eve@example.net",
        "ada@example.org\nRCPT TO:<eve@example.net>",
        "ada@example.org, eve@example.net",
        "ada@example.org;eve@example.net",
        "<ada@example.org>",
        '"ada eve"@example.org',
        "ada@example.org\x00",
        "ada@example.org>",
        "ada@[127.0.0.1]",
        "ada@example.org (eve)",
    ],
)
def test_an_address_that_hides_another_is_none(address: str) -> None:
    with pytest.raises(InvalidSubjectError):
        email(address)


@pytest.mark.parametrize(
    "address",
    [
        "o'brien@example.org",
        "ada+shop=1@example.org",
        "!#$%&'*+-/=?^_`{|}~@example.org",
        ".ada@example.org",
        "ada.@example.org",
    ],
)
def test_a_strange_address_reaches_one_person(server: MailServer, address: str) -> None:
    transport(server).send(letter(email(address).value))
    (envelope,), (message,) = server.taken, server.messages
    assert [one.strip('"').replace('"@', "@") for one in envelope.rcpt_tos] == [address]
    assert len(message["To"].addresses) == 1


def test_a_domain_in_another_script_is_written_as_dns_has_it(server: MailServer) -> None:
    transport(server).send(letter("ada@müller.example"))
    assert server.taken[0].rcpt_tos == ["ada@xn--mller-kva.example"]


def test_a_name_in_another_script_needs_a_server_that_knows_it(server: MailServer) -> None:
    transport(server).send(letter("ädä@example.org"))
    assert server.taken[0].rcpt_tos == ["ädä@example.org"]
    with mail_server(utf8=False) as old, pytest.raises(DeliveryRefusedError) as caught:
        transport(old).send(letter("ädä@example.org"))
    assert caught.value.reason == "ADDRESS_NOT_SUPPORTED"


@pytest.mark.parametrize(
    "address",
    [
        "ada@" + "ä" * 70 + ".example",
        "ada@ä..example",
        "@",
        "ada",
        "=?utf-8?q?eve?=@example.org",
        "=?utf-8?b?ZXZl?=@example.org",
    ],
)
def test_an_address_that_cannot_be_written_ends_its_mail(server: MailServer, address: str) -> None:
    with pytest.raises(DeliveryRefusedError) as caught:
        transport(server).send(letter(address))
    assert caught.value.reason == "ADDRESS_UNUSABLE"


@pytest.mark.parametrize("subject", ["Hi\r\nBcc: eve@example.net", "Hi\nX: y", "Hi\x00"])
def test_a_subject_cannot_add_a_header(server: MailServer, subject: str) -> None:
    hostile = letter(written=Written(subject, TEXT, HTML))
    with suppress(DeliveryRefusedError):
        transport(server).send(hostile)
    for message, envelope in zip(server.messages, server.taken, strict=True):
        assert message["Bcc"] is None
        assert message["X"] is None
        assert envelope.rcpt_tos == ["ada@example.org"]
