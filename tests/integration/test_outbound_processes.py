"""Several processes that deliver, killed again and again: nothing lost, order and ids kept."""

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from consent.subjects import email
from governance.database import utcnow
from governance.outbound.mail import MailQueue, oldest_waiting
from governance.outbound.models import DeliveryState, MailState, mail
from policies.vocabulary import ChoiceState
from tests.fakes.clock import FrozenClock
from tests.fakes.core import open_core
from tests.fakes.mail_server import MailServer, mail_server
from tests.fakes.outbound_node import KINDS
from tests.fakes.receiver import OK, Received, Receiver, Reply, receiving
from tests.fakes.webhooks import Webhooks, data_of

NODES = 2


class Nodes:
    """Processes that deliver, and a way to lose one without warning."""

    def __init__(self, url: str, folder: Path, smtp_port: int) -> None:
        self._command = [
            sys.executable,
            "-m",
            "tests.fakes.outbound_node",
            url,
            str(folder),
            str(smtp_port),
        ]
        self._dice = random.Random(20260301)
        self._running = [self._started() for _ in range(NODES)]

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill_one_and_replace_it(self) -> None:
        number = self._dice.randrange(NODES)
        self._running[number].kill()
        self._running[number].communicate()
        self._running[number] = self._started()

    def stop(self) -> None:
        for process in self._running:
            process.communicate(timeout=60)
            assert process.returncode == 0

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


@contextmanager
def running(url: str, folder: Path, smtp_port: int) -> Iterator[Nodes]:
    nodes = Nodes(url, folder, smtp_port)
    try:
        yield nodes
        nodes.stop()
    finally:
        nodes.kill()


def wait_until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def unreliable(dice: random.Random) -> Callable[[Received], Reply]:
    """Mostly takes what comes; sometimes says no, hangs up after having taken it, or is slow."""

    def behave(_: Received) -> Reply:
        number = dice.random()
        if number < 0.04:
            return Reply(500)
        if number < 0.08:
            return Reply(hang_up=True)
        return Reply(seconds=0.05) if number < 0.5 else OK

    return behave


def deliver_while_nodes_die(url: str, folder: Path, kills: int) -> None:
    """Events and mails are made while nodes are killed in mid-delivery; then all must be there."""
    clock = FrozenClock(utcnow())
    with (
        receiving() as receiver,
        mail_server() as server,
        open_core(url, folder, clock) as core,
    ):
        hooks = Webhooks(core)
        receiver.behave = unreliable(random.Random(4711))
        endpoint_id = hooks.register(receiver).endpoint_id
        queue = MailQueue(core.keyring, core.directory, KINDS)
        wanted: list[str] = []
        letters: list[str] = []

        def make(number: int) -> None:
            who = f"person-{number % 12}@example.org"
            event = core.record(who, core.said(ChoiceState.WITHDRAWN)).events[0]
            with core.database.begin() as session:
                letters.append(
                    queue.put(
                        session, email(who), "test.note", "en", {"number": str(number)}, clock()
                    )
                )
            wanted.append(event.id)

        with running(url, folder, server.port) as nodes:
            for round_ in range(kills):
                for number in range(12):
                    make(round_ * 12 + number)
                arrived = len(receiver.received)
                wait_until(lambda arrived=arrived: len(receiver.received) >= arrived + 4)  # type: ignore[misc]
                nodes.kill_one_and_replace_it()
            receiver.behave = lambda _: OK
            wait_until(lambda: is_done(hooks, endpoint_id))
        check_events(receiver, wanted)
        assert Counter(hooks.states(endpoint_id).values()) == {
            (DeliveryState.DELIVERED, None): len(wanted)
        }
        check_mails(server, letters)
        with core.database.read() as reader:
            states = reader.execute(select(mail.c.state, mail.c.sealed)).all()
        assert Counter(tuple(row) for row in states) == {(MailState.SENT, None): len(letters)}


def is_done(hooks: Webhooks, endpoint_id: str) -> bool:
    with hooks.core.database.read() as reader:
        lag = hooks.endpoints.lags(reader)[endpoint_id]
        return not (lag.unread or lag.waiting) and oldest_waiting(reader) is None


def check_events(receiver: Receiver, wanted: list[str]) -> None:
    assert set(receiver.ids) == set(wanted), "nothing is lost, and nothing is invented"
    order: dict[str, list[int]] = {}
    bodies: dict[str, set[bytes]] = {}
    for one in receiver.received:
        order.setdefault(data_of(one)["subject"], []).append(data_of(one)["index"])
        bodies.setdefault(one.id, set()).add(one.body)
    assert len(order) == 12
    for indexes in order.values():
        assert indexes == sorted(indexes), "none comes after a later one of the same person"
    assert all(len(same) == 1 for same in bodies.values())


def check_mails(server: MailServer, letters: list[str]) -> None:
    seen: dict[str, set[str]] = {}
    for message in server.messages:
        content = message.get_body(("plain",))
        assert content is not None
        seen.setdefault(message["Message-ID"], set()).add(content.get_content())
    assert set(seen) == {f"<{letter}@shop.example>" for letter in letters}
    assert all(len(same) == 1 for same in seen.values()), "a repeat is the same message"


def test_nothing_is_lost_while_nodes_are_killed(database_url: str, tmp_path: Path) -> None:
    deliver_while_nodes_die(database_url, tmp_path, kills=3)


@pytest.mark.soak
def test_nothing_is_lost_in_twenty_five_kills(database_url: str, tmp_path: Path) -> None:
    deliver_while_nodes_die(database_url, tmp_path, kills=25)


def test_couriers_end_when_they_are_told_to_and_outlive_what_goes_wrong() -> None:
    from datetime import timedelta

    from governance.errors import DatabaseError
    from governance.jobs.courier import Couriers, Round

    done = threading.Event()
    failures: list[Exception] = [DatabaseError("away"), ValueError("a fault of ours")]

    class Delivery:
        def deliver_next(self) -> bool:
            if failures:
                raise failures.pop()
            done.set()
            return False

    couriers = Couriers([Round("test", Delivery(), threads=2)], poll=timedelta(milliseconds=5))
    couriers.start()
    assert done.wait(10)
    assert couriers.stop()
