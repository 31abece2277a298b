"""What will be decided, if nothing else happens: a decision, and those that time makes of it. Pure.

Whoever keeps a copy of decisions elsewhere (`consent.mirrors`) needs no rule of its own then: it
looks which of them is the newest that has begun.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, time

from policies.decisions import Decision, Facts, decide, end_of_grant
from policies.model import PolicySet, Purpose
from policies.vocabulary import Channel


def outlook(
    policies: PolicySet, purpose: str, channel: Channel, facts: Facts, now: datetime
) -> list[Decision]:
    """The decision at `now`, and every other one that will follow by itself, in their order.

    Each stands from its own `as_of` until that of the next.
    """
    told = [decide(policies, purpose, channel, facts, now)]
    rule = policies.purpose(purpose)
    if rule is None:
        return told
    for instant in sorted(set(_turning_points(policies, rule, channel, facts))):
        if instant > now:
            later = decide(policies, purpose, channel, facts, instant)
            if not same(told[-1], later):
                told.append(later)
    return told


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions say the same, each at its own instant."""
    return (
        one.reason is other.reason
        and one.record_id == other.record_id
        and one.expires_at == other.expires_at
        and one.status is other.status
        and one.allow == other.allow
        and one.basis is other.basis
        and one.policy == other.policy
    )


def _turning_points(
    policies: PolicySet, rule: Purpose, channel: Channel, facts: Facts
) -> Iterator[datetime]:
    """Every instant at which these facts may begin to mean something else.

    One too many costs a little time, one that is missing makes copies go on allowing: whatever
    `decide` compares with the present has to be here.
    """
    choice = facts.choice
    if choice is not None:
        yield choice.occurred_at
        if choice.confirmed_at is not None:
            yield choice.confirmed_at
        end = end_of_grant(rule, choice)
        if end is not None:
            yield end
        if rule.double_opt_in is not None:
            with suppress(OverflowError):  # then it never comes
                yield choice.occurred_at + rule.double_opt_in.confirm_within
    if rule.do_not_call:
        for registry in policies.washed_against(rule, channel):
            listing = (facts.listings or {}).get(registry.key)
            if listing is not None and listing.listed_on is not None:
                drawn_at = datetime.combine(listing.listed_on, time(), UTC)
                yield drawn_at
                yield registry.maximum_age.after(drawn_at)
