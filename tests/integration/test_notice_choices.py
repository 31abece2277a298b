"""Choices name what people were told: grants under published words, denials whatever they say."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select

from consent.choices import IdempotencyKey, NewEvent, NoticeRef, Record, choice
from consent.errors import UnknownNoticeError
from consent.ledger.leaf import open_disclosures, read_leaf
from consent.models import event as event_table
from consent.models import ledger
from consent.subjects import SubjectRef, email
from policies.vocabulary import ANY, Channel, ChoiceState, ConsentStatus, Reason
from tests.fakes.core import MARKETING, NOTICE, Core, open_core
from tests.fakes.notices import publish

ALICE = "alice@example.com"
DAY = timedelta(days=1)
GRANTED, WITHDRAWN = ChoiceState.GRANTED, ChoiceState.WITHDRAWN
OBJECTED, REFUSED = ChoiceState.OBJECTED, ChoiceState.REFUSED

UNKNOWN = [
    replace(NOTICE, id="terms"),
    replace(NOTICE, id="Privacy"),
    replace(NOTICE, version="4"),
    replace(NOTICE, version="03"),
    replace(NOTICE, language="de"),
    replace(NOTICE, language="en-GB"),
    replace(NOTICE, language="und"),
    replace(NOTICE, hash="sha256:" + "0" * 64),
]


def said(core: Core, state: ChoiceState = GRANTED, **more: Any) -> NewEvent:
    stated: dict[str, Any] = {
        "purpose": MARKETING,
        "channel": "email",
        "notice": NOTICE,
        "method": "web_form",
    }
    return choice(core.policies, state=state, **(stated | more))


def release(core: Core, version: str, **more: Any) -> None:
    with core.database.begin() as session:
        publish(session, core.policies, version, **({"now": core.clock()} | more))


def claims(core: Core, event_id: str) -> dict[str, Any]:
    """What the disclosures of an event say, held to its leaf."""
    with core.database.read() as reader:
        row = reader.execute(select(event_table).where(event_table.c.id == event_id)).one()
        leaf = reader.execute(
            select(ledger.entry.c.leaf).where(ledger.entry.c.id == event_id)
        ).scalar_one()
        item = (SubjectRef(row.subject_ref), row.id, row.sealed)
        (opened,) = core.cipher.open(reader, [item])
    assert opened is not None
    return open_disclosures(read_leaf(leaf), opened.decode().split("\n"))


# --- grants ------------------------------------------------------------------------------------


@pytest.mark.parametrize("notice", UNKNOWN)
def test_a_grant_under_words_that_nobody_was_shown_is_refused(
    core: Core, notice: NoticeRef
) -> None:
    with pytest.raises(UnknownNoticeError) as error:
        core.record(ALICE, said(core), said(core, channel="sms", notice=notice))
    assert error.value.places == (1,)
    assert core.size() == 0
    assert core.check(ALICE).reason is Reason.SUBJECT_UNKNOWN


def test_a_draft_is_not_yet_words_that_people_were_shown(core: Core) -> None:
    from consent.notice_drafts import begin_draft

    with core.database.begin() as session:
        assert begin_draft(session, "privacy", "", (), "account:a", core.clock()).version == "4"
    with pytest.raises(UnknownNoticeError):
        core.record(ALICE, said(core, notice=replace(NOTICE, version="4")))


def test_a_version_can_be_named_from_the_instant_at_which_it_takes_effect(core: Core) -> None:
    change = core.clock() + DAY
    release(core, "4", effective_from=change)
    new = replace(NOTICE, version="4")
    core.clock.set(change - timedelta(microseconds=1))
    with pytest.raises(UnknownNoticeError):
        core.record(ALICE, said(core, notice=new))
    core.clock.set(change)
    assert core.record(ALICE, said(core, notice=new)).new
    # Who says that it was before cannot have been shown it.
    core.clock.advance(DAY)
    with pytest.raises(UnknownNoticeError):
        core.record("bob@example.com", said(core, notice=new, occurred_at=change - DAY))
    assert core.record("bob@example.com", said(core, notice=NOTICE, occurred_at=change - DAY)).new


def test_a_time_in_the_future_does_not_let_a_version_in_early(core: Core) -> None:
    release(core, "4", effective_from=core.clock() + DAY)
    early = said(core, notice=replace(NOTICE, version="4"), occurred_at=core.clock() + 2 * DAY)
    with pytest.raises(UnknownNoticeError):
        core.record(ALICE, early)


def test_the_hash_of_the_words_may_be_sent_along_and_the_case_of_the_language_is_nothing(
    core: Core,
) -> None:
    with core.database.read() as reader:
        words = core.notices.version(reader, "privacy", "3", "en")
    assert words is not None
    named = NoticeRef("privacy", "3", "EN", words.hash)
    recorded = core.record(ALICE, said(core, notice=named))
    assert claims(core, recorded.events[0].id)["notice"] == {
        "id": "privacy",
        "version": "3",
        "language": "en",
    }
    assert core.check(ALICE).allow


def test_one_bad_grant_of_a_group_fails_alone(core: Core) -> None:
    bad = said(core, notice=replace(NOTICE, version="9"))
    commands = [
        Record(email(f"person{n}@example.com"), (bad if n == 1 else said(core),), "api_key:a")
        for n in range(3)
    ]
    outcomes = core.writer.write(commands)
    assert [isinstance(outcome, UnknownNoticeError) for outcome in outcomes] == [
        False,
        True,
        False,
    ]
    assert core.size() == 2


def test_a_repeated_request_gets_its_answer_and_a_refused_one_can_be_mended(core: Core) -> None:
    key = IdempotencyKey("a" * 64, b"1")
    bad = Record(email(ALICE), (said(core, notice=UNKNOWN[0]),), "api_key:a", key)
    for _ in range(2):
        with pytest.raises(UnknownNoticeError):
            core.writer.submit(bad)
    good = replace(bad, events=(said(core),))
    first = core.writer.submit(good).recorded
    assert core.writer.submit(good).recorded == replace(first, new=False)


def test_an_import_brings_its_words_along(core: Core) -> None:
    """What was agreed to years ago was published elsewhere; the words are the evidence."""
    old = NoticeRef("newsletter", "2", "und")
    event_id = "0190a000-0000-8000-8000-000000000001"
    imported = said(core, notice=old, own_words=True, event_id=event_id)
    recorded = core.record(ALICE, imported)
    assert claims(core, recorded.events[0].id)["notice"]["version"] == "2"
    assert core.check(ALICE).allow


# --- denials -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "notice"),
    [
        *((WITHDRAWN, notice) for notice in UNKNOWN),
        (OBJECTED, UNKNOWN[0]),
        (REFUSED, UNKNOWN[2]),
    ],
)
def test_a_denial_is_recorded_whatever_it_names_and_the_claim_is_kept(
    core: Core, state: ChoiceState, notice: NoticeRef
) -> None:
    core.record(ALICE, said(core))
    recorded = core.record(ALICE, said(core, state, notice=notice))
    assert not core.check(ALICE).allow
    told = claims(core, recorded.events[0].id)
    assert "notice" not in told
    assert told["claimed_notice"] == {
        name: value
        for name, value in (
            ("id", notice.id),
            ("version", notice.version),
            ("language", notice.language),
            ("hash", notice.hash),
        )
        if value is not None
    }
    with core.database.read() as reader:
        row = reader.execute(
            select(event_table.c.notice, event_table.c.notice_version).where(
                event_table.c.id == recorded.events[0].id
            )
        ).one()
    assert tuple(row) == (None, None)


def test_a_denial_under_known_words_keeps_them(core: Core) -> None:
    recorded = core.record(ALICE, said(core, WITHDRAWN, purpose=ANY, channel=ANY))
    told = claims(core, recorded.events[0].id)
    assert told["notice"]["version"] == "3"
    assert "claimed_notice" not in told


def test_a_withdrawal_beside_a_refused_grant_is_refused_with_it(core: Core) -> None:
    """A request is recorded whole or not at all: whoever sent it is told which part to mend."""
    with pytest.raises(UnknownNoticeError) as error:
        core.record(
            ALICE, said(core, WITHDRAWN, notice=None), said(core, channel="sms", notice=UNKNOWN[0])
        )
    assert error.value.places == (1,)


# --- what it costs -----------------------------------------------------------------------------


@contextmanager
def statements(core: Core) -> Iterator[list[str]]:
    """What the process asks the database about notices."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "notice_version" in statement or "notice_words" in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def asks_about_notices(statement: str) -> bool:
    return "consent_notice" in statement


