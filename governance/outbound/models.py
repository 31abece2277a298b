"""The tables of what goes out.

Trust: whoever can write here can keep mails from leaving, or make one leave again. They cannot
write one: content is sealed, and a row's content opens in its own row alone. Nothing here names a
person or an address in clear.
"""

from enum import StrEnum

from sqlalchemy import Column, Integer, Table

from consent.columns import Bytes, Ref, UtcDateTime
from governance.database import metadata


class MailState(StrEnum):
    """Where a mail is in its life."""

    WAITING = "waiting"
    """Not yet handed over, or being handed over just now."""
    SENT = "sent"
    """A mail server took it. Whether it was read, or bounced later, is not known."""
    FAILED = "failed"
    """It will not be sent; `reason` says why."""


mail = Table(
    "outbound_mail",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("subject_ref", Ref, index=True),
    Column("kind", Ref, nullable=False),
    Column("language", Ref, nullable=False),
    Column("state", Ref, nullable=False),
    Column("sealed", Bytes),
    Column("queued_at", UtcDateTime, nullable=False, index=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, index=True),
    Column("owner", Ref),
    Column("attempts", Integer, nullable=False),
    Column("reason", Ref),
    Column("ended_at", UtcDateTime, index=True),
)
"""A mail, and after it ended its receipt: `sealed` is then gone.

`subject_ref` is the person, where one was known; then content is sealed under that person's key,
else under a key of the mail's own. `due_at` is when somebody may try: while an attempt is being
made that is the end of its lease, and once the mail has ended there is none. `owner` and `attempts`
together are the fencing token of whoever makes the attempt.
"""
