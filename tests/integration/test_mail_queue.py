"""Mails: queued with what they are about, sealed, sent once, forgotten but for a trace."""

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from consent.errors import UnknownSubjectError
from consent.subjects import (
    Identifier,
    SubjectRef,
    email,
    external_id,
    new_subject_ref,
    phone,
    ref,
)
from governance.database import Database
from governance.keys.models import data_key
from governance.outbound.errors import (
    DeliveryFailedError,
    DeliveryRefusedError,
    InvalidMailError,
)
from governance.outbound.mail import (
    Letter,
    MailDelivery,
    MailQueue,
    oldest_waiting,
    remove_traces,
    traces,
)
from governance.outbound.models import MailState, mail
from governance.outbound.templates import MailKind, MailKinds, Words
from tests.fakes.clock import FrozenClock
from tests.fakes.core import Core

KINDS = MailKinds(
    [
        MailKind(
            "test.code",
            {
                "en": Words("Your code", "Here is {code}.\n\n{link}"),
                "de": Words("Ihr Code", "Hier ist {code}.\n\n{link}"),
            },
        )
    ]
)
FACTS = {"code": "CANARY-4711", "link": "https://example.com/p/CANARY"}
ALICE = email("alice@example.org")
STRANGER = email("stranger-canary@example.org")
LEASE = timedelta(minutes=3)


@dataclass
class Postman:
    """A transport that keeps what it is given, and fails when told to."""

    letters: list[Letter] = field(default_factory=list)
    fails: list[BaseException] = field(default_factory=list)

    def send(self, letter: Letter) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.letters.append(letter)


@dataclass
class Post:
    """A queue over a real database. `delivery()` is another node."""

    core: Core
    postman: Postman = field(default_factory=Postman)

    def __post_init__(self) -> None:
        self.queue = MailQueue(self.core.keyring, self.core.directory, KINDS)
        self.node = self.delivery()

    def delivery(self) -> MailDelivery:
        return MailDelivery(
            self.core.database,
            self.queue,
            self.postman,
            self.core.clock,
            lease=LEASE,
            dice=lambda: 0.5,
        )

    def put(self, to: Identifier = STRANGER, *, language: str = "en", **more: Any) -> str:
        now = self.core.clock()
        with self.core.database.begin() as session:
            return self.queue.put(session, to, "test.code", language, FACTS, now, **more)

    def know(self) -> SubjectRef:
        with self.core.database.begin() as session:
            return self.core.directory.ensure(session, [ALICE], self.core.clock())[0]

    def keys_of(self, owner: str) -> int:
        with self.core.database.read() as reader:
            rows = reader.execute(select(data_key.c.kid).where(data_key.c.subject_ref == owner))
            return len(rows.all())


@pytest.fixture
def post(core: Core) -> Post:
    return Post(core)


def dump(database: Database) -> bytes:
    """The mails, as somebody with a copy of the database reads them."""
    with database.read() as reader:
        rows = reader.execute(text("SELECT * FROM outbound_mail")).all()
    parts = [value for row in rows for value in row]
    return b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in parts)


# --- queueing ----------------------------------------------------------------------------------


def test_a_mail_leaves_once_its_transaction_has_committed(post: Post) -> None:
    assert not post.node.deliver_next()
    mail_id = post.put(language="de-AT")
    assert post.node.deliver_next()
    assert not post.node.deliver_next()
    (letter,) = post.postman.letters
    assert (letter.id, letter.address) == (mail_id, STRANGER.value)
    assert letter.written.subject == "Ihr Code"
    assert "CANARY-4711" in letter.written.text


def test_a_mail_of_a_transaction_that_failed_never_leaves(post: Post) -> None:
    with post.core.database.begin() as session:
        mail_id = post.queue.put(session, STRANGER, "test.code", "en", FACTS, post.core.clock())
        session.rollback()
    assert not post.node.deliver_next()
    assert post.keys_of(mail_id) == 0


def test_nothing_of_a_waiting_mail_is_in_clear(post: Post) -> None:
    post.know()
    for to in (STRANGER, ALICE):
        post.put(to, unsubscribe="https://example.com/u/CANARY")
    seen = dump(post.core.database).lower()
    assert b"canary" not in seen
    assert b"alice" not in seen
    assert b"example.org" not in seen


