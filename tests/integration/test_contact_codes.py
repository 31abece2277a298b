"""Codes: what they prove, how often they may be tried, and what nobody learns from them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from consent.links import LinkKey, Links
from consent.subjects import Identifier, email, phone
from governance.contacts import limits
from governance.contacts.codes import KIND, LIFE, TRIES, Asked, ContactCodes, NotProven, Proven
from governance.contacts.limits import Limit
from governance.contacts.models import code, use
from governance.database import metadata
from tests.fakes.clock import FrozenClock
from tests.fakes.keys import KeyKit

ALICE = email("alice@example.org")
STRANGER = email("stranger@example.org")
HOME = "203.0.113.7"


@dataclass
class Outbox:
    """Mails as they were put, with the facts."""

    sent: list[tuple[Identifier, str, Mapping[str, str]]] = field(default_factory=list)

    def put(
        self,
        session: Session,
        to: Identifier,
        kind: str,
        language: str,
        facts: Mapping[str, str],
        now: object,
        *,
        life: timedelta,
    ) -> str:
        assert kind == KIND
        assert life == LIFE
        self.sent.append((to, language, facts))
        return "mail"

    @property
    def code(self) -> str:
        return self.sent[-1][2]["code"]


@dataclass
class Door:
    """One node's codes, with Alice known."""

    kit: KeyKit
    outbox: Outbox
    codes: ContactCodes

    @property
    def clock(self) -> FrozenClock:
        return self.kit.clock

    def ask(self, contact: Identifier = ALICE, caller: str = HOME) -> Asked:
        asked = self.codes.ask(contact, caller)
        assert asked is not None
        self.codes.deliver(asked, "de")
        return asked


@pytest.fixture
def door(database_url: str, tmp_path: Path) -> Iterator[Door]:
    kit = KeyKit(database_url, tmp_path / "keys")
    with kit.database.begin() as session:
        metadata.create_all(session.connection(), tables=[code, use])
        (alice,) = kit.directory.ensure(session, [ALICE], kit.clock())
        kit.directory.link(session, alice, phone("+4930901820"), kit.clock())
    outbox = Outbox()
    links = Links([LinkKey(1, b"k" * 32)])
    facts = {"organisation": "Example Shop"}
    yield Door(
        kit,
        outbox,
        ContactCodes(kit.database, kit.directory, outbox, links, kit.clock, facts),
    )
    kit.close()


def wrong(right: str) -> str:
    return f"{(int(right) + 1) % 10**8:08}"


def test_the_code_that_was_sent_proves_the_contact_once(door: Door) -> None:
    asked = door.ask()
    to, language, facts = door.outbox.sent[0]
    assert (to, language) == (ALICE, "de")
    assert facts.keys() == {"organisation", "code", "minutes"}
    assert re.fullmatch(r"\d{4} \d{4}", door.outbox.code)
    proven = door.codes.prove(asked.challenge, door.outbox.code, HOME)
    assert isinstance(proven, Proven)
    assert proven.contact == ALICE
    with door.kit.database.read() as reader:
        assert door.kit.directory.find(reader, [ALICE]) == [proven.subject]
    assert door.codes.prove(asked.challenge, door.outbox.code, HOME) is NotProven.WRONG


@pytest.mark.parametrize("spelled", ["{}", " {} ", "{:.4}-{:.4}", "\u202a{}\u202c"])
def test_a_code_may_be_typed_or_pasted_in_many_ways(door: Door, spelled: str) -> None:
    asked = door.ask()
    text = spelled.format(asked.code[:4] if ":" in spelled else asked.code, asked.code[4:])
    assert isinstance(door.codes.prove(asked.challenge, text, HOME), Proven)


def test_a_code_may_be_typed_in_other_digits(door: Door) -> None:
    asked = door.ask()
    arabic = asked.code.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    assert isinstance(door.codes.prove(asked.challenge, arabic, HOME), Proven)


def test_a_code_ends_after_ten_minutes(door: Door) -> None:
    asked = door.ask()
    door.clock.advance(LIFE)
    assert door.codes.prove(asked.challenge, asked.code, HOME) is NotProven.WRONG


def test_a_code_belongs_to_its_challenge(door: Door) -> None:
    mine, other = door.ask(), door.ask()
    assert door.codes.prove(other.challenge, mine.code, HOME) is NotProven.WRONG
    assert door.codes.prove("made up", mine.code, HOME) is NotProven.WRONG
    assert isinstance(door.codes.prove(mine.challenge, mine.code, HOME), Proven)


def test_after_five_wrong_tries_the_right_code_is_wrong_too(door: Door) -> None:
    asked = door.ask()
    for _ in range(TRIES):
        assert door.codes.prove(asked.challenge, wrong(asked.code), HOME) is NotProven.WRONG
    assert door.codes.prove(asked.challenge, asked.code, HOME) is NotProven.WRONG


