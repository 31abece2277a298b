"""How many people a notice concerns: the number is that of the decisions, one by one."""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import product
from types import MappingProxyType

import pytest

from consent.choices import NewEvent, NoticeRef, Record, choice, confirmation, signal, suppression
from consent.notice_history import NoticeHistory, Publication
from consent.reconsent import people_on_versions, people_to_ask_again
from consent.registers import bears_on, facts_of
from consent.states import read_registers
from consent.subjects import SubjectRef, email
from policies.decisions import decide
from policies.model import (
    ChildRule,
    Controller,
    DoubleOptIn,
    MaterialChange,
    PolicySet,
    Purpose,
)
from policies.periods import Period
from policies.vocabulary import ANY, Channel, ChoiceState, LegalBasis, MarkState, Reason
from tests.fakes.core import Core
from tests.fakes.notices import SHOP, publish

DAY = timedelta(days=1)
PEOPLE = 120


def purpose(key: str, **more: object) -> Purpose:
    stated: dict[str, object] = {
        "key": key,
        "controller": SHOP,
        "name": key,
        "description": key,
        "legal_basis": LegalBasis.CONSENT,
        "channels": frozenset({Channel.EMAIL, Channel.SMS}),
        "dpv": ("Marketing",),
        "data_use": "marketing",
        "data_categories": ("user",),
        "data_subjects": ("customer",),
    }
    return Purpose(**(stated | more))  # type: ignore[arg-type]


def policy_set(changed_at: datetime) -> PolicySet:
    """Purposes that each have one rule more than the last."""
    purposes = [
        purpose("plain"),
        purpose("short", expires_after=Period.parse("P1M")),
        purpose("signalled", signals=frozenset({"gpc"})),
        purpose(
            "confirmed",
            double_opt_in=DoubleOptIn(frozenset({Channel.EMAIL}), timedelta(hours=36)),
        ),
        purpose("young", child=ChildRule(16)),
        purpose("interest", legal_basis=LegalBasis.LEGITIMATE_INTERESTS),
        purpose("narrow", channels=frozenset({Channel.EMAIL})),
        purpose(
            "changed",
            material_changes=(MaterialChange("privacy", "x", frozenset({"2"}), changed_at),),
        ),
    ]
    controller = Controller(SHOP, "Shop", "Way 1", "DE", "mail@shop.example")
    return PolicySet(
        "1",
        "sha256:00",
        MappingProxyType({SHOP: controller}),
        MappingProxyType({one.key: one for one in purposes}),
    )


def history_of(dice: random.Random, policies: PolicySet, now: datetime) -> Iterator[NewEvent]:
    """What one person said over two months, in whatever order it came in."""
    for _ in range(dice.randint(1, 5)):
        at = now - timedelta(hours=dice.randint(1, 60 * 24))
        rule = dice.choice([*policies.purposes.values()])
        channel = dice.choice(sorted(rule.channels)).value
        version = dice.choice(["1", "2", "3", "old"])
        roll = dice.random()
        if roll < 0.7:
            granted = choice(
                policies,
                purpose=rule.key,
                channel=channel,
                state=ChoiceState.GRANTED,
                notice=NoticeRef(dice.choice(["privacy"] * 9 + ["terms"]), version, "en"),
                occurred_at=at,
                ends_at=at + dice.randint(1, 90) * DAY if dice.random() < 0.2 else None,
                evidence={"age": dice.choice([12, 30])},
                own_words=True,
            )
            yield granted
            if rule.double_opt_in and dice.random() < 0.7:
                yield confirmation(
                    purpose=rule.key,
                    channel=channel,
                    grant_id=granted.id,
                    method="link",
                    occurred_at=at + timedelta(hours=dice.choice([0, 1, 36, 50])),
                )
        elif roll < 0.85:
            yield choice(
                policies,
                purpose=dice.choice([rule.key, ANY]),
                channel=dice.choice([channel, ANY]),
                state=dice.choice([ChoiceState.WITHDRAWN, ChoiceState.OBJECTED]),
                occurred_at=at,
            )
        elif roll < 0.93:
            state = dice.choice([*MarkState])
            yield signal("gpc", state, method="header", occurred_at=at)
        else:
            state = dice.choice([*MarkState])
            yield suppression(state, channel=dice.choice([channel, ANY]), method="call")


@pytest.fixture
def policies(core: Core) -> PolicySet:
    return policy_set(core.clock() - 3 * DAY)


@pytest.fixture
def told(core: Core, policies: PolicySet) -> None:
    """People who said all sorts of things under all sorts of words."""
    dice = random.Random(7)
    now = core.clock()
    recorded = {
        email(f"person{n}@example.com"): tuple(history_of(dice, policies, now))
        for n in range(PEOPLE)
    }
    for subject, events in recorded.items():
        outcomes = core.writer.write([Record(subject, (one,), "test:x") for one in events])
        assert not any(isinstance(outcome, Exception) for outcome in outcomes)


