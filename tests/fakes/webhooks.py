"""Webhooks over a real database and real sockets, with a still clock. A second node is cheap."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from consent.ledger.log import MerkleLog
from governance.audit.models import audit_log
from governance.audit.trail import CLI, AuditRecord, Trail
from governance.outbound.http import HttpClient
from governance.outbound.models import DeliveryState, delivery
from governance.outbound.reach import Reach, Target
from governance.outbound.webhooks.delivery import WebhookDelivery
from governance.outbound.webhooks.endpoints import Endpoint, Endpoints, Issued
from governance.outbound.webhooks.payload import Field
from tests.fakes.core import Core
from tests.fakes.receiver import Received, Receiver

EVERY_FIELD = frozenset(set(Field) - {Field.EXTERNAL_IDS})


class _Loopback(Reach):
    """Every port of this machine."""

    def allows(self, target: Target) -> bool:
        return target.host == "127.0.0.1"


def local_client() -> HttpClient:
    """A client that reaches receivers of the test, wherever they listen."""
    return HttpClient(_Loopback.of("", "127.0.0.1"), step_seconds=2, whole_seconds=5)


def data_of(received: Received) -> Any:
    """What a body says of the event."""
    return json.loads(received.body)["data"]


@dataclass
class Webhooks:
    """The webhooks of one installation."""

    core: Core
    nodes: int = 0
    endpoints: Endpoints = field(init=False)

    def __post_init__(self) -> None:
        self.trail = Trail(MerkleLog(audit_log))
        self.client = local_client()
        self.endpoints = Endpoints(
            self.core.database,
            self.trail,
            self.core.clock,
            self.core.keyring,
            self.client.check,
            lambda: self.core.policies,
        )
        self.node = self.another_node()

    def another_node(self, **measures: Any) -> WebhookDelivery:
        """A process beside the first."""
        return WebhookDelivery(
            self.core.database,
            self.endpoints,
            self.core.directory,
            self.client,
            self.trail,
            self.core.clock,
            dice=lambda: 0.5,
            **measures,
        )

    def register(self, receiver: Receiver, fields: Collection[str] = (), **more: Any) -> Issued:
        """An endpoint that is told of everything from the ledger's beginning."""
        return self.endpoints.create(
            name="shop", url=receiver.url(), actor=CLI, fields=fields, **{"start": 0} | more
        )

    def deliver(self, node: WebhookDelivery | None = None) -> int:
        """All that is due now; returns how many steps that took."""
        steps = 0
        while (node or self.node).deliver_next():
            steps += 1
            assert steps < 10_000
        return steps

    def look(self, endpoint_id: str) -> Endpoint:
        """The endpoint as it stands."""
        with self.core.database.read() as reader:
            return self.endpoints.get(reader, endpoint_id)

    def states(self, endpoint_id: str) -> dict[int, tuple[DeliveryState, str | None]]:
        """What became of each event, by its index."""
        with self.core.database.read() as reader:
            rows = reader.execute(
                select(delivery.c.idx, delivery.c.state, delivery.c.reason)
                .where(delivery.c.endpoint_id == endpoint_id)
                .order_by(delivery.c.idx)
            )
            return {row.idx: (DeliveryState(row.state), row.reason) for row in rows}

    def records(self) -> list[AuditRecord]:
        """The operator log, oldest first."""
        with self.core.database.read() as reader:
            return self.trail.read(reader, limit=1000)[::-1]
