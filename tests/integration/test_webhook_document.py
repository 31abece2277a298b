"""What `docs/webhooks.md` tells receivers to do is enough, with what the service really sends."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governance.audit.trail import CLI
from governance.database import utcnow
from policies.vocabulary import ChoiceState
from tests.fakes.core import Core
from tests.fakes.receiver import receiving
from tests.fakes.webhooks import EVERY_FIELD, Webhooks, data_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"


@pytest.fixture
def receive() -> Callable[..., int]:
    """The receiver of the document."""
    (code,) = re.findall(r"```python\n(.+?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own document
    found: Callable[..., int] = names["receive"]
    return found


def test_the_receiver_of_the_document_takes_ours_and_no_others(
    core: Core, receive: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    core.clock.set(utcnow())
    hooks = Webhooks(core)
    with receiving() as receiver:
        made = hooks.register(receiver)
        new = hooks.endpoints.rotate(made.endpoint_id, actor=CLI, reason=None)
        core.record("alice@example.org", core.said(ChoiceState.WITHDRAWN))
        hooks.deliver()
        (request,) = receiver.received
    seen: set[str] = set()
    for secret in (made.secret, new.secret, new.secret):
        assert receive(request.body, request.headers, secret, seen) == 204
    assert capsys.readouterr().out.count("consent.changed") == 1
    assert receive(request.body + b" ", request.headers, new.secret, seen) == 401
    old = str(int((utcnow() - timedelta(hours=1)).timestamp()))
    late = request.headers | {"webhook-timestamp": old}
    assert receive(request.body, late, new.secret, seen) == 400


def test_every_member_of_a_body_is_in_the_document(core: Core) -> None:
    hooks = Webhooks(core)
    with receiving() as receiver:
        hooks.register(receiver, [*EVERY_FIELD, "external_ids"], system="shop")
        core.record("alice@example.org", core.said(ChoiceState.WITHDRAWN))
        hooks.deliver()
        members = data_of(receiver.received[0])
    text = DOCUMENT.read_text("utf-8")
    assert {name for name in members if f"`data.{name}`" not in text} == set()
