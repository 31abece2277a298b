"""A mail server that is not ours, on a port of its own, with whatever a test wants it to say."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd import smtp
from aiosmtpd.smtp import AuthResult, Envelope, Session

LOGIN = ("tutela", "a long password")


@dataclass
class MailServer:
    """Keeps what it took. Each answer is what the server says at that step, if not its usual."""

    port: int = 0
    taken: list[Envelope] = field(default_factory=list)
    at_sender: str | None = None
    at_recipient: str | None = None
    at_data: str | None = None
    after_data: Any = None
    """Called with the transport once a mail was taken, before that is said."""

    @property
    def messages(self) -> list[EmailMessage]:
        """What it took, read by Python's own parser."""
        return [
            message_from_bytes(one.original_content or b"", policy=default) for one in self.taken
        ]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's names
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_sender is not None:
            return self.at_sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.at_recipient is not None:
            return self.at_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.at_data is not None:
            return self.at_data
        self.taken.append(envelope)
        if self.after_data is not None:
            self.after_data(server.transport)
        return "250 taken"


def _authenticate(_: Any, __: Any, ___: Any, mechanism: str, given: Any) -> AuthResult:
    known = (given.login, given.password) == tuple(part.encode() for part in LOGIN)
    return AuthResult(success=known, handled=False)


@contextmanager
def mail_server(
    context: ssl.SSLContext | None = None,
    *,
    implicit: bool = False,
    login: bool = False,
    utf8: bool = True,
) -> Iterator[MailServer]:
    """A server; with TLS where a context is given, from the first byte where `implicit`."""
    handler = MailServer()

    def protocol() -> smtp.SMTP:
        return smtp.SMTP(
            handler,
            hostname="mail.test",
            enable_SMTPUTF8=utf8,
            tls_context=None if implicit else context,
            require_starttls=context is not None and not implicit,
            authenticator=_authenticate if login else None,
            # aiosmtpd does not count TLS from the first byte as such.
            auth_required=login and not implicit,
            auth_require_tls=not implicit,
            loop=loop,
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    # In its own thread from the start: Playwright may have a loop in this one.
    listening = asyncio.run_coroutine_threadsafe(
        _listen(loop, protocol, context if implicit else None), loop
    ).result()
    handler.port = listening.sockets[0].getsockname()[1]
    try:
        yield handler
    finally:
        asyncio.run_coroutine_threadsafe(_close(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _listen(
    loop: asyncio.AbstractEventLoop, protocol: Callable[[], smtp.SMTP], tls: ssl.SSLContext | None
) -> asyncio.Server:
    return await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)


async def _close(listening: asyncio.Server) -> None:
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
