"""Two ways for a mail to leave: over SMTP, and into a folder where there is no mail server.

A message is built by `email.message.EmailMessage` out of parsed addresses, so that no value can
add a header or a recipient. It is the same in every attempt, byte for byte.
"""

import os
import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from pathlib import Path
from typing import Final

from governance.outbound.errors import DeliveryFailedError, DeliveryRefusedError
from governance.outbound.mail import Letter
from governance.outbound.settings import Sender, SmtpSecurity, SmtpServer

_ENCODED_WORD: Final = re.compile(r"=\?[^?]*\?[BbQq]\?")
_WHOLE_LINES: Final = frozenset({"list-unsubscribe", "message-id"})
_STEP_SECONDS: Final = 20.0
_WHOLE: Final = timedelta(seconds=90)
"""An attempt is cut off after so long, well within the lease of the queue."""


class _Policy(EmailPolicy):
    """Writes headers that programs read in one line each.

    Python would turn what is longer than a line into encoded words, which nobody undoes there:
    a link to unsubscribe would be none.
    """

    def fold(self, name: str, value: str) -> str:
        """The header as text."""
        if name.lower() in _WHOLE_LINES:
            return f"{name}: {value}\r\n"
        return str(super().fold(name, value))

    def fold_binary(self, name: str, value: str) -> bytes:
        """The header as bytes."""
        if name.lower() in _WHOLE_LINES:
            return self.fold(name, value).encode("ascii")
        return bytes(super().fold_binary(name, value))


# No 8-bit text: a relay on the way that does not know it would change what was signed.
_POLICY: Final = _Policy(linesep="\r\n", cte_type="7bit")


