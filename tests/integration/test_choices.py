"""Recording choices: what is refused, what decides, and what commits together."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from consent import choices as choices_module
from consent.choices import (
    IdempotencyKey,
    NoticeRef,
    Record,
    Recorded,
    choice,
    confirmation,
    signal,
    suppression,
)
from consent.errors import (
    ChannelNotCoveredError,
    ConsentError,
    IdempotencyConflictError,
    InvalidChoiceError,
    LedgerRolledBackError,
    UnknownPurposeError,
    UnknownSubjectError,
)
from consent.ledger.checkpoint import open_checkpoint, parse_vkey, vkey
from consent.models import event as event_table
from consent.models import state as state_table
from consent.outbox import read_changes
from consent.registers import fold
from consent.states import read_registers
from consent.subjects import email, new_subject_ref, ref
from policies.vocabulary import ANY, Channel, ChoiceState, ConsentStatus, MarkState, Reason
from tests.fakes.clock import FrozenClock
from tests.fakes.core import MARKETING, NOTICE, Core, open_core

GRANTED, REFUSED, WITHDRAWN, OBJECTED = ChoiceState
ALICE, BOB = "alice@example.com", "bob@example.com"


def test_a_refusal_is_never_read_as_consent(core: Core) -> None:
    core.record(ALICE, core.said(REFUSED))
    decision = core.check(ALICE)
    assert (decision.allow, decision.reason) == (False, Reason.REFUSED)
    assert decision.status is ConsentStatus.REFUSED


def test_a_grant_allows_and_names_its_record_policy_and_end(core: Core) -> None:
    recorded = core.record(ALICE, core.said(GRANTED))
    decision = core.check(ALICE)
    assert decision.allow
    assert decision.record_id == recorded.events[0].id
    assert decision.policy == core.policies.hash
    assert decision.expires_at is not None


def test_a_withdrawal_denies_from_the_moment_it_is_acknowledged(core: Core) -> None:
    core.record(ALICE, core.said(GRANTED))
    core.record(ALICE, core.said(WITHDRAWN))
    assert core.check(ALICE).reason is Reason.WITHDRAWN


def test_history_is_added_to_and_never_overwritten(core: Core) -> None:
    for state in (GRANTED, WITHDRAWN, GRANTED):
        core.clock.advance(timedelta(hours=1))
        core.record(ALICE, core.said(state))
    with core.database.read() as reader:
        page = read_changes(reader, None)
    assert [change.state for change in page.changes] == ["granted", "withdrawn", "granted"]
    assert core.check(ALICE).reason is Reason.RENEWED


def test_an_older_grant_that_arrives_late_does_not_undo_a_withdrawal(core: Core) -> None:
    core.record(ALICE, core.said(WITHDRAWN))
    core.record(ALICE, core.said(GRANTED, at=core.clock() - timedelta(days=30)))
    assert core.check(ALICE).reason is Reason.WITHDRAWN


def test_a_tie_goes_to_the_denial(core: Core) -> None:
    at = core.clock() - timedelta(days=1)
    core.record(ALICE, core.said(WITHDRAWN, at=at))
    core.record(ALICE, core.said(GRANTED, at=at))
    assert not core.check(ALICE).allow


def test_a_grant_dated_in_the_future_counts_from_now_and_keeps_its_claim(core: Core) -> None:
    claimed = core.clock() + timedelta(days=400)
    recorded = core.record(ALICE, core.said(GRANTED, at=claimed))
    core.clock.advance(timedelta(seconds=1))
    core.record(ALICE, core.said(WITHDRAWN))
    assert core.check(ALICE).reason is Reason.WITHDRAWN
    with core.database.read() as reader:
        row = reader.execute(
            select(event_table).where(event_table.c.id == recorded.events[0].id)
        ).one()
        (plain,) = core.cipher.open(reader, [(row.subject_ref, row.id, row.sealed)])
    assert row.occurred_at < claimed
    assert plain is not None


def test_a_denial_is_not_undone_by_a_node_whose_clock_runs_ahead(
    core: Core, database_url: str, tmp_path: Path
) -> None:
    ahead = FrozenClock()
    ahead.set(core.clock() + timedelta(seconds=30))
    with open_core(database_url, tmp_path, ahead, create=False) as fast:
        fast.record(ALICE, fast.said(GRANTED))
        core.record(ALICE, core.said(WITHDRAWN))
        assert fast.check(ALICE).reason is Reason.WITHDRAWN
        assert core.check(ALICE).reason is Reason.WITHDRAWN
        core.record(BOB, core.said(GRANTED))
        core.record(BOB, suppression(MarkState.SET, method="officer"))
        assert fast.check(BOB).reason is Reason.SUPPRESSED


def test_an_objection_to_a_channel_covers_every_purpose_until_a_newer_grant(core: Core) -> None:
    core.record(ALICE, core.said(GRANTED))
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(OBJECTED, purpose=ANY))
    assert core.check(ALICE).reason is Reason.OBJECTED
    assert core.check(ALICE, "existing_customer_offers").reason is Reason.OBJECTED
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(GRANTED))
    assert core.check(ALICE).allow


def test_a_suppression_outlasts_every_grant_until_it_is_lifted(core: Core) -> None:
    core.record(ALICE, suppression(MarkState.SET, channel="email", method="officer"))
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(GRANTED))
    assert core.check(ALICE).reason is Reason.SUPPRESSED
    core.record(ALICE, suppression(MarkState.LIFTED, channel="email", method="officer"))
    assert core.check(ALICE).allow


def test_a_browser_signal_opts_out_of_the_purposes_that_heed_it(core: Core) -> None:
    def may(purpose: str, channel: Channel) -> Reason:
        return core.checker.check(email(ALICE), purpose, channel).reason

    core.record(ALICE, core.said(GRANTED, purpose="personalised_advertising", channel="web"))
    core.record(ALICE, core.said(GRANTED))
    core.record(ALICE, signal("gpc", MarkState.SET, method="header"))
    assert may("personalised_advertising", Channel.WEB) is Reason.SIGNAL_OPT_OUT
    assert may(MARKETING, Channel.EMAIL) is Reason.GRANTED


def test_double_opt_in_waits_for_its_second_step(core: Core) -> None:
    recorded = core.record(ALICE, core.said(GRANTED, purpose="newsletter"))
    assert core.check(ALICE, "newsletter").status is ConsentStatus.REQUESTED
    core.clock.advance(timedelta(hours=2))
    core.record(
        ALICE,
        confirmation(
            purpose="newsletter",
            channel="email",
            grant_id=recorded.events[0].id,
            method="confirmation_link",
        ),
    )
    assert core.check(ALICE, "newsletter").allow


def test_double_opt_in_lapses_by_itself(core: Core) -> None:
    core.record(ALICE, core.said(GRANTED, purpose="newsletter"))
    core.clock.advance(timedelta(days=8))
    assert core.check(ALICE, "newsletter").reason is Reason.CONFIRMATION_LAPSED


def test_a_grant_expires_at_the_instant_without_any_job(core: Core) -> None:
    core.record(ALICE, core.said(GRANTED))
    ends = core.check(ALICE).expires_at
    assert ends is not None
    core.clock.set(ends - timedelta(microseconds=1))
    assert core.check(ALICE).allow
    core.clock.set(ends)
    assert core.check(ALICE).reason is Reason.EXPIRED


def test_a_child_needs_the_authority_of_a_parent(core: Core) -> None:
    def grant(**evidence: object) -> None:
        core.clock.advance(timedelta(minutes=1))
        new = choice(
            core.policies,
            purpose=MARKETING,
            channel="email",
            state=GRANTED,
            notice=NOTICE,
            evidence=evidence,
        )
        core.record(ALICE, new)

    grant(age=12)
    assert core.check(ALICE).reason is Reason.CHILD_WITHOUT_AUTHORITY
    nobody: object
    for nobody in (True, 1, "", " ", {}, ["yes"]):
        grant(age=12, parental_authority=nobody)
        assert core.check(ALICE).reason is Reason.CHILD_WITHOUT_AUTHORITY
    grant(age=12, parental_authority={"who": "father", "how": "called back"})
    assert core.check(ALICE).allow
    grant(age=12, parental_authority="mother, signed form 7")
    assert core.check(ALICE).allow


def test_checks_as_of_a_past_instant_see_what_had_occurred_by_then(core: Core) -> None:
    before = core.clock()
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(GRANTED))
    granted = core.clock()
    core.clock.advance(timedelta(days=1))
    core.record(ALICE, core.said(WITHDRAWN))
    assert core.check(ALICE, as_of=before).reason is Reason.NO_RECORD
    assert core.check(ALICE, as_of=granted).allow
    assert not core.check(ALICE, as_of=core.clock()).allow
    with pytest.raises(ConsentError, match="future"):
        core.check(ALICE, as_of=core.clock() + timedelta(days=1))


def test_the_unknown_is_denied_with_a_reason(core: Core) -> None:
    assert core.check("nobody@example.com").reason is Reason.SUBJECT_UNKNOWN
    assert core.check(ALICE, "no_such_purpose").reason is Reason.PURPOSE_UNKNOWN
    core.record(ALICE, core.said(REFUSED, purpose="newsletter"))
    assert core.check(ALICE).reason is Reason.NO_RECORD


def test_dates_beyond_2038_are_kept_exactly(core: Core) -> None:
    core.clock.set(core.clock().replace(year=2099, microsecond=123456))
    core.record(ALICE, core.said(GRANTED))
    with core.database.read() as reader:
        assert reader.scalar(select(state_table.c.occurred_at)) == core.clock()
    assert core.check(ALICE).allow


def test_many_checks_answer_in_order_and_as_one_by_one(core: Core) -> None:
    people = [f"person{n}@example.com" for n in range(40)]
    for n, person in enumerate(people[:30]):
        core.record(person, core.said([GRANTED, WITHDRAWN, REFUSED][n % 3]))
    together = core.checker.check_many(
        [email(person) for person in [*people, people[0]]], MARKETING, Channel.EMAIL
    )
    assert together == [core.check(person) for person in [*people, people[0]]]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"purpose": "no_such_purpose"}, UnknownPurposeError),
        ({"purpose": "newsletter", "channel": "sms"}, ChannelNotCoveredError),
        ({"channel": "pigeon"}, ChannelNotCoveredError),
        ({"purpose": ANY}, InvalidChoiceError),
        ({"notice": None}, InvalidChoiceError),
        ({"method": "Web Form!"}, InvalidChoiceError),
        ({"evidence": {"text": "x" * 9000}}, InvalidChoiceError),
        ({"evidence": {"age": "twelve"}}, InvalidChoiceError),
    ],
)
def test_what_cannot_be_proved_or_understood_is_refused_at_the_door(
    core: Core, changes: dict[str, object], error: type[ConsentError]
) -> None:
    asked: dict[str, object] = {
        "purpose": MARKETING,
        "channel": "email",
        "state": GRANTED,
        "notice": NoticeRef("privacy", "3", "en"),
    }
    with pytest.raises(error):
        choice(core.policies, **(asked | changes))  # type: ignore[arg-type]


def test_a_withdrawal_needs_neither_notice_nor_method(core: Core) -> None:
    core.record(ALICE, choice(core.policies, purpose=ANY, channel=ANY, state=WITHDRAWN))
    assert core.check(ALICE).reason is Reason.WITHDRAWN


def test_a_ref_that_names_nobody_is_refused_and_records_nothing(core: Core) -> None:
    with pytest.raises(UnknownSubjectError):
        core.record(ref(new_subject_ref()), core.said(WITHDRAWN))
    assert core.size() == 0


def test_one_bad_command_of_a_group_fails_alone(core: Core) -> None:
    good = Record(email(ALICE), (core.said(GRANTED),), "api_key:a")
    bad = Record(ref(new_subject_ref()), (core.said(GRANTED),), "api_key:a")
    results = core.writer.write([bad, good])
    assert isinstance(results[0], UnknownSubjectError)
    assert core.check(ALICE).allow
    assert core.size() == 1


def test_the_same_idempotency_key_records_once_and_another_body_conflicts(core: Core) -> None:
    def send(body: bytes, state: ChoiceState) -> Recorded:
        key = IdempotencyKey("a" * 64, body)
        command = Record(email(ALICE), (core.said(state),), "api_key:a", key)
        return core.writer.submit(command).recorded

    first = send(b"1", GRANTED)
    again = send(b"1", GRANTED)
    assert again == replace(first, new=False)
    with pytest.raises(IdempotencyConflictError):
        send(b"2", WITHDRAWN)
    assert core.size() == 1
    core.clock.advance(timedelta(hours=24, seconds=1))
    assert send(b"1", GRANTED).events != first.events


def test_the_same_key_sent_at_once_by_many_threads_records_once(core: Core) -> None:
    def send(_: int) -> tuple[str, ...]:
        key = IdempotencyKey("b" * 64, b"1")
        command = Record(email(ALICE), (core.said(GRANTED),), "api_key:a", key)
        return tuple(event.id for event in core.writer.submit(command).recorded.events)

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(send, range(24)))) == 1
    assert core.size() == 1


def test_threads_that_write_at_once_lose_nothing_and_share_commits(core: Core) -> None:
    def send(n: int) -> int:
        recorded = core.record(f"person{n % 50}@example.com", core.said(GRANTED))
        return recorded.events[0].index

    with ThreadPoolExecutor(16) as pool:
        indexes = list(pool.map(send, range(200)))
    assert sorted(indexes) == list(range(200))
    with core.database.read() as reader:
        people = reader.scalar(select(func.count(event_table.c.subject_ref.distinct())))
    assert people == 50


def test_registers_equal_the_fold_of_the_events(core: Core) -> None:
    for n in range(60):
        core.clock.advance(timedelta(minutes=7))
        state = [GRANTED, WITHDRAWN, REFUSED, OBJECTED][n % 4]
        at = core.clock() - timedelta(days=n % 5)
        core.record(f"person{n % 3}@example.com", core.said(state, at=at))
    with core.database.snapshot() as reader:
        rows = reader.execute(select(event_table)).all()
        subjects = sorted({row.subject_ref for row in rows})
        held = read_registers(reader, subjects)
    for subject in subjects:
        folded = fold(choices_module.fact_of(row) for row in rows if row.subject_ref == subject)
        assert {key: register for (who, key), register in held.items() if who == subject} == folded


def test_every_answer_carries_a_checkpoint_that_covers_it(core: Core) -> None:
    verifier = parse_vkey(vkey(core.signer.name, core.signer.public_key))
    for n in range(3):
        committed = core.writer.submit(Record(email(ALICE), (core.said(GRANTED),), "api_key:a"))
        checkpoint = open_checkpoint(committed.checkpoint, [verifier])
        assert checkpoint.size > committed.recorded.events[0].index
        assert checkpoint.size == n + 1


def test_two_nodes_write_in_turn_and_sign_what_the_other_wrote(
    core: Core, database_url: str, tmp_path: Path
) -> None:
    with open_core(database_url, tmp_path, core.clock, create=False) as other:
        for node in (core, other, core, core, other, other, core):
            node.record(ALICE, node.said(GRANTED))
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda n: (core, other)[n % 2].record(f"p{n}@example.com", core.said(GRANTED)),
                    range(60),
                )
            )
        assert core.size() == 67
        other.notary.certify()
        last = core.checkpoints.last(core.notary.origin)
    assert last is not None
    assert last.size == 67


def test_a_database_that_was_rolled_back_is_not_extended(core: Core, tmp_path: Path) -> None:
    for _ in range(3):
        core.record(ALICE, core.said(GRANTED))
    signed = core.checkpoints.last(core.notary.origin)
    assert signed is not None
    # The store remembers more than a database restored from an older backup holds.
    ahead = replace(signed, size=signed.size + 5)
    assert core.checkpoints.swap(core.notary.origin, signed, ahead, core.clock())
    with pytest.raises(LedgerRolledBackError):
        core.notary.certify()
