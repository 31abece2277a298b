"""What people said, in any order of arrival: the registers and the decisions drawn from them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from consent.notice_history import NOTHING_PUBLISHED
from consent.registers import Event, Key, Register, bears_on, facts_of, fold, merge, register_of
from policies.decisions import decide
from policies.model import Controller, DoubleOptIn, PolicySet, Purpose
from policies.periods import Period
from policies.vocabulary import ANY, Channel, ChoiceState, EventType, LegalBasis, MarkState

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=40)
DENIALS = (ChoiceState.REFUSED, ChoiceState.WITHDRAWN, ChoiceState.OBJECTED)


def purpose(key: str, basis: LegalBasis, **more: object) -> Purpose:
    return Purpose(
        key=key,
        controller="shop",
        name=key,
        description=key,
        legal_basis=basis,
        channels=frozenset({Channel.EMAIL, Channel.SMS}),
        dpv=("Marketing",),
        data_use="marketing",
        data_categories=("user.contact.email",),
        data_subjects=("customer",),
        **more,  # type: ignore[arg-type]
    )


POLICIES = PolicySet(
    version="1",
    hash="sha256:" + "0" * 64,
    controllers={"shop": Controller("shop", "Shop", "Street 1", "DE", "hello@example.com")},
    purposes={
        "news": purpose("news", LegalBasis.CONSENT, expires_after=Period.parse("P30D")),
        "ads": purpose("ads", LegalBasis.CONSENT, signals=frozenset({"gpc"})),
        "offers": purpose("offers", LegalBasis.LEGITIMATE_INTERESTS, direct_marketing=True),
        "letters": purpose(
            "letters",
            LegalBasis.CONSENT,
            double_opt_in=DoubleOptIn(frozenset({Channel.EMAIL}), timedelta(days=7)),
        ),
    },
)

# Few instants, so that ties are common.
instants = st.integers(0, 5).map(lambda day: START + timedelta(days=7 * day))
keys: st.SearchStrategy[Key] = st.one_of(
    st.tuples(
        st.sampled_from([*POLICIES.purposes]),
        st.sampled_from(["email", "sms"]),
        st.just(EventType.CHOICE.value),
    ),
    st.sampled_from(
        [
            (ANY, "email", EventType.CHOICE.value),
            (ANY, ANY, EventType.CHOICE.value),
            ("news", ANY, EventType.CHOICE.value),
            (ANY, ANY, EventType.SUPPRESSION.value),
            (ANY, "email", EventType.SUPPRESSION.value),
            ("gpc", ANY, EventType.SIGNAL.value),
        ]
    ),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of one person; some grants confirmed."""
    events: list[Event] = []
    for index in range(draw(st.integers(0, 10))):
        key = draw(keys)
        if key[2] != EventType.CHOICE:
            state = draw(st.sampled_from([*MarkState])).value
        elif ANY in key:
            state = draw(st.sampled_from(DENIALS)).value
        else:
            state = draw(st.sampled_from([*ChoiceState])).value
        fact = register_of(
            state=state, event_id=f"event-{index:02}", idx=index, occurred_at=draw(instants)
        )
        events.append(Event(key, fact))
        if state == ChoiceState.GRANTED and draw(st.booleans()):
            confirmation = register_of(
                state="confirmed",
                event_id=f"event-{index:02}-confirmed",
                idx=index,
                occurred_at=fact.occurred_at + timedelta(days=draw(st.integers(0, 9))),
            )
            events.append(Event(key, confirmation, confirms=fact.event_id))
    return events


def arrivals(events: Sequence[Event], order: Sequence[int]) -> list[Event]:
    """The events as they may arrive: any order, but a confirmation after what it confirms."""
    shuffled = [events[place] for place in order]
    return sorted(shuffled, key=lambda event: event.confirms is not None)


def projected(events: Sequence[Event]) -> dict[Key, Register]:
    """The registers as the service keeps them: merged one event at a time."""
    registers: dict[Key, Register] = {}
    for event in events:
        merged = merge(registers.get(event.key), event)
        if merged is not None:
            registers[event.key] = merged
    return registers


def allowed(
    registers: dict[Key, Register], key: str, channel: Channel, now: datetime = NOW
) -> bool:
    signals = POLICIES.purposes[key].signals
    bearing = [
        (one, register)
        for one, register in registers.items()
        if bears_on(one, key, channel.value, signals)
    ]
    return decide(POLICIES, key, channel, facts_of(bearing, signals, NOTHING_PUBLISHED), now).allow


@given(histories(), st.data())
def test_any_order_of_arrival_leaves_the_same_registers(
    events: list[Event], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(events))))
    assert projected(arrivals(events, order)) == projected(events) == fold(events)


@given(histories(), st.data())
def test_an_event_that_arrives_again_changes_nothing(
    events: list[Event], data: st.DataObject
) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=4)) if events else []
    assert projected([*events, *again]) == projected(events)


@given(histories(), st.data())
def test_no_order_duplication_or_late_import_turns_a_deny_into_an_allow(
    events: list[Event], data: st.DataObject
) -> None:
    in_true_order = sorted(
        events, key=lambda event: (event.confirms is not None, event.fact.occurred_at)
    )
    order = data.draw(st.permutations(range(len(events))))
    again = data.draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
    as_arrived = projected([*arrivals(events, order), *again])
    for key in POLICIES.purposes:
        for channel in (Channel.EMAIL, Channel.SMS):
            if not allowed(projected(in_true_order), key, channel):
                assert not allowed(as_arrived, key, channel)


@given(histories())
def test_the_newest_word_on_a_purpose_and_channel_decides_and_a_tie_is_a_no(
    events: list[Event],
) -> None:
    said = [
        event.fact
        for event in events
        if event.key[2] == EventType.CHOICE and bears_on(event.key, "news", "email", frozenset())
        if event.confirms is None
    ]
    marks: dict[Key, list[Register]] = {}
    for event in events:
        if event.key[2] == EventType.SUPPRESSION:
            marks.setdefault(event.key, []).append(event.fact)
    suppressed = any(
        max(held, key=lambda one: (one.occurred_at, one.state == MarkState.SET)).state
        == MarkState.SET
        for held in marks.values()
    )
    newest = max((one.occurred_at for one in said), default=None)
    last_words = [one for one in said if one.occurred_at == newest]
    expected = (
        not suppressed
        and bool(last_words)
        and all(one.state == ChoiceState.GRANTED for one in last_words)
        and newest is not None
        and newest + timedelta(days=30) > NOW
    )
    assert allowed(fold(events), "news", Channel.EMAIL) == expected


@given(histories())
def test_a_denial_added_at_the_end_denies_every_purpose_it_speaks_of(events: list[Event]) -> None:
    stop = register_of(state=ChoiceState.WITHDRAWN.value, event_id="zz", idx=99, occurred_at=NOW)
    registers = fold([*events, Event((ANY, ANY, EventType.CHOICE.value), stop)])
    for key in POLICIES.purposes:
        assert not allowed(registers, key, Channel.EMAIL)
        assert not allowed(registers, key, Channel.SMS)


@given(histories())
def test_a_suppression_in_force_denies_everything_whatever_is_granted_later(
    events: list[Event],
) -> None:
    mark = register_of(state=MarkState.SET.value, event_id="zz", idx=99, occurred_at=NOW)
    registers = fold([*events, Event((ANY, ANY, EventType.SUPPRESSION.value), mark)])
    for key in POLICIES.purposes:
        assert not allowed(registers, key, Channel.EMAIL)
