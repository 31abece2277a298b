"""How many people a notice concerns: those on each version, and those who must be asked again.

A person counts whose grant would be in force but for its notice: it is what they said last about
the purpose and channel, was confirmed where it must be, has not ended, is not a child's alone, and
no suppression or signal overrules it. These are the rules of `policies.decisions` as one statement
over the registers, so that the number is exact; tests hold it to the decisions one by one.
"""

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    Interval,
    Select,
    and_,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TIMESTAMP

from consent.bulk import connection_of
from consent.models import state as state_table
from consent.notice_history import NoticeHistory
from consent.subjects import Reader
from policies.model import PolicySet, Purpose
from policies.periods import Period
from policies.vocabulary import ANY, ChoiceState, EventType, LegalBasis, MarkState

_INSTANT: Final = timedelta(microseconds=1)

_held = state_table.alias("held")
_other = state_table.alias("other")


def people_on_versions(
    reader: Reader, policies: PolicySet, notice: str, at: datetime
) -> dict[str, int]:
    """How many people's grants name each version of a notice, whether or not it still stands.

    A person with grants under two versions counts for both.
    """
    counted = (
        _grants(reader, policies, notice, at)
        .with_only_columns(_held.c.notice_version, func.count(_held.c.subject_ref.distinct()))
        .group_by(_held.c.notice_version)
    )
    return {version: count for version, count in reader.execute(counted) if version is not None}


def people_to_ask_again(
    reader: Reader, policies: PolicySet, history: NoticeHistory, notice: str, at: datetime
) -> int:
    """How many people lose a permission when a material version takes effect.

    Args:
        reader: a connection or session.
        policies: the active policy.
        history: what was published until now.
        notice: the notice's id.
        at: when the version takes effect; not in the past.
    """
    counted = (
        _grants(reader, policies, notice, at)
        .where(_stands_at(history, notice, at))
        .where(*(not_(_ended_by(rule, notice, at)) for rule in policies.purposes.values()))
        .with_only_columns(func.count(_held.c.subject_ref.distinct()))
    )
    return reader.execute(counted).scalar_one()


def _grants(reader: Reader, policies: PolicySet, notice: str, at: datetime) -> Select[Any]:
    """Grants under any version of a notice that would be in force at an instant."""
    dialect = connection_of(reader).dialect.name
    pursued = [
        _pursued(rule, at, dialect)
        for rule in policies.purposes.values()
        if rule.legal_basis is LegalBasis.CONSENT
    ]
    return select(_held.c.subject_ref).where(
        _held.c.type == EventType.CHOICE.value,
        _held.c.state == ChoiceState.GRANTED.value,
        _held.c.notice == notice,
        _held.c.child_without_authority.is_(False),
        _held.c.occurred_at <= at,
        or_(_held.c.ends_at.is_(None), _held.c.ends_at > at),
        or_(false(), *pursued),
        not_(_other_says(EventType.CHOICE, _bears_on_purpose(), _denies())),
        not_(_other_says(EventType.SUPPRESSION, _bears_on_purpose(), _is_set())),
    )


def _pursued(rule: Purpose, at: datetime, dialect: str) -> ColumnElement[bool]:
    """Whether a grant is one for this purpose: on its channels, not run out, confirmed, and not
    taken back by a signal.
    """
    conditions: list[ColumnElement[bool]] = [
        _held.c.purpose == rule.key,
        _held.c.channel.in_(sorted(rule.channels)),
    ]
    if rule.expires_after is not None:
        conditions.append(_held.c.occurred_at >= _still_lasting(rule.expires_after, at))
    if rule.double_opt_in is not None:
        unconfirmed = _held.c.channel.not_in(sorted(rule.double_opt_in.channels))
        offer = rule.double_opt_in.confirm_within
        conditions.append(or_(unconfirmed, _confirmed(at, offer, dialect)))
    if rule.signals:
        heeded = _other.c.purpose.in_(sorted(rule.signals))
        conditions.append(not_(_other_says(EventType.SIGNAL, heeded, _is_set())))
    return and_(*conditions)


def _still_lasting(period: Period, at: datetime) -> datetime:
    """The first instant of which that period ends after `at`. Later instants end no sooner."""
    over, lasting = at - timedelta(days=31 * period.months + period.days + 1), at
    while lasting - over > _INSTANT:
        middle = over + (lasting - over) // 2
        if period.after(middle) > at:
            lasting = middle
        else:
            over = middle
    return lasting


def _confirmed(at: datetime, offer: timedelta, dialect: str) -> ColumnElement[bool]:
    """Whether a grant was confirmed while the offer stood."""
    return and_(
        _held.c.confirmed_at >= _held.c.occurred_at,
        _held.c.confirmed_at <= at,
        _span(_held.c.occurred_at, _held.c.confirmed_at, dialect)
        < (literal(offer, Interval()) if dialect == "postgresql" else literal(offer // _INSTANT)),
    )


def _span(
    start: ColumnElement[datetime], end: ColumnElement[datetime], dialect: str
) -> ColumnElement[Any]:
    """The time between two instants: an interval, or microseconds where instants are text."""
    if dialect == "postgresql":
        instant = TIMESTAMP(timezone=True)
        return type_coerce(end, instant) - type_coerce(start, instant)
    return _microseconds(end) - _microseconds(start)


def _microseconds(instant: ColumnElement[datetime]) -> ColumnElement[int]:
    seconds = cast(func.strftime("%s", instant), Integer)
    return seconds * 1_000_000 + cast(func.substr(instant, 21, 6), Integer)


def _other_says(kind: EventType, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the same person has such a register on the channel of the grant, or on all."""
    return (
        select(_other.c.subject_ref)
        .where(
            _other.c.subject_ref == _held.c.subject_ref,
            _other.c.type == kind.value,
            _other.c.channel.in_([_held.c.channel, ANY]),
            *conditions,
        )
        .exists()
    )


def _bears_on_purpose() -> ColumnElement[bool]:
    return _other.c.purpose.in_([_held.c.purpose, ANY])


def _denies() -> ColumnElement[bool]:
    """Of two that say something at the same time, the one that denies counts."""
    return and_(
        _other.c.state != ChoiceState.GRANTED.value, _other.c.occurred_at >= _held.c.occurred_at
    )


def _is_set() -> ColumnElement[bool]:
    return _other.c.state == MarkState.SET.value


def _stands_at(history: NoticeHistory, notice: str, at: datetime) -> ColumnElement[bool]:
    """Whether no published version has superseded the words of a grant by then."""
    published = [one for one in history.of(notice) if one.effective_from <= at]
    changed = max((one.effective_from for one in published if one.material), default=None)
    if changed is None:
        return _held.c.notice == notice
    return or_(
        *(
            and_(_held.c.notice_version == one.version, _held.c.occurred_at >= one.effective_from)
            for one in published
            if one.effective_from >= changed
        )
    )


def _ended_by(rule: Purpose, notice: str, at: datetime) -> ColumnElement[bool]:
    """Whether the policy's own material changes have ended a grant by then."""
    older = {
        version
        for change in rule.material_changes
        if change.notice == notice and change.effective_from <= at
        for version in change.supersedes
    }
    return and_(_held.c.purpose == rule.key, _held.c.notice_version.in_(sorted(older)))