def message_of(letter: Letter, sender: Sender) -> EmailMessage:
    """The message that goes over the wire.

    Raises:
        DeliveryRefusedError: the address or the subject cannot be written in a header as it is.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(sender.name, addr_spec=sender.address)
    message["To"] = _address(letter.address)
    try:
        message["Subject"] = letter.written.subject
    except ValueError as error:
        raise DeliveryRefusedError("CONTENT_UNUSABLE") from error
    message["Date"] = letter.queued_at
    message["Message-ID"] = f"<{letter.id}@{sender.address.rpartition('@')[2]}>"
    # RFC 3834: no holiday answers, please.
    message["Auto-Submitted"] = "auto-generated"
    if letter.unsubscribe is not None:
        message["List-Unsubscribe"] = f"<{letter.unsubscribe}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(letter.written.text)
    message.add_alternative(letter.written.html, subtype="html")
    message.set_boundary(f"=_{letter.id}")
    return message


def _address(address: str) -> Address:
    user, _, domain = address.rpartition("@")
    # An encoded word (RFC 2047) is somebody else's name to whoever reads headers.
    if not user or not domain or _ENCODED_WORD.search(user):
        raise DeliveryRefusedError("ADDRESS_UNUSABLE")
    try:
        return Address(
            username=user, domain=domain if domain.isascii() else domain.encode("idna").decode()
        )
    except (ValueError, IndexError) as error:
        raise DeliveryRefusedError("ADDRESS_UNUSABLE") from error


class SmtpTransport:
    """Hands mails to a mail server, one connection each.

    A server that refuses the recipient or the content for good (5yz) ends the mail. One that
    refuses us (greeting, TLS, login, sender) does not: that is for an operator to mend meanwhile.
    """

    def __init__(
        self,
        server: SmtpServer,
        sender: Sender,
        *,
        context: ssl.SSLContext | None = None,
        step_seconds: float = _STEP_SECONDS,
        whole: timedelta = _WHOLE,
    ) -> None:
        """Settings, and for tests the certificates to trust and how long to be patient."""
        self._server = server
        self._sender = sender
        self._context = context or ssl.create_default_context()
        self._step_seconds = step_seconds
        self._whole = whole

    def send(self, letter: Letter) -> None:
        """See `MailTransport.send`."""
        message = message_of(letter, self._sender)
        recipient = _address(letter.address).addr_spec
        with _failures(), self._connected() as connection:
            try:
                # Named here: smtplib would take them from the headers, by a parser of its own.
                connection.send_message(message, self._sender.address, [recipient])
            except smtplib.SMTPNotSupportedError as error:
                if letter.address.isascii():
                    raise
                raise DeliveryRefusedError("ADDRESS_NOT_SUPPORTED") from error

    def probe(self) -> None:
        """Connect and log in, and send nothing.

        Raises:
            DeliveryFailedError: a mail could not be handed over either.
        """
        with _failures(), self._connected() as connection:
            connection.noop()

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self._server
        connection = _Watched(
            server.host,
            self._sender.address.rpartition("@")[2],
            self._step_seconds,
            self._whole.total_seconds(),
        )
        implicit = server.security is SmtpSecurity.IMPLICIT
        try:
            connection.open(server.port, self._context if implicit else None)
            if server.security is SmtpSecurity.STARTTLS:
                connection.starttls(context=self._context)
            if server.user:
                connection.login(server.user, server.password)
            yield connection
            # Taken is taken: how the server says goodbye does not matter any more.
            with suppress(smtplib.SMTPException, OSError):
                connection.quit()
        finally:
            connection.watch.cancel()
            connection.close()


class _Watched(smtplib.SMTP):
    """A connection that is cut off after so many seconds in all.

    Python's own wait for each step starts anew with every byte that comes. The socket is made here,
    so that the watch is over TLS's handshake too.
    """

    def __init__(self, host: str, name: str, step: float, whole: float) -> None:
        # Under the sender's name: Python would ask DNS for this machine's, and tell it.
        super().__init__(local_hostname=name, timeout=step)
        self._step = step
        # What the certificate must name, also after STARTTLS.
        self._host = host
        self.watch = threading.Timer(whole, self._cut)
        self.watch.daemon = True

    def open(self, port: int, context: ssl.SSLContext | None) -> None:
        """Connect, with TLS from the first byte where a context is given; read the greeting."""
        self.watch.start()
        self.sock = socket.create_connection((self._host, port), self._step)
        if context is not None:
            encrypted = context.wrap_socket(
                self.sock, server_hostname=self._host, do_handshake_on_connect=False
            )
            self.sock = encrypted
            encrypted.do_handshake()
        status, _ = self.getreply()
        if status != 220:
            raise smtplib.SMTPConnectError(status, b"")

    def _cut(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                # Of the socket below TLS: TLS's own would leave its reader without TLS.
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn what may go wrong with a mail server into reasons that may be stored."""
    try:
        yield
    except smtplib.SMTPRecipientsRefused as error:
        ((status, _),) = error.recipients.values()
        raise _failure(status) from error
    except smtplib.SMTPSenderRefused as error:
        raise DeliveryFailedError(f"SENDER_REFUSED_{error.smtp_code}") from error
    except smtplib.SMTPAuthenticationError as error:
        raise DeliveryFailedError("LOGIN_REFUSED") from error
    except smtplib.SMTPDataError as error:
        raise _failure(error.smtp_code) from error
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryFailedError("NOT_SUPPORTED") from error
    except smtplib.SMTPResponseException as error:
        raise DeliveryFailedError(f"SMTP_{error.smtp_code}") from error
    except ssl.SSLError as error:
        raise DeliveryFailedError("TLS_FAILED") from error
    except TimeoutError as error:
        raise DeliveryFailedError("TIMED_OUT") from error
    except (smtplib.SMTPException, OSError) as error:
        raise DeliveryFailedError("NOT_REACHED") from error


def _failure(status: int) -> DeliveryFailedError:
    kind = DeliveryRefusedError if 500 <= status < 600 else DeliveryFailedError
    return kind(f"SMTP_{status}")


class FolderTransport:
    """Writes mails as `.eml` files, for trying the service without a mail server.

    In clear: whoever can read the folder can read them and use their links. `Settings.objections`
    keeps it out of production.
    """

    def __init__(self, folder: Path, sender: Sender) -> None:
        self.folder: Final = folder
        self._sender = sender

    def send(self, letter: Letter) -> None:
        """See `MailTransport.send`. A file is there whole or not at all."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = self.folder / f".{letter.id}"
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(message_of(letter, self._sender).as_bytes())
            draft.replace(self.file(letter.id))
        except OSError as error:
            raise DeliveryFailedError("FOLDER_NOT_WRITABLE") from error

    def file(self, mail_id: str) -> Path:
        """Where the mail of this id is, or would be."""
        return self.folder / f"{mail_id}.eml"
