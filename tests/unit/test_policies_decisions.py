"""Each reason, once, by example; and the instants at which an answer turns."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from policies.decisions import NOBODY, Choice, Decision, Facts, Listing, decide, end_of_grant
from policies.model import DoubleOptIn, MaterialChange, PolicySet, Purpose, Registry
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
LIST = Registry(
    "list", "A list", "GB", frozenset({Channel.PHONE}), Period.parse("P28D"), later_consent=True
)
CALLS = replace(
    PURPOSE,
    legal_basis=LegalBasis.LEGITIMATE_INTERESTS,
    channels=frozenset({Channel.PHONE, EMAIL}),
    do_not_call=frozenset({"list"}),
)
DRAWN = date(2026, 2, 20)


def ask(
    purpose: Purpose,
    facts: Facts | Choice | None,
    *,
    at: datetime = NOW,
    key: str = "news",
    channel: Channel = EMAIL,
) -> Decision:
    policies = PolicySet("1", "sha256:00", {}, {"news": purpose}, {"list": LIST})
    known = facts if isinstance(facts, Facts) else Facts(known=True, choice=facts)
    return decide(policies, key, channel, known, at)


def said(state: ChoiceState) -> Choice:
    return replace(GRANT, state=state, record_id=state.value)


def based(basis: LegalBasis) -> Purpose:
    return replace(PURPOSE, legal_basis=basis)


def washed(
    listing: Listing | None,
    *,
    purpose: Purpose = CALLS,
    choice: Choice | None = None,
    at: datetime = NOW,
) -> Decision:
    """May we call, with this copy of the list?"""
    listings = None if listing is None else {"list": listing}
    facts = Facts(known=True, choice=choice, listings=listings)
    return ask(purpose, facts, at=at, channel=Channel.PHONE)


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
    Reason.REPLY_UNDER_REVIEW: (
        lambda: ask(PURPOSE, Facts(known=True, choice=GRANT, unclear_reply="reply")),
        False,
        ConsentStatus.UNKNOWN,
        "reply",
    ),
    Reason.DNC_LISTED: (
        lambda: washed(Listing(DRAWN, since=DRAWN)),
        False,
        ConsentStatus.WITHDRAWN,
        None,
    ),
    Reason.DNC_STALE: (lambda: washed(None), False, ConsentStatus.UNKNOWN, None),
    Reason.DNC_NUMBER_UNKNOWN: (
        lambda: washed(Listing(DRAWN, compared=False)),
        False,
        ConsentStatus.UNKNOWN,
        None,
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


# --- do-not-call lists -------------------------------------------------------------------------


def test_a_number_that_is_on_no_list_may_be_called_until_the_copy_is_too_old() -> None:
    decision = washed(Listing(DRAWN))
    assert (decision.allow, decision.reason) == (True, Reason.LEGITIMATE_INTERESTS)
    end = datetime(2026, 3, 20, tzinfo=UTC)
    assert decision.expires_at == end
    assert washed(Listing(DRAWN), at=end - INSTANT).allow
    assert washed(Listing(DRAWN), at=end).reason is Reason.DNC_STALE


def test_a_copy_of_the_future_proves_nothing() -> None:
    tomorrow = NOW.date() + DAY
    assert washed(Listing(tomorrow)).reason is Reason.DNC_STALE


def test_a_list_says_nothing_about_other_channels() -> None:
    facts = Facts(known=True)
    assert ask(CALLS, facts).reason is Reason.LEGITIMATE_INTERESTS


def test_the_number_of_a_stale_list_is_still_listed() -> None:
    listing = Listing(DRAWN, since=DRAWN)
    assert washed(listing, at=NOW + 90 * DAY).reason is Reason.DNC_LISTED


def test_consent_beats_the_list_only_if_it_came_on_a_later_day() -> None:
    rule = replace(CALLS, legal_basis=LegalBasis.CONSENT)
    listing = Listing(DRAWN, since=date(2026, 2, 1))
    given = [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), Reason.DNC_LISTED),
        (datetime(2026, 2, 1, 23, 59, tzinfo=UTC), Reason.DNC_LISTED),
        (datetime(2026, 2, 2, tzinfo=UTC), Reason.GRANTED),
    ]
    for occurred_at, reason in given:
        grant = replace(GRANT, occurred_at=occurred_at)
        assert washed(listing, purpose=rule, choice=grant).reason is reason
        # Another basis is no consent, whatever the person once said yes to.
        assert washed(listing, choice=grant).reason is Reason.DNC_LISTED


def test_where_the_law_knows_no_such_thing_consent_does_not_beat_the_list() -> None:
    rule = replace(CALLS, legal_basis=LegalBasis.CONSENT)
    strict = PolicySet(
        "1", "sha256:00", {}, {"news": rule}, {"list": replace(LIST, later_consent=False)}
    )
    facts = Facts(known=True, choice=GRANT, listings={"list": Listing(DRAWN, since=DRAWN)})
    late = replace(GRANT, occurred_at=NOW)
    for choice in (GRANT, late):
        decision = decide(strict, "news", Channel.PHONE, replace(facts, choice=choice), NOW)
        assert decision.reason is Reason.DNC_LISTED


def test_of_several_lists_the_one_that_forbids_decides_and_the_oldest_ends_it() -> None:
    other = replace(LIST, key="other", maximum_age=Period.parse("P15D"))
    rule = replace(CALLS, do_not_call=frozenset({"list", "other"}))
    policies = PolicySet("1", "sha256:00", {}, {"news": rule}, {"list": LIST, "other": other})

    def decision(**listings: Listing) -> Decision:
        facts = Facts(known=True, listings=listings)
        return decide(policies, "news", Channel.PHONE, facts, NOW)

    both = decision(list=Listing(DRAWN), other=Listing(DRAWN))
    assert both.expires_at == datetime(2026, 3, 7, tzinfo=UTC)
    assert decision(list=Listing(DRAWN)).reason is Reason.DNC_STALE
    assert decision(other=Listing(DRAWN, since=DRAWN)).reason is Reason.DNC_LISTED


def test_an_unclear_reply_holds_what_a_reply_could_stop() -> None:
    marketing = replace(based(LegalBasis.LEGITIMATE_INTERESTS), direct_marketing=True)
    assert "unclear_reply" in PURPOSE.heeded(Channel.SMS)
    assert "unclear_reply" in marketing.heeded(Channel.SMS)
    assert "unclear_reply" not in marketing.heeded(Channel.EMAIL)
    assert "unclear_reply" not in based(LegalBasis.CONTRACT).heeded(Channel.SMS)
    assert "unclear_reply" not in based(LegalBasis.PUBLIC_TASK).heeded(Channel.SMS)
