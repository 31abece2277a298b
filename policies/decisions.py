"""May this happen now? Facts and the clock in, one explained decision out. Pure.

Precedence (first that applies decides):

1. the unknown: purpose, channel or subject that nobody declared is a no;
2. a suppression;
3. an explicit denial: the newest of what the person said about this purpose and channel and
   about all of them, where a tie goes to the denial (`consent.registers`);
4. a browser signal that the purpose heeds, or a text message that nobody has read yet;
5. a grant, if it is in force: not expired, confirmed where it must be, under a notice that still
   stands, and given by someone who may give it;
6. the purpose's legal basis.

A yes to calling a number is then washed against the do-not-call lists that the purpose names: a
list can only take a yes away, and one that is missing or too old does.

Effective status is evaluated at the instant of asking. No job has to run for an expiry, a
superseded notice or a lapsed confirmation to take effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TypeAlias

from policies.model import MaterialChange, PolicySet, Purpose, Registry
from policies.vocabulary import Channel, ChoiceState, ConsentStatus, LegalBasis, Reason


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice that counts, after all that the person said was put in order."""

    state: ChoiceState
    occurred_at: datetime
    record_id: str
    renewed: bool = False
    """Granted again after an earlier grant."""
    confirmed_at: datetime | None = None
    """When this very grant was confirmed. A confirmation of an earlier one does not count."""
    ends_at: datetime | None = None
    """An end stated with the grant itself; the policy's own expiry may come sooner."""
    notice: str | None = None
    notice_version: str | None = None
    superseded_at: datetime | None = None
    """From when on a published notice took the place of the words that the person agreed to; the
    policy's own material changes may come sooner."""
    child_without_authority: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """What one do-not-call list says of a person's telephone numbers."""

    listed_on: date | None
    """The day on which our copy was drawn; None: there is no copy."""
    since: date | None = None
    """The day of the first copy, without a gap since, that had one of the numbers; None: no
    number is on it."""
    compared: bool = True
    """Whether there is a number at all, and every one could be compared with this copy."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one person for one purpose and channel."""

    known: bool
    """Whether we know the person at all."""
    choice: Choice | None = None
    suppression: str | None = None
    """Record id of a suppression in force."""
    signal: str | None = None
    """Record id of a browser signal in force that this purpose heeds."""
    unclear_reply: str | None = None
    """Record id of a text message whose meaning somebody still has to decide."""
    listings: Mapping[str, Listing] | None = None
    """By do-not-call list; one that is not in it counts as missing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer that can be explained later from its own fields."""

    allow: bool
    status: ConsentStatus
    reason: Reason
    record_id: str | None
    as_of: datetime
    expires_at: datetime | None
    basis: LegalBasis | None
    policy: str


_Outcome: TypeAlias = tuple[ConsentStatus, Reason, str | None, datetime | None]

NOBODY = Facts(known=False)
_NO_COPY = Listing(None)
_ALLOWING = frozenset(
    {
        Reason.GRANTED,
        Reason.RENEWED,
        Reason.CONTRACT,
        Reason.LEGAL_OBLIGATION,
        Reason.VITAL_INTERESTS,
        Reason.PUBLIC_TASK,
        Reason.LEGITIMATE_INTERESTS,
    }
)

_DENIAL = {
    ChoiceState.REFUSED: (ConsentStatus.REFUSED, Reason.REFUSED),
    ChoiceState.WITHDRAWN: (ConsentStatus.WITHDRAWN, Reason.WITHDRAWN),
    ChoiceState.OBJECTED: (ConsentStatus.WITHDRAWN, Reason.OBJECTED),
}


def decide(
    policies: PolicySet, purpose: str, channel: Channel, facts: Facts, now: datetime
) -> Decision:
    """May the controller use this channel for this purpose towards this person at `now`?"""
    rule = policies.purpose(purpose)
    outcome = _outcome(rule, channel, facts, now)
    if rule is not None and rule.do_not_call and outcome[1] in _ALLOWING:
        lists = policies.washed_against(rule, channel)
        outcome = _washed(lists, rule, facts, now, outcome)
    status, reason, record_id, expires_at = outcome
    return Decision(
        allow=reason in _ALLOWING,
        status=status,
        reason=reason,
        record_id=record_id,
        as_of=now,
        expires_at=expires_at,
        basis=rule.legal_basis if rule is not None else None,
        policy=policies.hash,
    )


def _outcome(rule: Purpose | None, channel: Channel, facts: Facts, now: datetime) -> _Outcome:
    if rule is None:
        return ConsentStatus.UNKNOWN, Reason.PURPOSE_UNKNOWN, None, None
    if channel not in rule.channels:
        return ConsentStatus.UNKNOWN, Reason.CHANNEL_NOT_COVERED, None, None
    if not facts.known:
        return ConsentStatus.UNKNOWN, Reason.SUBJECT_UNKNOWN, None, None
    if facts.suppression is not None:
        return ConsentStatus.REVOKED, Reason.SUPPRESSED, facts.suppression, None
    choice = facts.choice
    # Whoever objects to direct marketing is heard, whatever the basis (GDPR Art. 21(3)).
    if rule.legal_basis.yields_to_objection or rule.direct_marketing:
        if choice is not None and choice.state.denies:
            return *_DENIAL[choice.state], choice.record_id, None
        if facts.signal is not None:
            return ConsentStatus.WITHDRAWN, Reason.SIGNAL_OPT_OUT, facts.signal, None
        if facts.unclear_reply is not None:
            return ConsentStatus.UNKNOWN, Reason.REPLY_UNDER_REVIEW, facts.unclear_reply, None
    if rule.legal_basis is not LegalBasis.CONSENT:
        return ConsentStatus.UNKNOWN, Reason[rule.legal_basis.name], None, None
    # What is said to happen later has not happened: a denial counts early, a grant does not.
    if choice is None or choice.occurred_at > now:
        return ConsentStatus.UNKNOWN, Reason.NO_RECORD, None, None
    return _grant(rule, channel, choice, now)


