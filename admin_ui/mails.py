"""All kinds of mail that this installation sends. Who sends a new one lists it here."""

from typing import Final

from governance.outbound.templates import MailKind, Words

TEST: Final = MailKind(
    "service.test",
    {
        "en": Words(
            "A test mail from {organisation}",
            """
            This is a test. {organisation} uses Tutela to record what people allow and refuse, and
            an operator wanted to know whether its mails arrive.

            You need not do anything.
            """,
        ),
        "de": Words(
            "Eine Testnachricht von {organisation}",
            """
            Das ist ein Test. {organisation} hält mit Tutela fest, was Menschen erlauben und
            ablehnen, und jemand wollte wissen, ob Nachrichten ankommen.

            Sie müssen nichts tun.
            """,
        ),
    },
)
"""Sent by an operator to an address of their own."""

KINDS: Final = (TEST,)