def test_what_the_door_refuses(post: Post) -> None:
    now = post.core.clock()
    with post.core.database.begin() as session:
        for to, kind, language, facts in (
            (phone("+4930901820"), "test.code", "en", FACTS),
            (external_id("shop", "1"), "test.code", "en", FACTS),
            (STRANGER, "test.other", "en", FACTS),
            (STRANGER, "test.code", "en\r\nBcc: x", FACTS),
            (STRANGER, "test.code", "en", {"code": "1"}),
            (STRANGER, "test.code", "en", FACTS | {"more": "1"}),
            (STRANGER, "test.code", "en", FACTS | {"code": "1" * 3000}),
            (STRANGER, "test.code", "en", FACTS | {"code": "\udcff"}),
        ):
            with pytest.raises(InvalidMailError):
                post.queue.put(session, to, kind, language, facts, now)
        for address in (
            "ftp://x",
            "https://x/>\r\nBcc: y",
            "https://x/ y",
            "https://ü",
            "https://x/" + "y" * 900,
        ):
            with pytest.raises(InvalidMailError):
                post.queue.put(
                    session, STRANGER, "test.code", "en", FACTS, now, unsubscribe=address
                )
        with pytest.raises(UnknownSubjectError):
            post.queue.put(session, ref(new_subject_ref()), "test.code", "en", FACTS, now)


# --- delivery ----------------------------------------------------------------------------------


def test_a_person_is_written_to_at_their_own_address(post: Post) -> None:
    alice = post.know()
    post.core.clock.advance(timedelta(seconds=1))
    with post.core.database.begin() as session:
        post.core.directory.link(session, alice, email("later@example.org"), post.core.clock())
    post.put(ref(alice))
    assert post.node.deliver_next()
    assert [letter.address for letter in post.postman.letters] == [ALICE.value]


def test_after_delivery_a_trace_remains_and_nothing_to_read(post: Post) -> None:
    alice = post.know()
    unknown, known = post.put(STRANGER), post.put(ALICE)
    assert post.keys_of(unknown) == 1
    post.core.clock.advance(timedelta(seconds=5))
    while post.node.deliver_next():
        pass
    with post.core.database.read() as reader:
        told = {trace.id: trace for trace in traces(reader)}
    assert {(one.state, one.kind, one.attempts) for one in told.values()} == {
        (MailState.SENT, "test.code", 1)
    }
    assert told[known].subject_ref == alice
    assert told[unknown].subject_ref is None
    assert told[known].ended_at == post.core.clock()
    with post.core.database.read() as reader:
        assert reader.execute(select(mail.c.sealed)).scalars().all() == [None, None]
    assert post.keys_of(unknown) == 0
    assert post.keys_of(alice) == 1, "the person's own key stays"


def test_an_erased_person_gets_no_mail(post: Post) -> None:
    alice = post.know()
    post.put(ALICE)
    post.put(ref(alice))
    with post.core.database.begin() as session:
        session.execute(data_key.delete().where(data_key.c.subject_ref == alice))
    post.core.keyring.evict([alice])
    while post.node.deliver_next():
        pass
    assert post.postman.letters == []
    with post.core.database.read() as reader:
        assert {(one.state, one.reason) for one in traces(reader)} == {
            (MailState.FAILED, "PERSON_ERASED")
        }


def test_a_person_without_an_address_is_told_of_by_a_reason(post: Post) -> None:
    with post.core.database.begin() as session:
        (somebody,) = post.core.directory.ensure(session, [phone("+4930901820")], post.core.clock())
    post.put(ref(somebody))
    assert post.node.deliver_next()
    with post.core.database.read() as reader:
        assert [one.reason for one in traces(reader)] == ["NO_ADDRESS"]


def test_content_moved_to_another_mail_is_not_sent(post: Post) -> None:
    post.know()
    one, other = post.put(ALICE), post.put(STRANGER)
    with post.core.database.begin() as session:
        stolen = session.scalar(select(mail.c.sealed).where(mail.c.id == one))
        session.execute(update(mail).where(mail.c.id == other).values(sealed=stolen))
    while post.node.deliver_next():
        pass
    assert [letter.id for letter in post.postman.letters] == [one]
    with post.core.database.read() as reader:
        assert {r.id: r.reason for r in traces(reader)}[other] == "UNREADABLE"


def test_what_failed_for_now_is_tried_again_later_and_later(post: Post) -> None:
    post.postman.fails = [DeliveryFailedError("SMTP_451") for _ in range(3)]
    mail_id = post.put()
    waits = []
    for _ in range(3):
        assert post.node.deliver_next()
        assert not post.node.deliver_next()
        with post.core.database.read() as reader:
            (trace,) = traces(reader)
        assert (trace.state, trace.reason) == (MailState.WAITING, "SMTP_451")
        assert trace.due_at is not None
        waits.append(trace.due_at - post.core.clock())
        post.core.clock.set(trace.due_at)
    assert waits == [timedelta(minutes=1), timedelta(minutes=2), timedelta(minutes=4)]
    assert post.node.deliver_next()
    assert [letter.id for letter in post.postman.letters] == [mail_id]


