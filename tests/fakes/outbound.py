"""Webhooks and mails in every state that pages show."""

from datetime import timedelta
from typing import Final

from sqlalchemy import insert, update

from consent.outbox import read_changes
from consent.subjects import email
from governance.audit.trail import CLI
from governance.outbound.models import DeliveryState, EndpointState, delivery, endpoint
from tests.fakes.console import ALICE, Console

HOST: Final = "127.0.0.1:9"
"""Where nobody listens, and which is in no network that may be called."""


def fill_outbound(console: Console) -> None:
    """A webhook that works, one that fails, one that is disabled; mails that left and that wait."""
    own, now = console.services, console.clock()
    ids = [
        own.webhooks.create(
            name=name,
            url=f"https://{HOST}/hook",
            fields=["state", "purpose", "channel", "external_ids"],
            system="hubspot",
            purposes=["newsletter", "marketing_information"],
            types=["choice"],
            actor=CLI,
        ).endpoint_id
        for name in ("newsletter tool", "shop", "old shop")
    ]
    with own.database.read() as reader:
        changes = read_changes(reader, None).changes
    with own.database.begin() as session:
        for number, change in enumerate(changes):
            for endpoint_id, state in (
                (ids[0], DeliveryState.DELIVERED),
                (ids[1], (DeliveryState.DEAD, DeliveryState.WAITING)[number % 2]),
            ):
                waits = state is DeliveryState.WAITING
                session.execute(
                    insert(delivery).values(
                        endpoint_id=endpoint_id,
                        idx=change.index,
                        event_id=change.id,
                        subject_ref=change.subject,
                        state=state,
                        due_at=now + timedelta(minutes=9) if waits else None,
                        attempts=1 + number,
                        queued_at=now - timedelta(hours=3),
                        reason=None if state is DeliveryState.DELIVERED else "HTTP_503",
                        took_ms=None if waits else 1234,
                        ended_at=None if waits else now - timedelta(minutes=number),
                    )
                )
        for endpoint_id, values in (
            (ids[0], {"delivered_at": now}),
            (
                ids[1],
                {"failing_since": now - timedelta(hours=2), "failures": 9, "rests_until": now},
            ),
            (ids[2], {"state": EndpointState.DISABLED, "reason": "GONE"}),
        ):
            session.execute(update(endpoint).where(endpoint.c.id == endpoint_id).values(**values))
    facts = {"organisation": own.settings.organisation}
    with own.database.begin() as session:
        own.mails.put(session, email(ALICE), "service.test", "en", facts, now)
    assert own.mail_delivery.deliver_next()
    with own.database.begin() as session:
        own.mails.put(session, email(ALICE), "service.test", "de", facts, now)


def webhook_of(console: Console, name: str) -> str:
    """The id of the webhook of this name."""
    with console.services.database.read() as reader:
        return next(one.id for one in console.services.webhooks.all(reader) if one.name == name)