def _washed(
    lists: Sequence[Registry], rule: Purpose, facts: Facts, now: datetime, outcome: _Outcome
) -> _Outcome:
    """A yes, unless a list takes it away; it ends at the latest when a copy grows too old."""
    status, reason, record_id, expires_at = outcome
    listings = facts.listings or {}
    found = [(registry, listings.get(registry.key, _NO_COPY)) for registry in lists]
    if any(_listed(registry, listing, rule, facts.choice) for registry, listing in found):
        return ConsentStatus.WITHDRAWN, Reason.DNC_LISTED, None, None
    for registry, listing in found:
        if listing.listed_on is None:
            return ConsentStatus.UNKNOWN, Reason.DNC_STALE, None, None
        drawn_at = datetime.combine(listing.listed_on, time(), UTC)
        good_until = registry.maximum_age.after(drawn_at)
        if not drawn_at <= now < good_until:
            return ConsentStatus.UNKNOWN, Reason.DNC_STALE, None, None
        if not listing.compared:
            return ConsentStatus.UNKNOWN, Reason.DNC_NUMBER_UNKNOWN, None, None
        expires_at = _sooner(expires_at, good_until)
    return status, reason, record_id, expires_at


def _listed(registry: Registry, listing: Listing, rule: Purpose, choice: Choice | None) -> bool:
    """Whether a list forbids it. Consent counts where the law says so, if it came a day later."""
    if listing.since is None:
        return False
    consented = (
        registry.later_consent
        and rule.legal_basis is LegalBasis.CONSENT
        and choice is not None
        and choice.occurred_at.astimezone(UTC).date() > listing.since
    )
    return not consented


def _grant(rule: Purpose, channel: Channel, choice: Choice, now: datetime) -> _Outcome:
    ends_at = end_of_grant(rule, choice)
    flaw = _flaw(rule, channel, choice, now, ends_at)
    if flaw is not None:
        return *flaw, choice.record_id, ends_at
    if choice.renewed:
        return ConsentStatus.RENEWED, Reason.RENEWED, choice.record_id, ends_at
    return ConsentStatus.GIVEN, Reason.GRANTED, choice.record_id, ends_at


def _flaw(
    rule: Purpose, channel: Channel, choice: Choice, now: datetime, ends_at: datetime | None
) -> tuple[ConsentStatus, Reason] | None:
    """Why a grant is not in force, or None when it is."""
    if choice.child_without_authority:
        return ConsentStatus.INVALIDATED, Reason.CHILD_WITHOUT_AUTHORITY
    if ends_at is not None and ends_at <= now:
        if ends_at == _superseded_at(rule, choice):
            return ConsentStatus.INVALIDATED, Reason.NOTICE_SUPERSEDED
        return ConsentStatus.EXPIRED, Reason.EXPIRED
    if rule.double_opt_in is not None and rule.needs_confirmation(channel):
        # Spans are compared, not instants: a sum of dates may overflow, a difference never does.
        offer = rule.double_opt_in.confirm_within
        confirmed_at = choice.confirmed_at
        if confirmed_at is None or not choice.occurred_at <= confirmed_at <= now:
            if now - choice.occurred_at < offer:
                return ConsentStatus.REQUESTED, Reason.PENDING_CONFIRMATION
            return ConsentStatus.DEFERRED, Reason.CONFIRMATION_LAPSED
        if confirmed_at - choice.occurred_at >= offer:
            return ConsentStatus.DEFERRED, Reason.CONFIRMATION_LAPSED
    return None


def end_of_grant(rule: Purpose, choice: Choice) -> datetime | None:
    """When a grant ends: its own stated end, the policy's expiry or the first material change of
    its notice, whichever comes first; None when nothing is known to end it.
    """
    end = choice.ends_at
    if rule.expires_after is not None:
        end = _sooner(end, rule.expires_after.after(choice.occurred_at))
    return _sooner(end, _superseded_at(rule, choice))


def _sooner(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def _superseded_at(rule: Purpose, choice: Choice) -> datetime | None:
    """From when on the words that the person agreed to no longer stand."""
    if not rule.material_changes:
        return choice.superseded_at
    by_policy = min(
        (change.effective_from for change in rule.material_changes if _supersedes(change, choice)),
        default=None,
    )
    return _sooner(by_policy, choice.superseded_at)


def _supersedes(change: MaterialChange, choice: Choice) -> bool:
    if choice.notice is None or choice.notice_version is None:
        # Nobody can show that words which were not kept cover what changed since (GDPR Art. 7(1)).
        return choice.occurred_at < change.effective_from
    return choice.notice == change.notice and choice.notice_version in change.supersedes
