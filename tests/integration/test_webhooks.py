"""Events to other services: nothing lost, in order for each person, signed, and no more than told.

The receivers are real, and slow, down, lying or repeated as they are in the world.
"""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, insert, select, text, update
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from consent.models import event
from consent.subjects import email, external_id
from governance.audit.trail import CLI
from governance.database import utcnow
from governance.keys.models import data_key
from governance.outbound.models import DeliveryState, EndpointState, delivery, endpoint
from governance.outbound.webhooks import endpoints as administration
from governance.outbound.webhooks.delivery import DISABLE_AFTER, GIVE_UP_AFTER, LEASE
from governance.outbound.webhooks.errors import (
    EndpointStateError,
    InvalidEndpointError,
    UnknownEndpointError,
)
from governance.outbound.webhooks.payload import Field
from policies.vocabulary import ChoiceState
from tests.fakes.core import MARKETING, Core
from tests.fakes.receiver import OK, Received, Receiver, Reply, receiving
from tests.fakes.webhooks import EVERY_FIELD, Webhooks, data_of

SHORT = timedelta(seconds=1)
ALICE, BOB = "alice@example.org", "bob@example.org"
DOWN = Reply(503)


@pytest.fixture
def hooks(core: Core) -> Webhooks:
    return Webhooks(core)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def say(hooks: Webhooks, who: str, state: ChoiceState = ChoiceState.WITHDRAWN) -> str:
    recorded = hooks.core.record(who, hooks.core.said(state))
    return recorded.events[0].id


def later(hooks: Webhooks, by: timedelta) -> None:
    hooks.core.clock.advance(by)


def until_done(hooks: Webhooks, endpoint_id: str, step: timedelta = timedelta(hours=1)) -> None:
    """Deliver, and let time pass, until nothing waits."""
    for _ in range(100):
        hooks.deliver()
        states = hooks.states(endpoint_id).values()
        if all(state is not DeliveryState.WAITING for state, _ in states):
            return
        later(hooks, step)
    raise AssertionError("it never ended")


# --- what is sent ------------------------------------------------------------------------------