def allowed(
    core: Core, policies: PolicySet, notices: NoticeHistory, at: datetime
) -> dict[tuple[SubjectRef, str, Channel], str | None]:
    """Each grant that is in force at an instant, with the version it names."""
    with core.database.read() as reader:
        found = core.directory.find(
            reader, [email(f"person{n}@example.com") for n in range(PEOPLE)]
        )
        refs = [ref for ref in found if ref is not None]
        registers = read_registers(reader, refs)
    result = {}
    for ref, rule, channel in product(refs, policies.purposes.values(), Channel):
        held = [
            (key, one)
            for (who, key), one in registers.items()
            if who == ref and bears_on(key, rule.key, channel.value, rule.signals)
        ]
        facts = facts_of(held, rule.signals, notices)
        decision = decide(policies, rule.key, channel, facts, at)
        granted = facts.choice if decision.reason in (Reason.GRANTED, Reason.RENEWED) else None
        if granted is not None and granted.notice == "privacy":
            result[ref, rule.key, channel] = granted.notice_version
    return result


def versions(core: Core, *dated: tuple[str, int, bool]) -> list[Publication]:
    """Publications of `privacy`, some days before now."""
    now = core.clock()
    return [
        Publication("privacy", name, now - days * DAY, now - 90 * DAY, material)
        for name, days, material in dated
    ]


PUBLISHED = (
    (),
    (("1", 80, False), ("2", 50, False)),
    (("1", 80, False), ("2", 40, True), ("3", 20, False)),
    (("1", 80, True), ("2", 40, True), ("3", 20, True)),
    (("1", 80, False), ("3", 10, False), ("4", -5, True)),
)
AHEAD = (timedelta(0), timedelta(days=3, microseconds=1), 30 * DAY)


def test_the_number_is_that_of_the_permissions_that_end(
    core: Core, policies: PolicySet, told: None
) -> None:
    numbers = []
    for dated, ahead in product(PUBLISHED, AHEAD):
        published, at = versions(core, *dated), core.clock() + ahead
        history = NoticeHistory(published)
        new = Publication("privacy", "new", at, core.clock(), material=True)
        before = allowed(core, policies, history, at)
        after = allowed(core, policies, NoticeHistory([*published, new]), at)
        assert after.keys() <= before.keys()
        losing = {ref for ref, _, _ in before.keys() - after.keys()}
        with core.database.read() as reader:
            counted = people_to_ask_again(reader, policies, history, "privacy", at)
            assert counted == len(losing), (dated, ahead)
            assert people_to_ask_again(reader, policies, history, "third", at) == 0
        numbers.append(counted)
    # Else it would be no test.
    assert len(set(numbers)) > 5
    assert max(numbers) > PEOPLE // 4


def test_people_on_each_version_are_those_whose_grant_stands_but_for_the_notice(
    core: Core, policies: PolicySet, told: None
) -> None:
    now = core.clock()
    # Without any history, and without the policy's own changes, every version stands.
    plain = policy_set(datetime.max.replace(tzinfo=now.tzinfo))
    standing = allowed(core, plain, NoticeHistory(), now)
    expected = Counter(
        version for _, version in {(ref, version) for (ref, _, _), version in standing.items()}
    )
    with core.database.read() as reader:
        assert people_on_versions(reader, policies, "privacy", now) == dict(expected)
        assert people_on_versions(reader, policies, "nothing", now) == {}


def test_a_grant_that_ends_at_that_very_instant_is_not_counted(core: Core) -> None:
    policies = policy_set(core.clock())
    at = core.clock() + 10 * DAY
    for n, ends_at in enumerate([at - timedelta(microseconds=1), at, at + DAY, None]):
        core.record(
            f"person{n}@example.com",
            choice(
                policies,
                purpose="plain",
                channel="email",
                state=ChoiceState.GRANTED,
                notice=NoticeRef("privacy", "3", "en"),
                ends_at=ends_at,
            ),
        )
    with core.database.read() as reader:
        notices = core.notices.history(reader)
        assert people_to_ask_again(reader, policies, notices, "privacy", at) == 2


def test_once_it_is_in_effect_nobody_is_left_to_lose_anything_by_it(core: Core) -> None:
    for n in range(3):
        core.record(f"person{n}@example.com", core.said(ChoiceState.GRANTED))
    with core.database.begin() as session:
        history = core.notices.history(session)
        at = core.clock()
        assert people_to_ask_again(session, core.policies, history, "privacy", at) == 3
        publish(session, core.policies, "4", now=at, material=True)
    with core.database.read() as reader:
        history = core.notices.history(reader)
        later = at + DAY
        assert people_to_ask_again(reader, core.policies, history, "privacy", later) == 0
        assert people_on_versions(reader, core.policies, "privacy", later) == {"3": 3}