def test_known_words_are_looked_up_in_memory(core: Core) -> None:
    core.record(ALICE, said(core))
    with statements(core) as seen:
        for n in range(5):
            core.record(f"person{n}@example.com", said(core), said(core, WITHDRAWN, channel="sms"))
        assert [one for one in seen if asks_about_notices(one)] == []
        for _ in range(3):
            with pytest.raises(UnknownNoticeError):
                core.record(ALICE, said(core, notice=UNKNOWN[0]))
        assert len([one for one in seen if asks_about_notices(one)]) == 3


def test_a_thousand_unknown_names_in_one_batch_cost_one_question(core: Core) -> None:
    core.record(ALICE, said(core))
    commands = [
        Record(
            email(f"person{n}@example.com"),
            (said(core, WITHDRAWN, notice=replace(NOTICE, version=f"v{n}")),),
            "api_key:a",
        )
        for n in range(100)
    ]
    with statements(core) as seen:
        core.writer.write(commands)
    assert len([one for one in seen if asks_about_notices(one)]) == 1


def test_a_check_asks_in_its_one_statement(core: Core) -> None:
    core.record(ALICE, said(core))
    core.check(ALICE)
    release(core, "4", material=True, effective_from=core.clock() + DAY)
    with statements(core) as seen:
        for _ in range(3):
            assert core.check(ALICE).expires_at == core.clock() + DAY
    # What this process had not read yet is read once.
    assert len([one for one in seen if "consent_notice_words" in one]) == 1


