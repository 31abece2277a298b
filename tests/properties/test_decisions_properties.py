"""Laws that every decision obeys, whatever the rule and whatever is known."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Final, TypeVar

from hypothesis import assume, given
from hypothesis import strategies as st

from policies.decisions import Choice, Decision, Facts, Listing, decide, end_of_grant
from policies.explain import explain
from policies.model import DoubleOptIn, MaterialChange, PolicySet, Purpose, Registry
from policies.periods import Period
from policies.vocabulary import Channel, ChoiceState, ConsentStatus, LegalBasis, Reason

INSTANT: Final = timedelta(microseconds=1)
START: Final = datetime(2026, 1, 1, tzinfo=UTC)

_T = TypeVar("_T")


def rarely(strategy: st.SearchStrategy[_T]) -> st.SearchStrategy[_T | None]:
    """Mostly nothing: an answer of yes takes that many things do not stand in its way."""
    return st.one_of(st.none(), st.none(), st.none(), strategy)


# Few instants, so that they meet; and now and then any instant at all.
near = st.integers(-3, 20).map(lambda days: START + timedelta(days=days))
instants = st.one_of(near, near, near, st.datetimes(timezones=st.just(UTC)))
channels = st.sampled_from([Channel.EMAIL, Channel.SMS, Channel.PHONE])
channel_sets = st.frozensets(channels, min_size=1)
denials = st.sampled_from([state for state in ChoiceState if state.denies])

choices = st.builds(
    Choice,
    state=st.one_of(st.just(ChoiceState.GRANTED), st.sampled_from(ChoiceState)),
    occurred_at=instants,
    record_id=st.just("choice"),
    renewed=st.booleans(),
    confirmed_at=st.one_of(st.none(), instants),
    ends_at=rarely(instants),
    notice=st.one_of(st.none(), st.sampled_from(["a", "b"])),
    notice_version=st.one_of(st.none(), st.sampled_from(["1", "2", "3"])),
    child_without_authority=rarely(st.just(value=True)).map(bool),
)
LIST: Final = Registry(
    "list", "A list", "GB", frozenset({Channel.PHONE, Channel.SMS}), Period.parse("P9D"), True
)
listings = st.builds(
    Listing,
    listed_on=st.one_of(st.none(), near.map(datetime.date)),
    since=rarely(near.map(datetime.date)),
    compared=rarely(st.just(value=False)).map(lambda compared: compared is None),
)
facts = st.builds(
    Facts,
    known=rarely(st.just(value=True)).map(lambda unknown: not unknown),
    choice=st.one_of(choices, choices, st.none()),
    suppression=rarely(st.just("suppression")),
    signal=rarely(st.just("signal")),
    unclear_reply=rarely(st.just("reply")),
    listings=st.one_of(st.none(), st.fixed_dictionaries({}, optional={"list": listings})),
)
purposes = st.builds(
    Purpose,
    key=st.just("news"),
    controller=st.just("shop"),
    name=st.just("News"),
    description=st.just("We write to you."),
    legal_basis=st.one_of(st.just(LegalBasis.CONSENT), st.sampled_from(LegalBasis)),
    channels=st.one_of(st.just(frozenset(Channel)), channel_sets),
    dpv=st.just(("Marketing",)),
    data_use=st.just("marketing"),
    data_categories=st.just(("user",)),
    data_subjects=st.just(("customer",)),
    expires_after=st.one_of(st.none(), st.sampled_from(["P7D", "P1M", "P10Y"]).map(Period.parse)),
    double_opt_in=rarely(
        st.builds(
            DoubleOptIn,
            channels=channel_sets,
            confirm_within=st.integers(1, 10).map(lambda days: timedelta(days=days)),
        ),
    ),
    direct_marketing=st.booleans(),
    material_changes=rarely(
        st.lists(
            st.builds(
                MaterialChange,
                notice=st.sampled_from(["a", "b"]),
                version=st.just("4"),
                supersedes=st.frozensets(st.sampled_from(["1", "2", "3"]), min_size=1),
                effective_from=instants,
            ),
            max_size=2,
        ),
    ).map(lambda changes: tuple(changes or ())),
    do_not_call=rarely(st.just(frozenset({"list"}))).map(lambda named: named or frozenset()),
)


def ask(purpose: Purpose, channel: Channel, known: Facts, now: datetime) -> Decision:
    policies = PolicySet("1", "sha256:00", {}, {purpose.key: purpose}, {"list": LIST})
    return decide(policies, purpose.key, channel, known, now)


@given(purposes, channels, facts, instants)
def test_every_decision_explains_itself(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    decision = ask(purpose, channel, known, now)
    assert decision.as_of == now
    assert decision.policy == "sha256:00"
    assert decision.basis is purpose.legal_basis
    assert explain(decision).startswith("Yes. " if decision.allow else "No. ")
    assert decision.reason is not Reason.STATE_UNREADABLE


@given(channels, facts, instants)
def test_what_nobody_declared_is_a_no(channel: Channel, known: Facts, now: datetime) -> None:
    decision = decide(PolicySet("1", "sha256:00", {}, {}), "news", channel, known, now)
    assert not decision.allow
    assert decision.reason is Reason.PURPOSE_UNKNOWN


@given(purposes, channels, facts, instants)
def test_a_channel_that_the_purpose_lacks_is_a_no(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    lacking = replace(purpose, channels=purpose.channels - {channel})
    assert not ask(lacking, channel, known, now).allow


@given(purposes, channels, facts, instants)
def test_nobody_may_be_treated_as_known(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    assert not ask(purpose, channel, replace(known, known=False), now).allow


@given(purposes, channels, facts, instants)
def test_consent_without_a_record_is_a_no(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    on_consent = replace(purpose, legal_basis=LegalBasis.CONSENT)
    assert not ask(on_consent, channel, replace(known, choice=None), now).allow


@given(purposes, channels, facts, instants)
def test_a_suppression_beats_everything(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    decision = ask(purpose, channel, replace(known, suppression="suppression"), now)
    assert not decision.allow
    if channel in purpose.channels and known.known:
        assert decision.reason is Reason.SUPPRESSED
        assert decision.record_id == "suppression"


@given(purposes, channels, facts, instants)
def test_on_consent_allow_means_that_it_is_given_or_renewed(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    decision = ask(purpose, channel, known, now)
    if purpose.legal_basis is LegalBasis.CONSENT:
        assert decision.allow == decision.status.valid
        assert decision.allow == (decision.status in {ConsentStatus.GIVEN, ConsentStatus.RENEWED})
        assert not decision.allow or (known.choice and known.choice.state is ChoiceState.GRANTED)
    else:
        # Another basis never claims that the person consented.
        assert not decision.status.valid


@given(purposes, channels, facts, instants, denials)
def test_who_may_stop_it_and_said_no_is_never_overruled(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime, state: ChoiceState
) -> None:
    if purpose.legal_basis.yields_to_objection or purpose.direct_marketing:
        no = replace(known.choice or Choice(state, now, "choice"), state=state)
        assert not ask(purpose, channel, replace(known, choice=no), now).allow
        assert not ask(purpose, channel, replace(known, signal="signal"), now).allow


@given(purposes, channels, choices, instants)
def test_a_child_alone_cannot_consent(
    purpose: Purpose, channel: Channel, choice: Choice, now: datetime
) -> None:
    on_consent = replace(purpose, legal_basis=LegalBasis.CONSENT)
    alone = Facts(known=True, choice=replace(choice, child_without_authority=True))
    assert not ask(on_consent, channel, alone, now).allow


@given(purposes, channels, choices, instants)
def test_where_confirmation_is_asked_a_yes_was_confirmed_in_time(
    purpose: Purpose, channel: Channel, choice: Choice, now: datetime
) -> None:
    asked = DoubleOptIn(frozenset({channel}), timedelta(days=7))
    rule = replace(purpose, legal_basis=LegalBasis.CONSENT, double_opt_in=asked)
    if ask(rule, channel, Facts(known=True, choice=choice), now).allow:
        assert choice.confirmed_at is not None
        assert choice.occurred_at <= choice.confirmed_at <= now
        assert choice.confirmed_at < choice.occurred_at + timedelta(days=7)


@given(st.data(), purposes, channels, facts, instants)
def test_nothing_on_the_side_of_no_ever_makes_a_yes(
    data: st.DataObject, purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    stricter, less = purpose, known
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            stricter = data.draw(st.sampled_from(STRICTER))(data, stricter)
        else:
            less = data.draw(st.sampled_from(LESS))(data, less)
    if ask(stricter, channel, less, now).allow:
        assert ask(purpose, channel, known, now).allow


def narrower(data: st.DataObject, rule: Purpose) -> Purpose:
    return replace(rule, channels=rule.channels & data.draw(channel_sets))


def shorter(_: st.DataObject, rule: Purpose) -> Purpose:
    lengths = [Period.parse("P1D"), *([rule.expires_after] if rule.expires_after else [])]
    return replace(rule, expires_after=min(lengths, key=lambda length: length.after(START)))


def confirmed(data: st.DataObject, rule: Purpose) -> Purpose:
    asked = rule.double_opt_in or DoubleOptIn(frozenset(), timedelta(days=10))
    wider = replace(asked, channels=asked.channels | data.draw(channel_sets))
    return replace(rule, double_opt_in=wider)


def superseded(data: st.DataObject, rule: Purpose) -> Purpose:
    change = MaterialChange("a", "4", frozenset({"1", "2", "3"}), data.draw(instants))
    return replace(rule, material_changes=(*rule.material_changes, change))


def of_marketing(_: st.DataObject, rule: Purpose) -> Purpose:
    return replace(rule, direct_marketing=True)


def washed(_: st.DataObject, rule: Purpose) -> Purpose:
    return replace(rule, do_not_call=frozenset({"list"}))


def unknown(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, known=False)


def suppressed(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, suppression="suppression")


def signalled(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, signal="signal")


def unread(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, unclear_reply="reply")


def without_lists(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, listings=None)


def listed(data: st.DataObject, known: Facts) -> Facts:
    day = data.draw(near).date()
    held = (known.listings or {}).get("list", Listing(None))
    return replace(known, listings={"list": replace(held, since=max(day, held.since or day))})


def unsaid(_: st.DataObject, known: Facts) -> Facts:
    """Without its grant. A denial is kept: where consent is not the basis, silence is no denial."""
    granted = known.choice is not None and not known.choice.state.denies
    return replace(known, choice=None) if granted else known


def denied(data: st.DataObject, known: Facts) -> Facts:
    state = data.draw(denials)
    return replace(known, choice=known.choice and replace(known.choice, state=state))


def too_young(_: st.DataObject, known: Facts) -> Facts:
    return replace(
        known, choice=known.choice and replace(known.choice, child_without_authority=True)
    )


def unconfirmed(_: st.DataObject, known: Facts) -> Facts:
    return replace(known, choice=known.choice and replace(known.choice, confirmed_at=None))


def sooner(data: st.DataObject, known: Facts) -> Facts:
    if known.choice is None:
        return known
    end = data.draw(instants)
    return replace(
        known, choice=replace(known.choice, ends_at=min(end, known.choice.ends_at or end))
    )


STRICTER: Final = (narrower, shorter, confirmed, superseded, of_marketing, washed)
LESS: Final = (
    unknown,
    suppressed,
    signalled,
    unread,
    without_lists,
    listed,
    unsaid,
    denied,
    too_young,
    unconfirmed,
    sooner,
)


@given(purposes, channels, facts, instants)
def test_no_grant_is_in_force_before_it_was_given_or_at_its_end(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    decision = ask(purpose, channel, known, now)
    if decision.allow and purpose.legal_basis is LegalBasis.CONSENT:
        assert known.choice is not None
        assert known.choice.occurred_at <= now
        end = end_of_grant(purpose, known.choice)
        if purpose.do_not_call and channel in LIST.channels:
            drawn = (known.listings or {})["list"].listed_on
            assert drawn is not None
            stale_at = datetime.combine(drawn, time(), UTC) + timedelta(days=9)
            end = stale_at if end is None else min(end, stale_at)
        assert decision.expires_at == end
        assert decision.expires_at is None or now < decision.expires_at


@given(purposes, channels, choices, st.integers(0, 6))
def test_a_yes_holds_until_just_before_it_expires_and_not_at_that_instant(
    purpose: Purpose, channel: Channel, choice: Choice, days: int
) -> None:
    rule = replace(
        purpose,
        legal_basis=LegalBasis.CONSENT,
        channels=frozenset({channel}),
        expires_after=purpose.expires_after or Period.parse("P1Y"),
        do_not_call=frozenset(),
    )
    assume(choice.occurred_at.year < 9000)
    granted = replace(
        choice,
        state=ChoiceState.GRANTED,
        confirmed_at=choice.occurred_at,
        child_without_authority=False,
    )
    known = Facts(known=True, choice=granted)
    decision = ask(rule, channel, known, choice.occurred_at + timedelta(days=days))
    end = decision.expires_at
    assert end is not None
    if decision.allow:
        assert ask(rule, channel, known, end - INSTANT).allow
    over = ask(rule, channel, known, max(end, choice.occurred_at))
    assert not over.allow
    assert over.reason in {Reason.EXPIRED, Reason.NOTICE_SUPERSEDED}


@given(purposes, channels, facts, instants, instants)
def test_a_no_about_a_grant_only_turns_when_the_grant_or_its_confirmation_begins(
    purpose: Purpose, channel: Channel, known: Facts, one: datetime, other: datetime
) -> None:
    """Time alone never revives consent."""
    earlier, later = sorted((one, other))
    assume(purpose.legal_basis is LegalBasis.CONSENT)
    refused = ask(purpose, channel, known, earlier)
    if not refused.allow and ask(purpose, channel, known, later).allow:
        assert known.choice is not None
        beginnings = (known.choice.occurred_at, known.choice.confirmed_at)
        assert any(begins is not None and earlier < begins <= later for begins in beginnings)
