"""What is foretold is what is decided when the time comes, whatever the rule and the facts."""

from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from policies.decisions import Facts, decide
from policies.model import PolicySet, Purpose
from policies.outlook import outlook, same
from policies.vocabulary import Channel
from tests.properties.test_decisions_properties import (
    INSTANT,
    LIST,
    START,
    channels,
    facts,
    instants,
    near,
    purposes,
    rarely,
)


def superseded(known: Facts, at: datetime | None) -> Facts:
    if known.choice is None:
        return known
    return replace(known, choice=replace(known.choice, superseded_at=at))


known_facts = st.builds(superseded, facts, rarely(instants))
# At the very instants that matter, a microsecond before and behind them, and in between.
moments = st.builds(
    lambda day, nudge: day + nudge * INSTANT, near, st.sampled_from([-1, 0, 1, 3_600_000_000])
)


@given(purposes, channels, known_facts, near, st.one_of(moments, instants))
def test_the_newest_that_has_begun_is_the_decision(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime, later: datetime
) -> None:
    if later < now:
        now, later = later, now
    policies = PolicySet("1", "sha256:00", {}, {purpose.key: purpose}, {"list": LIST})
    told = outlook(policies, "news", channel, known, now)
    begun = [decision for decision in told if decision.as_of <= later]
    assert same(begun[-1], decide(policies, "news", channel, known, later))


@given(purposes, channels, known_facts, near)
def test_it_is_in_order_and_says_nothing_twice(
    purpose: Purpose, channel: Channel, known: Facts, now: datetime
) -> None:
    policies = PolicySet("1", "sha256:00", {}, {purpose.key: purpose}, {"list": LIST})
    told = outlook(policies, "news", channel, known, now)
    assert told[0].as_of == now
    assert all(one.as_of < other.as_of for one, other in pairwise(told))
    assert not any(same(one, other) for one, other in pairwise(told))


@given(channels, known_facts, near)
@example(Channel.EMAIL, Facts(known=True), START)
def test_what_nobody_declared_stays_so(channel: Channel, known: Facts, now: datetime) -> None:
    policies = PolicySet("1", "sha256:00", {}, {})
    (told,) = outlook(policies, "news", channel, known, now)
    assert not told.allow