def test_what_failed_for_good_is_not_tried_again(post: Post) -> None:
    post.postman.fails = [DeliveryRefusedError("SMTP_550")]
    mail_id = post.put()
    assert post.node.deliver_next()
    post.core.clock.advance(timedelta(days=1))
    assert not post.node.deliver_next()
    with post.core.database.read() as reader:
        (trace,) = traces(reader)
    assert (trace.state, trace.reason) == (MailState.FAILED, "SMTP_550")
    assert post.keys_of(mail_id) == 0


def test_a_mail_is_not_sent_after_its_time(post: Post) -> None:
    post.postman.fails = [DeliveryFailedError("NOT_REACHED") for _ in range(50)]
    post.put(life=timedelta(minutes=20))
    for _ in range(21):
        while post.node.deliver_next():
            pass
        post.core.clock.advance(timedelta(minutes=1))
    post.postman.fails = []
    assert not post.node.deliver_next()
    with post.core.database.read() as reader:
        (trace,) = traces(reader)
        assert oldest_waiting(reader) is None
    assert (trace.state, trace.reason) == (MailState.FAILED, "EXPIRED")


# --- many nodes, and nodes that die ------------------------------------------------------------


def test_many_nodes_send_each_mail_once(post: Post) -> None:
    wanted = {post.put() for _ in range(40)}
    start = threading.Barrier(4)

    def work(node: MailDelivery) -> None:
        start.wait()
        for _ in range(200):
            if not node.deliver_next():
                with post.core.database.read() as reader:
                    if oldest_waiting(reader) is None:
                        return

    threads = [threading.Thread(target=work, args=[post.delivery()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(letter.id for letter in post.postman.letters) == sorted(wanted)


class Died(BaseException):
    """The process was killed."""


def test_a_node_that_dies_before_it_sent_is_replaced(post: Post) -> None:
    mail_id = post.put()
    post.postman.fails = [Died()]
    with pytest.raises(Died):
        post.node.deliver_next()
    other = post.delivery()
    assert not other.deliver_next(), "its lease has not ended"
    post.core.clock.advance(LEASE)
    assert other.deliver_next()
    assert [letter.id for letter in post.postman.letters] == [mail_id]


def test_a_node_that_dies_after_it_sent_sends_the_same_message_again(post: Post) -> None:
    mail_id = post.put()

    class Unlucky(Postman):
        def send(self, letter: Letter) -> None:
            super().send(letter)
            raise Died

    post.postman.letters = []
    unlucky = Unlucky()
    node = MailDelivery(post.core.database, post.queue, unlucky, post.core.clock, lease=LEASE)
    with pytest.raises(Died):
        node.deliver_next()
    post.core.clock.advance(LEASE)
    assert post.node.deliver_next()
    assert unlucky.letters == post.postman.letters
    assert [letter.id for letter in post.postman.letters] == [mail_id]


def test_a_node_that_was_taken_for_dead_changes_nothing_afterwards(post: Post) -> None:
    post.put()
    other = post.delivery()

    class Slow(Postman):
        def send(self, letter: Letter) -> None:
            post.core.clock.advance(LEASE)
            assert other.deliver_next()
            raise DeliveryRefusedError("SMTP_550")

    node = MailDelivery(post.core.database, post.queue, Slow(), post.core.clock, lease=LEASE)
    assert node.deliver_next()
    with post.core.database.read() as reader:
        (trace,) = traces(reader)
    assert (trace.state, trace.reason, trace.attempts) == (MailState.SENT, None, 2)


# --- keeping -----------------------------------------------------------------------------------


def test_traces_are_removed_in_time_and_waiting_mails_never(post: Post) -> None:
    post.put()
    assert post.node.deliver_next()
    post.core.clock.advance(timedelta(days=2))
    post.put()
    now: datetime = post.core.clock()
    with post.core.database.begin() as session:
        assert remove_traces(session, now) == 1
    with post.core.database.read() as reader:
        assert [one.state for one in traces(reader)] == [MailState.WAITING]
        assert oldest_waiting(reader) == now


def test_the_folder_is_for_looking_at(post: Post, tmp_path: Path) -> None:
    from governance.outbound.settings import Sender
    from governance.outbound.transports import FolderTransport

    folder = FolderTransport(tmp_path / "mail", Sender("tutela@localhost", "Example Shop"))
    mail_id = post.put()
    node = MailDelivery(post.core.database, post.queue, folder, FrozenClock(post.core.clock()))
    assert node.deliver_next()
    written = folder.file(mail_id).read_text("ascii")
    assert f"Message-ID: <{mail_id}@localhost>" in written
    assert folder.file(mail_id).stat().st_mode & 0o077 == 0
