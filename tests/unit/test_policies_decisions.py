"""Each reason, once, by example; and the instants at which an answer turns."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from policies.decisions import NOBODY, Choice, Decision, Facts, decide, end_of_grant
from policies.model import DoubleOptIn, MaterialChange, PolicySet, Purpose
from policies.periods import Period
from policies.vocabulary import Channel, ChoiceState, ConsentStatus, LegalBasis, Reason

NOW = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)
EMAIL = Channel.EMAIL

PURPOSE = Purpose(
    key="news",
    controller="shop",
    name="News",
    description="We write to you.",
    legal_basis=LegalBasis.CONSENT,
    channels=frozenset({EMAIL, Channel.SMS}),
    dpv=("DirectMarketing",),
    data_use="marketing.communications",
    data_categories=("user.contact.email",),
    data_subjects=("customer",),
)
GRANT = Choice(ChoiceState.GRANTED, NOW - DAY, "grant", notice="n", notice_version="3")
CONFIRMED = replace(PURPOSE, double_opt_in=DoubleOptIn(frozenset({EMAIL}), 7 * DAY))
YEARLY = replace(PURPOSE, expires_after=Period.parse("P1Y"))
CHANGE = MaterialChange("n", "4", frozenset({"3"}), NOW)
CHANGED = replace(PURPOSE, material_changes=(CHANGE,))


def ask(
    purpose: Purpose,
    facts: Facts | Choice | None,
    *,
    at: datetime = NOW,
    key: str = "news",
    channel: Channel = EMAIL,
) -> Decision:
    policies = PolicySet("1", "sha256:00", {}, {"news": purpose})
    known = facts if isinstance(facts, Facts) else Facts(known=True, choice=facts)
    return decide(policies, key, channel, known, at)


def said(state: ChoiceState) -> Choice:
    return replace(GRANT, state=state, record_id=state.value)


def based(basis: LegalBasis) -> Purpose:
    return replace(PURPOSE, legal_basis=basis)


def with_grant(*, suppression: str | None = None, signal: str | None = None) -> Facts:
    return Facts(known=True, choice=GRANT, suppression=suppression, signal=signal)


OUTCOMES: dict[Reason, tuple[Callable[[], Decision], bool, ConsentStatus, str | None]] = {
    Reason.GRANTED: (lambda: ask(PURPOSE, GRANT), True, ConsentStatus.GIVEN, "grant"),
    Reason.RENEWED: (
        lambda: ask(PURPOSE, replace(GRANT, renewed=True)),
        True,
        ConsentStatus.RENEWED,
        "grant",
    ),
    Reason.CONTRACT: (
        lambda: ask(based(LegalBasis.CONTRACT), None),
        True,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.LEGAL_OBLIGATION: (
        lambda: ask(based(LegalBasis.LEGAL_OBLIGATION), said(ChoiceState.OBJECTED)),
        True,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.VITAL_INTERESTS: (
        lambda: ask(based(LegalBasis.VITAL_INTERESTS), said(ChoiceState.REFUSED)),
        True,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.PUBLIC_TASK: (
        lambda: ask(based(LegalBasis.PUBLIC_TASK), None),
        True,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.LEGITIMATE_INTERESTS: (
        lambda: ask(based(LegalBasis.LEGITIMATE_INTERESTS), GRANT),
        True,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.PURPOSE_UNKNOWN: (
        lambda: ask(PURPOSE, GRANT, key="newz"),
        False,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.CHANNEL_NOT_COVERED: (
        lambda: ask(PURPOSE, GRANT, channel=Channel.POST),
        False,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.SUBJECT_UNKNOWN: (
        lambda: ask(based(LegalBasis.CONTRACT), NOBODY),
        False,
        ConsentStatus.UNKNOWN,
        None,
    ),
    Reason.NO_RECORD: (lambda: ask(PURPOSE, None), False, ConsentStatus.UNKNOWN, None),
    Reason.SUPPRESSED: (
        lambda: ask(based(LegalBasis.LEGAL_OBLIGATION), with_grant(suppression="s")),
        False,
        ConsentStatus.REVOKED,
        "s",
    ),
    Reason.WITHDRAWN: (
        lambda: ask(PURPOSE, said(ChoiceState.WITHDRAWN)),
        False,
        ConsentStatus.WITHDRAWN,
        "withdrawn",
    ),
    Reason.OBJECTED: (
        lambda: ask(based(LegalBasis.LEGITIMATE_INTERESTS), said(ChoiceState.OBJECTED)),
        False,
        ConsentStatus.WITHDRAWN,
        "objected",
    ),
    Reason.REFUSED: (
        lambda: ask(PURPOSE, said(ChoiceState.REFUSED)),
        False,
        ConsentStatus.REFUSED,
        "refused",
    ),
    Reason.SIGNAL_OPT_OUT: (
        lambda: ask(PURPOSE, with_grant(signal="gpc")),
        False,
        ConsentStatus.WITHDRAWN,
        "gpc",
    ),
    Reason.EXPIRED: (
        lambda: ask(PURPOSE, replace(GRANT, ends_at=NOW)),
        False,
        ConsentStatus.EXPIRED,
        "grant",
    ),
    Reason.PENDING_CONFIRMATION: (
        lambda: ask(CONFIRMED, GRANT),
        False,
        ConsentStatus.REQUESTED,
        "grant",
    ),
    Reason.CONFIRMATION_LAPSED: (
        lambda: ask(CONFIRMED, GRANT, at=NOW + 7 * DAY),
        False,
        ConsentStatus.DEFERRED,
        "grant",
    ),
    Reason.NOTICE_SUPERSEDED: (
        lambda: ask(CHANGED, GRANT),
        False,
        ConsentStatus.INVALIDATED,
        "grant",
    ),
    Reason.CHILD_WITHOUT_AUTHORITY: (
        lambda: ask(PURPOSE, replace(GRANT, child_without_authority=True)),
        False,
        ConsentStatus.INVALIDATED,
        "grant",
    ),
}


@pytest.mark.parametrize("reason", OUTCOMES)
def test_each_reason_has_its_outcome(reason: Reason) -> None:
    decision, allow, status, record_id = OUTCOMES[reason]
    made = decision()
    assert (made.reason, made.allow, made.status, made.record_id) == (
        reason,
        allow,
        status,
        record_id,
    )


def test_no_reason_is_out_of_reach() -> None:
    """But for one, which the reader of stored choices gives when there is nothing to decide on."""
    assert set(Reason) - set(OUTCOMES) == {Reason.STATE_UNREADABLE}
    assert {status for _, _, status, _ in OUTCOMES.values()} == set(ConsentStatus)


def test_a_decision_says_by_which_policy_and_when() -> None:
    decision = ask(YEARLY, GRANT)
    assert decision.policy == "sha256:00"
    assert decision.as_of == NOW
    assert decision.basis is LegalBasis.CONSENT
    assert decision.expires_at == datetime(2027, 2, 28, 9, 0, tzinfo=UTC)
    assert ask(PURPOSE, GRANT, key="newz").basis is None


# --- instants ----------------------------------------------------------------------------------


def test_consent_ends_on_the_stroke_of_midnight() -> None:
    midnight = datetime(2027, 1, 1, tzinfo=UTC)
    granted = replace(GRANT, occurred_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert ask(YEARLY, granted, at=midnight - INSTANT).allow
    assert ask(YEARLY, granted, at=midnight).reason is Reason.EXPIRED


def test_the_sooner_of_two_ends_counts() -> None:
    assert end_of_grant(YEARLY, replace(GRANT, ends_at=NOW)) == NOW
    assert end_of_grant(YEARLY, replace(GRANT, ends_at=NOW + 1000 * DAY)) == datetime(
        2027, 2, 28, 9, 0, tzinfo=UTC
    )
    assert end_of_grant(PURPOSE, GRANT) is None


def test_a_grant_counts_from_its_own_instant_on() -> None:
    later = replace(GRANT, occurred_at=NOW)
    assert ask(PURPOSE, later, at=NOW).allow
    assert ask(PURPOSE, later, at=NOW - INSTANT).reason is Reason.NO_RECORD


def test_a_denial_dated_ahead_counts_at_once() -> None:
    ahead = replace(said(ChoiceState.WITHDRAWN), occurred_at=NOW + DAY)
    assert ask(PURPOSE, ahead).reason is Reason.WITHDRAWN


@pytest.mark.parametrize(
    ("after", "asked_after", "reason"),
    [
        (None, 7 * DAY - INSTANT, Reason.PENDING_CONFIRMATION),
        (None, 7 * DAY, Reason.CONFIRMATION_LAPSED),
        (timedelta(0), timedelta(0), Reason.GRANTED),
        (DAY, DAY, Reason.GRANTED),
        (DAY, DAY - INSTANT, Reason.PENDING_CONFIRMATION),
        (7 * DAY - INSTANT, 8 * DAY, Reason.GRANTED),
        (7 * DAY, 7 * DAY, Reason.CONFIRMATION_LAPSED),
        (7 * DAY, 8 * DAY, Reason.CONFIRMATION_LAPSED),
        (-INSTANT, DAY, Reason.PENDING_CONFIRMATION),
        (-INSTANT, 8 * DAY, Reason.CONFIRMATION_LAPSED),
    ],
)
def test_a_confirmation_counts_between_the_grant_and_the_end_of_the_offer(
    after: timedelta | None, asked_after: timedelta, reason: Reason
) -> None:
    granted_at = GRANT.occurred_at
    choice = replace(GRANT, confirmed_at=None if after is None else granted_at + after)
    assert ask(CONFIRMED, choice, at=granted_at + asked_after).reason is reason


def test_only_the_channels_that_say_so_wait_for_confirmation() -> None:
    assert ask(CONFIRMED, GRANT, channel=Channel.SMS).reason is Reason.GRANTED


def test_a_material_change_takes_effect_at_its_instant() -> None:
    before = ask(CHANGED, GRANT, at=NOW - INSTANT)
    assert before.allow
    assert before.expires_at == NOW
    after = ask(CHANGED, GRANT, at=NOW)
    assert after.reason is Reason.NOTICE_SUPERSEDED


@pytest.mark.parametrize(
    ("choice", "allow"),
    [
        (replace(GRANT, notice_version="4"), True),
        (replace(GRANT, notice="other"), True),
        # Signed on old paper after the change: still the old words.
        (replace(GRANT, occurred_at=NOW), False),
        # Words that were not kept cannot be shown to cover what changed since.
        (replace(GRANT, notice=None), False),
        (replace(GRANT, notice_version=None), False),
        (replace(GRANT, notice=None, occurred_at=NOW), True),
    ],
)
def test_a_material_change_ends_grants_under_the_older_words(choice: Choice, allow: bool) -> None:
    assert ask(CHANGED, choice, at=NOW + DAY).allow is allow


def test_what_ended_a_grant_first_is_the_reason() -> None:
    expired = replace(GRANT, ends_at=NOW - INSTANT)
    assert ask(CHANGED, expired, at=NOW + DAY).reason is Reason.EXPIRED
    assert ask(CHANGED, replace(GRANT, ends_at=NOW), at=NOW).reason is Reason.NOTICE_SUPERSEDED


# --- precedence --------------------------------------------------------------------------------


def test_an_objection_to_direct_marketing_is_heard_whatever_the_basis() -> None:
    """GDPR Art. 21(3). The loader refuses such a purpose; the rule does not depend on it."""
    for basis in LegalBasis:
        marketing = replace(PURPOSE, legal_basis=basis, direct_marketing=True)
        assert ask(marketing, said(ChoiceState.OBJECTED)).reason is Reason.OBJECTED


def test_a_signal_stops_only_what_can_be_stopped() -> None:
    signalled = Facts(known=True, signal="gpc")
    for basis in LegalBasis:
        expected = Reason.SIGNAL_OPT_OUT if basis.yields_to_objection else Reason[basis.name]
        assert ask(based(basis), signalled).reason is expected


def test_precedence_is_suppression_then_denial_then_signal_then_grant() -> None:
    everything = Facts(
        known=True, choice=said(ChoiceState.WITHDRAWN), suppression="s", signal="gpc"
    )
    assert ask(PURPOSE, everything).reason is Reason.SUPPRESSED
    assert ask(PURPOSE, replace(everything, suppression=None)).reason is Reason.WITHDRAWN
    signal = replace(everything, suppression=None, choice=GRANT)
    assert ask(PURPOSE, signal).reason is Reason.SIGNAL_OPT_OUT
    assert ask(PURPOSE, replace(signal, signal=None)).reason is Reason.GRANTED


def test_the_ends_of_time_raise_nothing() -> None:
    last = datetime.max.replace(tzinfo=UTC)
    first = datetime.min.replace(tzinfo=UTC)
    purpose = replace(CONFIRMED, expires_after=Period.parse("P10Y"), material_changes=(CHANGE,))
    for occurred_at, confirmed_at, at in product(
        (first, last), (None, first, last), (first, NOW, last)
    ):
        choice = replace(GRANT, occurred_at=occurred_at, confirmed_at=confirmed_at)
        assert ask(purpose, choice, at=at).reason in OUTCOMES
