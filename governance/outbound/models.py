"""The tables of what goes out.

Trust: whoever can write here can keep mails and events from leaving, make one leave again, or
have an endpoint receive other events or more of their fields. They can write no mail and lead no
endpoint elsewhere: content, addresses and secrets are sealed, and open in their own row alone.
Nothing here names a person or an address in clear.
"""

from enum import StrEnum

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

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
"""A mail, and after it ended its trace: `sealed` is then gone.

`subject_ref` is the person, where one was known; then content is sealed under that person's key,
else under a key of the mail's own. `due_at` is when somebody may try: while an attempt is being
made that is the end of its lease, and once the mail has ended there is none. `owner` and `attempts`
together are the fencing token of whoever makes the attempt.
"""


class EndpointState(StrEnum):
    """Whether an endpoint is being delivered to."""

    ACTIVE = "active"
    PAUSED = "paused"
    """By an operator. Nothing is lost meanwhile: its cursor stays where it is."""
    DISABLED = "disabled"
    """By the service; `reason` says why. An operator may resume it."""
    REMOVED = "removed"
    """For good: address and secrets are destroyed, the row remains for the operator log."""


class DeliveryState(StrEnum):
    """Where one event is on its way to one endpoint."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Given up, as it alone kept failing; `reason` says why. An operator may have it retried."""


endpoint = Table(
    "outbound_endpoint",
    metadata,
    Column("id", Ref, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Ref, nullable=False),
    Column("sealed", Bytes),
    Column("purposes", Ref, nullable=False),
    Column("types", Ref, nullable=False),
    Column("fields", Ref, nullable=False),
    Column("system", Ref),
    Column("state", Ref, nullable=False),
    Column("reason", Ref),
    Column("cursor", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("rests_until", UtcDateTime),
    Column("delivered_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", Ref, nullable=False),
)
"""A receiver of events. URL and secrets are in `sealed`, under a key of the endpoint's own.

`purposes`, `types` and `fields` are words parted by spaces; no purpose or type means all. Events
below `cursor` have been looked at: those that matched are in `outbound_delivery`. `failures`
counts attempts since one succeeded; `rests_until` is when the next may be made.
"""

delivery = Table(
    "outbound_delivery",
    metadata,
    Column("endpoint_id", Ref, primary_key=True),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Ref, nullable=False),
    Column("subject_ref", Ref, nullable=False, index=True),
    Column("state", Ref, nullable=False),
    Column("due_at", UtcDateTime),
    Column("owner", Ref),
    Column("attempts", Integer, nullable=False),
    Column("queued_at", UtcDateTime, nullable=False),
    Column("tried_at", UtcDateTime),
    Column("reason", Ref),
    Column("took_ms", Integer),
    Column("ended_at", UtcDateTime),
)
"""One event on its way to one endpoint. What it says is not here: it is read when it is sent.

`due_at`, `owner` and `attempts` are as in `outbound_mail`: it waits exactly while it has a
`due_at`. Of one person's events at one endpoint only the first that waits may be sent.
"""

_waiting = delivery.c.due_at.is_not(None)
for _name, _columns in (
    ("ix_outbound_delivery_due", (delivery.c.endpoint_id, delivery.c.due_at)),
    (
        "ix_outbound_delivery_person",
        (delivery.c.endpoint_id, delivery.c.subject_ref, delivery.c.idx),
    ),
):
    Index(_name, *_columns, sqlite_where=_waiting, postgresql_where=_waiting)
Index("ix_outbound_delivery_ended", delivery.c.endpoint_id, delivery.c.ended_at)
