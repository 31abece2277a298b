"""Periods, vocabulary and the sentences that explain a decision."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from policies import explain
from policies.decisions import Decision
from policies.errors import PolicyError
from policies.periods import Period
from policies.vocabulary import Channel, ConsentStatus, LegalBasis, Reason


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("start", "period", "end"),
    [
        ("2026-01-31T09:00:00", "P1M", "2026-02-28T09:00:00"),
        ("2024-02-29T00:00:00", "P1Y", "2025-02-28T00:00:00"),
        ("2024-02-29T00:00:00", "P4Y", "2028-02-29T00:00:00"),
        ("2026-12-31T23:59:59.999999", "P2M", "2027-02-28T23:59:59.999999"),
        ("2026-01-31T00:00:00", "P1M1D", "2026-03-01T00:00:00"),
        ("2026-03-28T00:00:00", "P2W", "2026-04-11T00:00:00"),
        ("2037-01-01T00:00:00", "P10Y", "2047-01-01T00:00:00"),
        ("9999-12-31T00:00:00", "P1D", "9999-12-31T23:59:59.999999"),
        ("2026-01-01T00:00:00", "P9999Y", "9999-12-31T23:59:59.999999"),
        ("2026-01-01T00:00:00", "P99999M", "9999-12-31T23:59:59.999999"),
    ],
)
def test_periods_follow_the_calendar(start: str, period: str, end: str) -> None:
    assert Period.parse(period).after(at(start)) == at(end)


@pytest.mark.parametrize(
    ("text", "same"), [("P24M", "P2Y"), ("P2W", "P14D"), ("P1Y2M3W4D", "P1Y2M25D"), ("P0D", "P0D")]
)
def test_a_period_is_written_in_one_way(text: str, same: str) -> None:
    assert str(Period.parse(text)) == same
    assert Period.parse(same) == Period.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "P", "2Y", "P2", "P-1Y", "P1.5Y", "PT1H", "P1YT1H", "p1y", "P1Y ", "P１Y", "P1D1M"],  # noqa: RUF001 - a digit, but not ours
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        Period.parse(text)


def test_the_articles_of_the_regulation_are_in_order() -> None:
    assert LegalBasis.CONSENT.gdpr == "A6-1-a"
    assert LegalBasis.CONTRACT.gdpr == "A6-1-b"
    assert LegalBasis.LEGAL_OBLIGATION.gdpr == "A6-1-c"
    assert LegalBasis.VITAL_INTERESTS.gdpr == "A6-1-d"
    assert LegalBasis.PUBLIC_TASK.gdpr == "A6-1-e"
    assert LegalBasis.LEGITIMATE_INTERESTS.gdpr == "A6-1-f"


def test_who_may_be_objected_to() -> None:
    assert [basis for basis in LegalBasis if basis.yields_to_objection] == [
        LegalBasis.CONSENT,
        LegalBasis.PUBLIC_TASK,
        LegalBasis.LEGITIMATE_INTERESTS,
    ]


def test_everything_has_words() -> None:
    assert list(explain.REASONS) == list(Reason)
    assert list(explain.STATUSES) == list(ConsentStatus)
    assert list(explain.CHANNELS) == list(Channel)
    assert list(explain.LEGAL_BASES) == list(LegalBasis)
    for words in (explain.REASONS, explain.STATUSES, explain.CHANNELS, explain.LEGAL_BASES):
        assert len(set(words.values())) == len(words)


def decision(*, allow: bool, reason: Reason, expires_at: datetime | None) -> Decision:
    return Decision(
        allow=allow,
        status=ConsentStatus.GIVEN,
        reason=reason,
        record_id="r",
        as_of=at("2026-03-01T09:00:00"),
        expires_at=expires_at,
        basis=LegalBasis.CONSENT,
        policy="sha256:",
    )


def test_a_decision_is_explained_in_words() -> None:
    end = datetime(2028, 6, 4, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    yes = decision(allow=True, reason=Reason.GRANTED, expires_at=end)
    assert (
        explain.explain(yes) == "Yes. The person consented. This ends on 2028-06-04 at 00:30 UTC."
    )
    no = decision(allow=False, reason=Reason.EXPIRED, expires_at=end)
    assert explain.explain(no) == "No. The person consented, and that consent has run out."
    for_ever = decision(allow=True, reason=Reason.CONTRACT, expires_at=None)
    assert explain.explain(for_ever) == (
        "Yes. A contract with the person takes it; consent is not asked for."
    )