def test_nobody_unknown_is_sent_anything_and_no_code_lets_them_in(door: Door) -> None:
    asked = door.ask(STRANGER)
    assert door.outbox.sent == []
    assert door.codes.prove(asked.challenge, asked.code, HOME) is NotProven.WRONG
    with door.kit.database.read() as reader:
        assert door.kit.directory.find(reader, [STRANGER]) == [None]


def test_before_it_is_delivered_a_code_works_for_nobody(door: Door) -> None:
    asked = door.codes.ask(ALICE, HOME)
    assert asked is not None
    assert door.codes.prove(asked.challenge, asked.code, HOME) is NotProven.WRONG


def test_a_contact_that_the_person_lost_meanwhile_proves_nothing(door: Door) -> None:
    from governance.vault.models import vault_identifier

    asked = door.ask()
    with door.kit.database.begin() as session:
        session.execute(vault_identifier.delete().where(vault_identifier.c.kind == "email"))
    assert door.codes.prove(asked.challenge, asked.code, HOME) is NotProven.WRONG


def test_what_is_stored_is_neither_contact_nor_code_nor_address(door: Door) -> None:
    asked = door.ask()
    with door.kit.database.read() as reader:
        stored = [*reader.execute(select(code)).all(), *reader.execute(select(use)).all()]
    text = repr(stored)
    for secret in (ALICE.value, asked.code, asked.challenge, HOME):
        assert secret not in text
        assert secret.encode().hex() not in text
    assert asked.code not in repr(asked)
    assert ALICE.value not in repr(asked)


# --- limits ------------------------------------------------------------------------------------


def test_a_contact_gets_three_codes_in_a_quarter_of_an_hour_and_ten_a_day(door: Door) -> None:
    made = 0
    for quarter in range(6):
        for caller in range(5):
            made += door.codes.ask(ALICE, f"198.51.100.{quarter * 5 + caller}") is not None
        door.clock.advance(timedelta(minutes=15))
    # Refused ones count, so that whoever insists gets fewer.
    assert 3 <= made <= 10
    door.clock.advance(timedelta(days=1))
    assert door.codes.ask(ALICE, HOME) is not None


@pytest.mark.parametrize("known", [True, False])
def test_what_is_refused_does_not_depend_on_whether_the_contact_is_known(
    door: Door, known: bool
) -> None:
    contact = ALICE if known else STRANGER
    given = [door.codes.ask(contact, HOME) is not None for _ in range(5)]
    assert given == [True, True, True, False, False]


def test_a_caller_gets_ten_codes_in_a_quarter_of_an_hour(door: Door) -> None:
    given = [door.codes.ask(email(f"person-{n}@example.org"), HOME) is not None for n in range(12)]
    assert given == [True] * 10 + [False] * 2
    assert door.codes.ask(ALICE, "203.0.113.8") is not None


def test_a_household_is_one_caller(door: Door) -> None:
    given = [
        door.codes.ask(email(f"person-{n}@example.org"), f"2001:db8:1:2::{n:x}") is not None
        for n in range(12)
    ]
    assert given.count(True) == 10
    assert door.codes.ask(ALICE, "2001:db8:1:3::1") is not None


def test_guessing_from_many_addresses_ends_at_twenty_tries_a_day(door: Door) -> None:
    outcomes = []
    for number in range(10):
        asked = door.codes.ask(ALICE, f"198.51.100.{number}")
        if asked is None:
            door.clock.advance(timedelta(minutes=15))
            continue
        outcomes += [
            door.codes.prove(asked.challenge, wrong(asked.code), f"192.0.2.{number * 5 + n}")
            for n in range(TRIES)
        ]
    assert outcomes.count(NotProven.WRONG) <= 20
    assert outcomes[-1] is NotProven.TOO_MANY


def test_a_caller_gets_thirty_tries_in_a_quarter_of_an_hour(door: Door) -> None:
    outcomes = [door.codes.prove("made up", "00000000", HOME) for _ in range(31)]
    assert outcomes == [NotProven.WRONG] * 30 + [NotProven.TOO_MANY]


def test_limits_begin_afresh_and_old_counts_go(door: Door) -> None:
    limit, key = Limit(2, timedelta(minutes=5)), b"key"
    now = door.clock()
    with door.kit.database.begin() as session:
        assert [limits.admit(session, limit, key, now) for _ in range(3)] == [True, True, False]
        assert limits.admit(session, limit, b"other", now)
        assert limits.admit(session, limit, key, now + timedelta(minutes=5))
        later = now + timedelta(days=1, minutes=5)
        assert limits.remove_old(session, later - timedelta(minutes=6)) == 0
        assert limits.remove_old(session, later) == 3


def test_what_has_ended_is_removed(door: Door) -> None:
    door.ask()
    with door.kit.database.begin() as session:
        assert door.codes.remove_old(session, door.clock()) == 0
        assert door.codes.remove_old(session, door.clock() + LIFE) == 1
