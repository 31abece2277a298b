"""Whom nobody may write to again, also when they are erased."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select

from admin_ui.services import Services
from consent.choices import NewEvent, Record, choice, suppression
from consent.errors import InvalidSubjectError
from consent.outbox import read_timeline
from consent.subjects import Identifier, email, external_id, new_subject_ref, phone, ref
from governance.keys.models import data_key
from governance.vault.models import vault_identifier, vault_person, vault_suppression
from governance.vault.suppressions import Kept, SuppressionCause, Suppressions
from policies.vocabulary import ChoiceState, MarkState, Reason
from tests.fakes.core import Core

ALICE = email("alice@example.com")
NUMBER = phone("+4930901820")
RECORD = external_id("hubspot", "51")


@pytest.fixture
def suppressions(core: Core) -> Suppressions:
    return Suppressions(core.keyring)


def register(core: Core, suppressions: Suppressions, *identifiers: Identifier) -> None:
    with core.database.begin() as session:
        suppressions.register(session, identifiers, SuppressionCause.ERASURE, core.clock())


def test_each_spelling_of_what_was_registered_is_found_and_nobody_is_made(
    core: Core, suppressions: Suppressions
) -> None:
    register(core, suppressions, ALICE, NUMBER, RECORD)
    now = core.clock()
    asked = [
        email(" Alice@EXAMPLE.com"),
        email("bob@example.com"),
        phone("+49 (0)30 901820"),
        external_id("HubSpot", "51"),
        external_id("hubspot", "52"),
        ref(new_subject_ref()),
    ]
    with core.database.read() as reader:
        assert suppressions.suppressed(reader, asked) == [now, None, now, now, None, None]
        assert core.directory.find(reader, asked) == [None] * 6


def test_it_is_there_since_the_last_time_it_was_put_there(
    core: Core, suppressions: Suppressions
) -> None:
    register(core, suppressions, ALICE)
    later = core.clock.advance(timedelta(days=400))
    register(core, suppressions, ALICE, ALICE)
    with core.database.read() as reader:
        assert suppressions.suppressed(reader, [ALICE]) == [later]
        assert suppressions.kept(reader, later) == Kept(tokens=1, due=0)
        assert suppressions.kept(reader, later + timedelta(days=3 * 366)) == Kept(1, due=1)


def test_its_tokens_match_no_other_table_and_hold_no_identifier(
    core: Core, suppressions: Suppressions
) -> None:
    with core.database.begin() as session:
        core.directory.ensure(session, [ALICE], core.clock())
    register(core, suppressions, ALICE)
    with core.database.read() as reader:
        (row,) = reader.execute(select(vault_suppression))
        (known,) = reader.scalars(select(vault_identifier.c.blind_index))
    assert row.token != known
    assert "alice" not in repr(tuple(row))


def test_what_was_released_is_free_again(core: Core, suppressions: Suppressions) -> None:
    register(core, suppressions, ALICE, NUMBER)
    with core.database.begin() as session:
        suppressions.release(session, [ALICE, ref(new_subject_ref())])
    with core.database.read() as reader:
        found = suppressions.suppressed(reader, [ALICE, NUMBER])
    assert found == [None, core.clock()]


def test_what_is_no_identifier_is_refused(core: Core, suppressions: Suppressions) -> None:
    with core.database.read() as reader, pytest.raises(InvalidSubjectError):
        suppressions.suppressed(reader, [Identifier("email", "no address")])


# --- those who come back -----------------------------------------------------------------------

OFFERS = "existing_customer_offers"
"""Rests on a legitimate interest, so that silence is no no."""


def erase(core: Core, who: Identifier) -> None:
    """Everything by which the person could be found or read is gone; the suppression stays."""
    with core.database.begin() as session:
        (person,) = core.directory.find(session, [who])
        assert person is not None
        names = core.directory.identifiers_of(session, [person])[person]
        core.suppressions.register(session, names, SuppressionCause.ERASURE, core.clock())
        for table in (vault_identifier, data_key):
            session.execute(delete(table).where(table.c.subject_ref == person))
        session.execute(delete(vault_person).where(vault_person.c.ref == person))
    core.keyring.evict([person])


def test_an_erased_person_does_not_come_back_by_another_list(core: Core) -> None:
    first = core.record(ALICE, core.said(ChoiceState.GRANTED)).subject
    erase(core, ALICE)
    core.clock.advance(timedelta(days=30))
    # Some other system still has them: a contract, and an old yes.
    old = core.said(ChoiceState.GRANTED, at=core.clock() - timedelta(days=60))
    again = core.record(ALICE, old).subject
    assert again != first
    assert core.check("alice@example.com").reason is Reason.OBJECTED
    assert core.check("alice@example.com", OFFERS).reason is Reason.OBJECTED
    # What a contract takes is no advertising.
    assert core.check("alice@example.com", "order_updates").allow


def test_who_signs_up_anew_is_a_new_person_and_only_what_they_say_counts(core: Core) -> None:
    first = core.record(ALICE, core.said(ChoiceState.GRANTED)).subject
    erase(core, ALICE)
    core.clock.advance(timedelta(days=30))
    again = core.record(ALICE, core.said(ChoiceState.GRANTED)).subject
    assert again != first
    assert core.check("alice@example.com").reason is Reason.GRANTED
    assert core.check("alice@example.com", OFFERS).reason is Reason.OBJECTED
    with core.database.read() as reader:
        told = read_timeline(reader, again, None, 10)[0]
    assert [(one.state, one.purpose) for one in told] == [
        ("granted", "marketing_information"),
        ("objected", "*"),
    ]


def test_others_come_in_as_ever_beside_them(core: Core) -> None:
    register(core, core.suppressions, ALICE)
    core.clock.advance(timedelta(days=1))
    commands = [
        Record(who, (core.said(ChoiceState.GRANTED),), "api_key:test")
        for who in (email("bob@example.com"), ALICE, email("carol@example.com"))
    ]
    core.writer.write(commands)
    before = core.size()
    assert before == 4
    # Only the first time: afterwards they are known.
    core.record(ALICE, core.said(ChoiceState.GRANTED))
    assert core.size() == before + 1


def test_looking_somebody_up_makes_nobody(core: Core) -> None:
    register(core, core.suppressions, ALICE)
    assert core.check("alice@example.com").reason is Reason.SUBJECT_UNKNOWN
    assert core.size() == 0


def test_a_suppressed_number_that_is_linked_to_somebody_holds_until_they_speak(core: Core) -> None:
    register(core, core.suppressions, NUMBER)
    core.clock.advance(timedelta(days=1))
    bob = core.record("bob@example.com", core.said(ChoiceState.GRANTED)).subject
    with core.database.begin() as session:
        core.directory.link(session, bob, NUMBER, core.clock())
        core.recorder.apply(
            session,
            [Record(ref(bob), (core.said(ChoiceState.REFUSED, purpose=OFFERS),), "x:y")],
            core.clock(),
        )
    assert core.check("bob@example.com").reason is Reason.GRANTED
    assert core.check("bob@example.com", "product_updates").reason is Reason.OBJECTED


def test_who_objects_to_everything_is_on_the_list_at_once_by_all_their_names(
    services: Services,
) -> None:
    writer, policies = services.writer, services.policies()

    def say(event: NewEvent) -> None:
        writer.submit(Record(ALICE, (event,), "api_key:test"))

    def since() -> list[datetime | None]:
        with services.database.read() as reader:
            return services.suppressions.suppressed(reader, [ALICE, NUMBER])

    objection: dict[str, Any] = {"state": ChoiceState.OBJECTED, "purpose": "*"}
    say(choice(policies, channel="email", **objection))
    assert since() == [None, None]
    with services.database.begin() as session:
        (alice,) = services.directory.find(session, [ALICE])
        assert alice is not None
        services.directory.link(session, alice, NUMBER, services.clock())
    say(choice(policies, channel="*", **objection))
    assert since() == [services.clock()] * 2
    say(suppression(MarkState.LIFTED, method="officer"))
    assert since() == [None, None]