# --- re-consent --------------------------------------------------------------------------------


def everywhere(core: Core, who: str, as_of: datetime | None = None) -> set[Reason]:
    """The reasons of all ways to ask about a person."""
    found = {core.check(who, as_of=as_of).reason}
    with core.database.snapshot() as reader:
        (ref,) = core.directory.find(reader, [email(who)])
        assert ref is not None
        found.add(core.checker.matrix(reader, ref, as_of)[MARKETING, Channel.EMAIL].reason)
    if as_of is None:
        (together,) = core.checker.check_many([email(who)], MARKETING, Channel.EMAIL)
        found.add(together.reason)
    return found


def test_a_material_version_takes_effect_by_the_clock_alone(core: Core) -> None:
    said_at, change = core.clock(), core.clock() + 10 * DAY
    core.record(ALICE, said(core))
    core.clock.advance(DAY)
    release(core, "4", material=True, effective_from=change)
    before, size = core.check(ALICE), core.size()
    assert before.allow
    assert before.expires_at == change
    core.clock.set(change - timedelta(microseconds=1))
    assert everywhere(core, ALICE) == {Reason.GRANTED}
    core.clock.set(change)
    assert everywhere(core, ALICE) == {Reason.NOTICE_SUPERSEDED}
    assert core.check(ALICE).status is ConsentStatus.INVALIDATED
    core.clock.advance(100 * DAY)
    assert everywhere(core, ALICE, change - timedelta(seconds=1)) == {Reason.GRANTED}
    assert everywhere(core, ALICE, change) == {Reason.NOTICE_SUPERSEDED}
    assert everywhere(core, ALICE, said_at) == {Reason.GRANTED}
    assert core.check(ALICE, as_of=said_at).expires_at != change, "nobody knew of it then"
    assert core.size() == size
    core.record(ALICE, said(core, notice=replace(NOTICE, version="4")))
    assert everywhere(core, ALICE) == {Reason.RENEWED}


def test_a_version_that_is_not_material_changes_nothing(core: Core) -> None:
    core.record(ALICE, said(core))
    before = core.check(ALICE)
    release(core, "4", effective_from=core.clock() + DAY)
    assert core.check(ALICE) == before
    core.clock.advance(2 * DAY)
    assert everywhere(core, ALICE) == {Reason.GRANTED}
    assert core.check(ALICE).expires_at == before.expires_at


def test_another_notice_s_change_concerns_nobody_here(core: Core) -> None:
    core.record(ALICE, said(core))
    release(core, "1", notice="terms", material=True)
    core.clock.advance(DAY)
    assert everywhere(core, ALICE) == {Reason.GRANTED}


def test_words_that_were_imported_are_older_than_what_is_published_here(core: Core) -> None:
    old = NoticeRef("privacy", "2019", "und")
    core.record(ALICE, said(core, notice=old, own_words=True, occurred_at=core.clock() - DAY))
    assert core.check(ALICE).allow
    release(core, "4", material=True)
    assert everywhere(core, ALICE) == {Reason.NOTICE_SUPERSEDED}


def test_a_form_that_still_shows_the_old_words_grants_nothing(core: Core) -> None:
    release(core, "4", material=True)
    core.clock.advance(DAY)
    core.record(ALICE, said(core))
    assert everywhere(core, ALICE) == {Reason.NOTICE_SUPERSEDED}


def test_a_denial_stays_a_denial(core: Core) -> None:
    core.record(ALICE, said(core, OBJECTED))
    release(core, "4", material=True)
    core.clock.advance(DAY)
    assert everywhere(core, ALICE) == {Reason.OBJECTED}


@pytest.mark.parametrize("ask", [everywhere, lambda core, who: {core.check(who).reason}])
def test_another_process_decides_by_it_at_once(
    core: Core, database_url: str, tmp_path: Path, ask: Callable[[Core, str], set[Reason]]
) -> None:
    core.record(ALICE, said(core))
    with open_core(database_url, tmp_path, core.clock, create=False) as other:
        assert ask(other, ALICE) == {Reason.GRANTED}
        release(core, "4", material=True)
        assert ask(other, ALICE) == {Reason.NOTICE_SUPERSEDED}
        core.clock.advance(DAY)
        # And the other process takes choices under it, without having been told.
        other.record(ALICE, said(other, notice=replace(NOTICE, version="4")))
        assert ask(other, ALICE) == ask(core, ALICE) == {Reason.RENEWED}