def test_a_stranger_accepts_what_we_sign(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.core.clock.set(utcnow())
    made = hooks.register(receiver)
    event_id = say(hooks, ALICE)
    hooks.deliver()
    (request,) = receiver.received
    told = Webhook(made.secret).verify(request.body, request.headers)
    assert told["type"] == "consent.changed"
    assert told["data"]["id"] == event_id == request.id
    assert request.headers["content-type"] == "application/json"
    assert made.secret.startswith("whsec_")
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(request.body + b" ", request.headers)
    for name, value in (("webhook-id", "other"), ("webhook-timestamp", str(2**31))):
        with pytest.raises(WebhookVerificationError):
            Webhook(made.secret).verify(request.body, request.headers | {name: value})


def test_the_convention_s_own_example_is_signed_as_it_says() -> None:
    from governance.outbound.webhooks.signing import signed_headers

    # https://github.com/standard-webhooks/standard-webhooks, the example of the symmetric scheme.
    headers = signed_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_by_default_a_body_holds_ids_alone(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.register(receiver)
    event_id = say(hooks, ALICE)
    with hooks.core.database.read() as reader:
        (alice,) = hooks.core.directory.find(reader, [email(ALICE)])
    hooks.deliver()
    assert json.loads(receiver.received[0].body) == {
        "type": "consent.changed",
        "timestamp": "2026-03-01T09:00:00.000000Z",
        "data": {"id": event_id, "index": 0, "subject": alice},
    }


def test_a_body_says_what_was_configured(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.register(receiver, [*EVERY_FIELD, Field.EXTERNAL_IDS], system="shop")
    say(hooks, ALICE)
    with hooks.core.database.begin() as session:
        (alice,) = hooks.core.directory.find(session, [email(ALICE)])
        assert alice is not None
        for system, own in (("shop", "C1"), ("crm", "4711"), ("shop", "C2")):
            later(hooks, SHORT)
            hooks.core.directory.link(session, alice, external_id(system, own), hooks.core.clock())
    hooks.deliver()
    data = data_of(receiver.received[0])
    assert {name: data[name] for name in EVERY_FIELD} == {
        "type": "choice",
        "purpose": MARKETING,
        "channel": "email",
        "state": "withdrawn",
        "occurred_at": "2026-03-01T09:00:00.000000Z",
    }
    assert data["external_ids"] == [
        {"system": "shop", "id": "C1"},
        {"system": "shop", "id": "C2"},
    ]
    assert b"4711" not in receiver.received[0].body
    assert b"alice" not in receiver.received[0].body


def test_filters_let_through_what_holds_for_everything(hooks: Webhooks, receiver: Receiver) -> None:
    from consent.choices import signal, suppression
    from policies.vocabulary import MarkState

    made = hooks.register(receiver, purposes=["newsletter"])
    hooks.core.record(ALICE, hooks.core.said(ChoiceState.WITHDRAWN))
    hooks.core.record(ALICE, hooks.core.said(ChoiceState.WITHDRAWN, purpose="newsletter"))
    hooks.core.record(ALICE, hooks.core.said(ChoiceState.OBJECTED, purpose="*", channel="*"))
    hooks.core.record(ALICE, suppression(MarkState.SET, method="officer"))
    hooks.core.record(ALICE, signal("gpc", MarkState.SET, method="header"))
    hooks.deliver()
    assert [data_of(one)["index"] for one in receiver.received] == [1, 2, 3, 4]
    assert hooks.look(made.endpoint_id).cursor == 5


def test_a_filter_of_types_lets_nothing_else_through(hooks: Webhooks, receiver: Receiver) -> None:
    from consent.choices import suppression
    from policies.vocabulary import MarkState

    hooks.register(receiver, types=["suppression"])
    say(hooks, ALICE)
    hooks.core.record(ALICE, suppression(MarkState.SET, method="officer"))
    hooks.deliver()
    assert [data_of(one)["index"] for one in receiver.received] == [1]


def test_a_new_endpoint_is_told_of_what_comes_after_it(hooks: Webhooks, receiver: Receiver) -> None:
    say(hooks, ALICE)
    hooks.register(receiver, start=None)
    hooks.deliver()
    assert receiver.received == []
    after = say(hooks, BOB)
    hooks.deliver()
    assert receiver.ids == [after]


# --- at the door -------------------------------------------------------------------------------


def test_what_is_wrong_is_said_at_its_field(hooks: Webhooks, receiver: Receiver) -> None:
    good = {"name": "shop", "url": receiver.url(), "actor": CLI}
    for wrong, where in (
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"url": "https://other.example.com/hook"}, "url"),
        ({"url": "not an address"}, "url"),
        ({"purposes": ["nonsense"]}, "purposes"),
        ({"types": ["nonsense"]}, "types"),
        ({"fields": ["email"]}, "fields"),
        ({"fields": ["external_ids"]}, "system"),
        ({"fields": ["external_ids"], "system": "a b"}, "system"),
        ({"system": "shop"}, "system"),
        ({"start": 1}, "start"),
        ({"start": -1}, "start"),
    ):
        with pytest.raises(InvalidEndpointError) as caught:
            hooks.endpoints.create(**good | wrong)  # type: ignore[arg-type]
        assert caught.value.field == where, wrong
    with hooks.core.database.read() as reader:
        assert hooks.endpoints.all(reader) == []


def test_nothing_secret_is_in_clear_in_any_row_or_log(
    hooks: Webhooks, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    made = hooks.endpoints.create(name="shop", url=receiver.url(path="/canary-token"), actor=CLI)
    again = hooks.endpoints.rotate(made.endpoint_id, actor=CLI, reason=None)
    receiver.behave = lambda _: Reply(500, body=b"canary-answer")
    say(hooks, ALICE)
    hooks.deliver()
    assert len(receiver.received) == 1
    logged = capsys.readouterr()
    assert "HTTP_500" in logged.out
    seen = (logged.out + logged.err).encode()
    with hooks.core.database.read() as reader:
        for table in ("outbound_endpoint", "outbound_delivery", "audit_entry", "data_key"):
            for row in reader.execute(text(f"SELECT * FROM {table}")):
                for value in row:
                    seen += value if isinstance(value, bytes) else str(value).encode()
    assert b"canary" not in seen
    assert b"alice" not in seen
    for secret in (made.secret, again.secret):
        assert secret.removeprefix("whsec_").encode() not in seen
        assert secret not in repr((made, again))


# --- in order ----------------------------------------------------------------------------------


def test_a_person_s_later_events_wait_and_others_pass(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    first, second = say(hooks, ALICE), say(hooks, ALICE, ChoiceState.GRANTED)
    other = say(hooks, BOB)
    third = say(hooks, ALICE)
    refused = {first}
    receiver.behave = lambda one: DOWN if one.id in refused else OK
    hooks.deliver()
    assert receiver.ids == [first, other]
    later(hooks, timedelta(seconds=6))
    hooks.deliver()
    assert receiver.ids == [first, other, first]
    refused.clear()
    later(hooks, timedelta(seconds=11))
    hooks.deliver()
    assert receiver.ids == [first, other, first, first, second, third]
    assert {state for state, _ in hooks.states(made.endpoint_id).values()} == {
        DeliveryState.DELIVERED
    }


def test_under_pressure_each_person_s_order_holds(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.register(receiver)
    people = [f"person-{number}@example.org" for number in range(8)]
    expected = [say(hooks, people[number % 8]) for number in range(64)]
    dice = Counter[str]()

    def sometimes(one: Received) -> Reply:
        dice[one.id] += 1
        return OK if dice[one.id] > hash(one.id) % 3 else Reply(500)

    receiver.behave = sometimes
    nodes = [hooks.another_node(at_once=4) for _ in range(4)]
    for _ in range(40):
        threads = [threading.Thread(target=hooks.deliver, args=[node]) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        later(hooks, timedelta(minutes=30))
    taken: dict[str, list[int]] = {}
    seen: set[str] = set()
    for one in receiver.received:
        index = data_of(one)["index"]
        taken.setdefault(data_of(one)["subject"], []).append(index)
        seen.add(one.id)
    assert seen == set(expected)
    for indexes in taken.values():
        # An event may come again; but none comes after a later one of the same person has come.
        assert indexes == sorted(indexes)


# --- receivers as they are ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500), "HTTP_500"),
        (Reply(404), "HTTP_404"),
        (Reply(301, {"Location": "http://169.254.169.254/latest/meta-data/"}), "HTTP_301"),
        (Reply(hang_up=True), "CONNECTION_LOST"),
        (Reply(raw=b"nonsense\r\n\r\n"), "ANSWER_MALFORMED"),
        (Reply(seconds=30), "TIMED_OUT"),
    ],
    ids=["500", "404", "redirect", "hang up", "nonsense", "slow"],
)
def test_what_was_not_taken_comes_again_with_the_same_id(
    hooks: Webhooks, receiver: Receiver, reply: Reply, reason: str
) -> None:
    made = hooks.register(receiver)
    event_id = say(hooks, ALICE)
    replies = [reply, reply]
    receiver.behave = lambda _: replies.pop() if replies else OK
    hooks.deliver()
    assert hooks.states(made.endpoint_id) == {0: (DeliveryState.WAITING, reason)}
    assert hooks.look(made.endpoint_id).failing_since == hooks.core.clock()
    assert hooks.deliver() == 0, "not before its time"
    until_done(hooks, made.endpoint_id, timedelta(minutes=1))
    assert receiver.ids == [event_id] * 3
    assert hooks.look(made.endpoint_id).failing_since is None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_yes(hooks: Webhooks, receiver: Receiver, status: int) -> None:
    made = hooks.register(receiver)
    say(hooks, ALICE)
    receiver.behave = lambda _: Reply(status, body=b"" if status == 204 else b"ok")
    hooks.deliver()
    assert hooks.states(made.endpoint_id) == {0: (DeliveryState.DELIVERED, None)}


def test_a_receiver_that_did_it_and_said_500_gets_a_repeat_that_it_can_tell(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    wanted = {say(hooks, who) for who in (ALICE, BOB)}
    done: list[str] = []

    def lying(one: Received) -> Reply:
        if one.id not in done:
            done.append(one.id)
            return Reply(500)
        return OK

    receiver.behave = lying
    until_done(hooks, made.endpoint_id, timedelta(minutes=1))
    assert set(done) == wanted
    assert len(done) == 2
    assert Counter(receiver.ids) == dict.fromkeys(wanted, 2)
    bodies = {
        one.id: {other.body for other in receiver.received if other.id == one.id}
        for one in receiver.received
    }
    assert all(len(same) == 1 for same in bodies.values())


def test_a_receiver_that_answers_twice_harms_nobody(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    ids = [say(hooks, who) for who in (ALICE, BOB)]
    answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
    receiver.behave = lambda _: Reply(raw=answer.replace(b"500 No", b"200 OK") + answer * 3)
    hooks.deliver()
    assert receiver.ids == ids
    assert {state for state, _ in hooks.states(made.endpoint_id).values()} == {
        DeliveryState.DELIVERED
    }


def test_a_slow_receiver_does_not_hold_up_another(hooks: Webhooks, receiver: Receiver) -> None:
    with receiving() as slow:
        slow.behave = lambda _: Reply(seconds=1.5)
        hooks.register(slow)
        hooks.register(receiver)
        wanted = [say(hooks, f"person-{number}@example.org") for number in range(10)]
        node = hooks.another_node(at_once=2)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                node.deliver_next()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(200):
            if len(receiver.received) == 10:
                break
            stop.wait(0.05)
        taken_meanwhile = len(slow.received)
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(receiver.ids) == sorted(wanted)
    assert taken_meanwhile <= 4, "two at a time"


def test_what_cannot_be_called_any_more_waits_for_the_operator(
    hooks: Webhooks, receiver: Receiver
) -> None:
    from governance.outbound.http import HttpClient
    from governance.outbound.reach import Reach

    made = hooks.register(receiver)
    say(hooks, ALICE)
    for reach, reason in (
        (Reach(), "HOST_NOT_ALLOWED"),
        (Reach.of(f"http://127.0.0.1:{receiver.port}"), "ADDRESS_FORBIDDEN"),
    ):
        node = hooks.another_node()
        node._client = HttpClient(reach)
        later(hooks, timedelta(hours=1))
        hooks.deliver(node)
        assert hooks.states(made.endpoint_id) == {0: (DeliveryState.WAITING, reason)}
    assert receiver.received == []
    until_done(hooks, made.endpoint_id)
    assert len(receiver.received) == 1


# --- failing for long --------------------------------------------------------------------------


def test_an_endpoint_that_is_down_is_tried_ever_more_rarely(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    for number in range(50):
        say(hooks, f"person-{number}@example.org")
    receiver.behave = lambda _: DOWN
    for _ in range(360):
        hooks.deliver()
        later(hooks, timedelta(seconds=10))
    assert len(receiver.received) < 30, "an hour of being down"
    assert hooks.look(made.endpoint_id).failures == len(receiver.received)
    receiver.behave = lambda _: OK
    later(hooks, timedelta(minutes=20))
    hooks.deliver()
    assert set(receiver.ids) == set(receiver.ids[-50:]), "all at once when it is back"
    assert {state for state, _ in hooks.states(made.endpoint_id).values()} == {
        DeliveryState.DELIVERED
    }


def test_a_receiver_may_say_when_to_come_back(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    say(hooks, ALICE)
    for asked, waits in (
        ("600", timedelta(minutes=10)),
        ("999999", timedelta(hours=1)),
    ):
        receiver.behave = lambda _, asked=asked: Reply(429, {"Retry-After": asked})  # type: ignore[misc]
        hooks.deliver()
        assert hooks.look(made.endpoint_id).rests_until == hooks.core.clock() + waits
        later(hooks, waits - SHORT)
        assert hooks.deliver() == 0
        later(hooks, SHORT)
    for nonsense in ("soon", "-1", "", "9" * 100, "٣"):
        receiver.behave = lambda _, said=nonsense: Reply(503, {"Retry-After": said})  # type: ignore[misc]
        hooks.deliver()
        later(hooks, timedelta(hours=7))
    receiver.behave = lambda _: OK
    hooks.deliver()
    assert hooks.states(made.endpoint_id) == {0: (DeliveryState.DELIVERED, None)}


def test_an_event_that_alone_keeps_failing_is_given_up_and_can_be_tried_again(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    poison, behind = say(hooks, ALICE), say(hooks, ALICE, ChoiceState.GRANTED)
    receiver.behave = lambda one: Reply(422) if one.id == poison else OK
    spent = timedelta(0)
    while hooks.states(made.endpoint_id).get(0) != (DeliveryState.DEAD, "HTTP_422"):
        say(hooks, BOB)
        hooks.deliver()
        later(hooks, timedelta(hours=1))
        spent += timedelta(hours=1)
        assert spent < GIVE_UP_AFTER + timedelta(days=1)
    assert spent > GIVE_UP_AFTER
    hooks.deliver()
    assert behind in receiver.ids
    with hooks.core.database.read() as reader:
        (dead,) = hooks.endpoints.deliveries(reader, made.endpoint_id, DeliveryState.DEAD)
        assert hooks.endpoints.lags(reader)[made.endpoint_id].dead == 1
    assert (dead.event_id, dead.reason) == (poison, "HTTP_422")
    receiver.behave = lambda _: OK
    hooks.endpoints.retry(made.endpoint_id, dead.index, actor=CLI)
    hooks.deliver()
    assert receiver.ids[-1] == poison
    assert hooks.states(made.endpoint_id)[0] == (DeliveryState.DELIVERED, None)
    with pytest.raises(EndpointStateError):
        hooks.endpoints.retry(made.endpoint_id, dead.index, actor=CLI)
    assert hooks.records()[-1].action == "webhook.retried"


def test_an_endpoint_that_takes_nothing_for_days_is_disabled_and_loses_nothing(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    receiver.behave = lambda _: DOWN
    wanted: list[str] = []
    spent = timedelta(0)
    while hooks.look(made.endpoint_id).state is EndpointState.ACTIVE:
        wanted.append(say(hooks, f"person-{len(wanted)}@example.org"))
        hooks.deliver()
        later(hooks, timedelta(hours=3))
        spent += timedelta(hours=3)
        assert spent < DISABLE_AFTER + timedelta(days=1)
    assert spent > DISABLE_AFTER
    disabled = hooks.look(made.endpoint_id)
    assert (disabled.state, disabled.reason) == (EndpointState.DISABLED, "FAILING")
    assert hooks.records()[-1].action == "webhook.disabled"
    assert {state for state, _ in hooks.states(made.endpoint_id).values()} == {
        DeliveryState.WAITING
    }, "nothing was given up"
    wanted.append(say(hooks, BOB))
    before = len(receiver.received)
    later(hooks, timedelta(days=30))
    hooks.deliver()
    assert len(receiver.received) == before
    receiver.behave = lambda _: OK
    hooks.endpoints.resume(made.endpoint_id, actor=CLI)
    hooks.deliver()
    assert sorted(receiver.ids[before:]) == sorted(wanted)


def test_gone_means_gone(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    events = [say(hooks, ALICE), say(hooks, BOB)]
    receiver.behave = lambda _: Reply(410)
    hooks.deliver()
    assert receiver.ids == events[:1]
    gone = hooks.look(made.endpoint_id)
    assert (gone.state, gone.reason) == (EndpointState.DISABLED, "GONE")
    assert [record.details for record in hooks.records()][-1] == {"why": "GONE"}
    receiver.behave = lambda _: OK
    hooks.endpoints.resume(made.endpoint_id, actor=CLI)
    hooks.deliver()
    assert receiver.ids == [events[0], *events]


# --- operators ---------------------------------------------------------------------------------


def test_while_a_secret_is_changed_both_are_accepted(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.core.clock.set(utcnow())
    old = hooks.register(receiver)
    new = hooks.endpoints.rotate(
        old.endpoint_id, overlap=timedelta(minutes=2), actor=CLI, reason="planned"
    )
    say(hooks, ALICE)
    hooks.deliver()
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
    later(hooks, timedelta(minutes=3))
    say(hooks, BOB)
    hooks.deliver()
    Webhook(new.secret).verify(receiver.received[1].body, receiver.received[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old.secret).verify(receiver.received[1].body, receiver.received[1].headers)
    assert hooks.records()[-1].details == {"overlap_seconds": 120}


def test_a_secret_can_be_changed_at_once(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.core.clock.set(utcnow())
    old = hooks.register(receiver)
    hooks.endpoints.rotate(old.endpoint_id, actor=CLI, reason=None)
    new = hooks.endpoints.rotate(old.endpoint_id, overlap=timedelta(0), actor=CLI, reason=None)
    say(hooks, ALICE)
    hooks.deliver()
    assert receiver.received[0].headers["webhook-signature"].count("v1,") == 1
    Webhook(new.secret).verify(receiver.received[0].body, receiver.received[0].headers)
    with pytest.raises(InvalidEndpointError):
        hooks.endpoints.rotate(old.endpoint_id, overlap=-SHORT, actor=CLI, reason=None)


def test_a_paused_endpoint_goes_on_where_it_stopped(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    first = say(hooks, ALICE)
    hooks.deliver()
    hooks.endpoints.pause(made.endpoint_id, actor=CLI)
    with pytest.raises(EndpointStateError):
        hooks.endpoints.pause(made.endpoint_id, actor=CLI)
    second = say(hooks, BOB)
    hooks.deliver()
    assert receiver.ids == [first]
    with hooks.core.database.read() as reader:
        assert hooks.endpoints.lags(reader)[made.endpoint_id].unread == 1
    hooks.endpoints.resume(made.endpoint_id, actor=CLI)
    with pytest.raises(EndpointStateError):
        hooks.endpoints.resume(made.endpoint_id, actor=CLI)
    hooks.deliver()
    assert receiver.ids == [first, second]


def test_replay_sends_everything_from_a_place_on_again_under_its_ids(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    events = [say(hooks, who) for who in (ALICE, BOB, ALICE, BOB)]
    hooks.deliver()
    hooks.endpoints.replay(made.endpoint_id, 1, actor=CLI, reason="their database was lost")
    hooks.deliver()
    assert receiver.ids == events + events[1:]
    assert hooks.look(made.endpoint_id).cursor == 4
    for start in (-1, 5):
        with pytest.raises(InvalidEndpointError):
            hooks.endpoints.replay(made.endpoint_id, start, actor=CLI)
    record = hooks.records()[-1]
    assert (record.action, record.reason, record.details) == (
        "webhook.replayed",
        "their database was lost",
        {"from": 1, "to": 4},
    )


def test_a_replay_while_somebody_fails_keeps_the_order(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    first, second = say(hooks, ALICE), say(hooks, ALICE, ChoiceState.GRANTED)
    refused = {second}
    receiver.behave = lambda one: DOWN if one.id in refused else OK
    hooks.deliver()
    hooks.endpoints.replay(made.endpoint_id, 0, actor=CLI)
    hooks.deliver()
    assert receiver.ids == [first, second, first]
    refused.clear()
    until_done(hooks, made.endpoint_id)
    assert receiver.ids == [first, second, first, second]


def test_the_place_of_an_instant(hooks: Webhooks) -> None:
    instants = []
    for number in range(20):
        later(hooks, timedelta(minutes=10))
        instants.append(hooks.core.clock())
        say(hooks, f"person-{number}@example.org")
    with hooks.core.database.begin() as session:
        session.execute(delete(event).where(event.c.idx.in_([3, 4, 5, 19])))
    with hooks.core.database.read() as reader:

        def place(instant: datetime) -> int:
            return administration.first_since(reader, instant)

        assert place(instants[0] - SHORT) == 0
        assert place(instants[7]) == 7
        assert place(instants[7] + SHORT) == 8
        assert place(instants[4]) in (3, 4, 5, 6), "nobody is left there"
        assert place(instants[18] + SHORT) in (19, 20)
        assert place(instants[19] + timedelta(days=1)) in (19, 20)


def test_a_removed_endpoint_leaves_nothing_but_its_row(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    say(hooks, ALICE)
    hooks.endpoints.remove(made.endpoint_id, actor=CLI, reason="not used")
    hooks.deliver()
    assert receiver.received == []
    with pytest.raises(UnknownEndpointError):
        hooks.look(made.endpoint_id)
    with hooks.core.database.read() as reader:
        assert hooks.endpoints.all(reader) == []
        assert reader.execute(select(endpoint.c.sealed)).scalar() is None
        owner = data_key.c.subject_ref == made.endpoint_id
        assert reader.execute(select(data_key.c.kid).where(owner)).first() is None
    for verb in (hooks.endpoints.pause, hooks.endpoints.resume, hooks.endpoints.remove):
        with pytest.raises(UnknownEndpointError):
            verb(made.endpoint_id, actor=CLI)


def test_every_act_is_in_the_operator_log(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    hooks.endpoints.rotate(made.endpoint_id, actor=CLI, reason=None)
    hooks.endpoints.pause(made.endpoint_id, actor=CLI)
    hooks.endpoints.resume(made.endpoint_id, actor=CLI)
    hooks.endpoints.replay(made.endpoint_id, 0, actor=CLI)
    hooks.endpoints.remove(made.endpoint_id, actor=CLI)
    records = hooks.records()[1:]
    assert [record.action.removeprefix("webhook.") for record in records] == [
        "created",
        "rotated",
        "paused",
        "resumed",
        "replayed",
        "removed",
    ]
    assert {record.object for record in records} == {f"webhook:{made.endpoint_id}"}


def test_a_test_event_says_what_came_of_it(hooks: Webhooks, receiver: Receiver) -> None:
    hooks.core.clock.set(utcnow())
    made = hooks.register(receiver)
    outcome = hooks.node.try_out(made.endpoint_id)
    assert outcome.reason is None
    (request,) = receiver.received
    assert Webhook(made.secret).verify(request.body, request.headers)["type"] == "webhook.test"
    receiver.behave = lambda _: Reply(404)
    assert hooks.node.try_out(made.endpoint_id).reason == "HTTP_404"
    assert hooks.look(made.endpoint_id).failures == 0
    assert hooks.states(made.endpoint_id) == {}


# --- erased people, forged rows ------------------------------------------------------------------


def test_an_erased_person_s_events_are_not_sent(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    receiver.behave = lambda _: DOWN
    say(hooks, ALICE)
    hooks.deliver()
    say(hooks, ALICE)
    say(hooks, ALICE)
    with hooks.core.database.begin() as session:
        session.execute(delete(event))
    receiver.behave = lambda _: OK
    later(hooks, timedelta(hours=1))
    hooks.deliver()
    assert len(receiver.received) == 1
    assert hooks.states(made.endpoint_id) == {}
    assert hooks.look(made.endpoint_id).cursor == 3, "empty places are passed"
    assert hooks.deliver() == 0


def test_an_address_put_into_another_row_is_not_called(hooks: Webhooks, receiver: Receiver) -> None:
    with receiving() as other:
        one, two = hooks.register(receiver), hooks.register(other)
        say(hooks, ALICE)
        with hooks.core.database.begin() as session:
            sealed = session.scalar(
                select(endpoint.c.sealed).where(endpoint.c.id == two.endpoint_id)
            )
            session.execute(
                update(endpoint).where(endpoint.c.id == one.endpoint_id).values(sealed=sealed)
            )
        hooks.deliver()
        assert receiver.received == []
        assert len(other.received) == 1
    assert hooks.states(one.endpoint_id) == {0: (DeliveryState.WAITING, "UNREADABLE")}


# --- nodes that die, and many of them --------------------------------------------------------


class Died(BaseException):
    """The process was killed."""


def test_a_node_that_dies_while_it_sends_is_replaced(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    event_id = say(hooks, ALICE)
    second = say(hooks, ALICE)

    def die(*_: object) -> None:
        raise Died

    for part in ("_call", "_note"):
        dying = hooks.another_node()
        setattr(dying, part, die)
        with pytest.raises(Died):
            hooks.deliver(dying)
        other = hooks.another_node()
        before = len(receiver.received)
        hooks.deliver(other)
        assert len(receiver.received) == before, "its lease has not ended, and order holds"
        later(hooks, LEASE)
    hooks.deliver()
    assert receiver.ids == [event_id, event_id, second]
    assert {state for state, _ in hooks.states(made.endpoint_id).values()} == {
        DeliveryState.DELIVERED
    }


def test_a_node_that_was_taken_for_dead_changes_nothing_afterwards(
    hooks: Webhooks, receiver: Receiver
) -> None:
    made = hooks.register(receiver)
    say(hooks, ALICE)
    other = hooks.another_node()
    slow = hooks.another_node()
    call = slow._call

    def late(*arguments: object) -> object:
        receiver.behave = lambda _: Reply(410)
        outcome = call(*arguments)  # type: ignore[arg-type]
        receiver.behave = lambda _: OK
        later(hooks, LEASE)
        hooks.deliver(other)
        return outcome

    slow._call = late  # type: ignore[method-assign, assignment]
    hooks.deliver(slow)
    assert hooks.states(made.endpoint_id) == {0: (DeliveryState.DELIVERED, None)}
    assert hooks.look(made.endpoint_id).state is EndpointState.ACTIVE


def test_two_nodes_at_once_send_each_event_once(hooks: Webhooks, receiver: Receiver) -> None:
    made = hooks.register(receiver)
    wanted = [say(hooks, f"person-{number % 17}@example.org") for number in range(60)]
    start = threading.Barrier(4)

    def work() -> None:
        node = hooks.another_node(at_once=4)
        start.wait()
        for _ in range(400):
            if not node.deliver_next():
                with hooks.core.database.read() as reader:
                    lag = hooks.endpoints.lags(reader)[made.endpoint_id]
                if not lag.unread and not lag.waiting:
                    return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receiver.ids) == sorted(wanted)
    order: dict[str, list[int]] = {}
    for one in receiver.received:
        order.setdefault(data_of(one)["subject"], []).append(data_of(one)["index"])
    assert all(indexes == sorted(indexes) for indexes in order.values())


# --- much ----------------------------------------------------------------------------------------


def test_an_endpoint_with_too_much_waiting_is_fed_no_more(
    hooks: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from governance.outbound.webhooks import delivery as module

    monkeypatch.setattr(module, "MOST_WAITING", 5)
    monkeypatch.setattr(module, "FEED_AT_ONCE", 5)
    made = hooks.register(receiver)
    wanted = [say(hooks, f"person-{number}@example.org") for number in range(12)]
    receiver.behave = lambda _: DOWN
    hooks.deliver()
    assert len(hooks.states(made.endpoint_id)) == 5
    receiver.behave = lambda _: OK
    until_done(hooks, made.endpoint_id)
    assert set(receiver.ids) == set(wanted)
    assert hooks.look(made.endpoint_id).cursor == 12


def test_old_deliveries_are_removed_and_waiting_ones_never(
    hooks: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hooks.register(receiver)
    for number in range(6):
        later(hooks, SHORT)
        say(hooks, f"person-{number}@example.org")
        hooks.deliver()
    with hooks.core.database.begin() as session:
        session.execute(
            insert(delivery).values(
                endpoint_id=made.endpoint_id,
                idx=99,
                event_id="x",
                subject_ref="x",
                state=DeliveryState.WAITING,
                due_at=hooks.core.clock(),
                attempts=0,
                queued_at=hooks.core.clock(),
            )
        )
    monkeypatch.setattr(administration, "DELIVERED_SHOWN", 4)

    def tidy() -> int:
        with hooks.core.database.begin() as session:
            return administration.remove_old(session, hooks.core.clock())

    assert tidy() == 2
    assert set(hooks.states(made.endpoint_id)) == {2, 3, 4, 5, 99}
    later(hooks, timedelta(days=8))
    assert tidy() == 4
    assert set(hooks.states(made.endpoint_id)) == {99}
