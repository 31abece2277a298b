"""A mirror says what the service says, after any history, read in any pieces, at any later instant.

The policy has a purpose for every rule that depends on time or on more than the person: expiry,
double opt-in, signals, do-not-call lists, notices, legal bases. What a decision will depend on
later belongs here as well: then this test shows whether mirrors know of it.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from consent.checks import Checker
from consent.choices import (
    NewEvent,
    NoticeRef,
    Record,
    Recorder,
    choice,
    confirmation,
    signal,
    suppression,
)
from consent.errors import ConsentError
from consent.mirrors import Cell, Mirrors
from consent.subject_changes import note_people
from consent.subjects import Identifier, SubjectRef, email, external_id, phone, ref
from consent.writer import ConsentWriter
from governance.vault.mirror_names import MirrorDirectory
from governance.vault.models import vault_identifier
from policies.model import Controller, DoubleOptIn, PolicySet, Purpose, Registry
from policies.periods import Period
from policies.vocabulary import (
    ANY,
    UNCLEAR_REPLY,
    Channel,
    ChoiceState,
    LegalBasis,
    MarkState,
)
from tests.fakes import notices
from tests.fakes.clock import FrozenClock
from tests.fakes.core import Core, open_core
from tests.fakes.databases import engines
from tests.fakes.mirrors import Follower, erase, told

DENIALS = [state for state in ChoiceState if state.denies]
BOTH = frozenset({Channel.EMAIL, Channel.SMS})


def purpose(key: str, basis: LegalBasis = LegalBasis.CONSENT, **more: Any) -> Purpose:
    stated: dict[str, Any] = {
        "controller": "example-shop",
        "name": key,
        "description": key,
        "channels": BOTH,
        "dpv": ("Marketing",),
        "data_use": "marketing",
        "data_categories": ("user.contact.email",),
        "data_subjects": ("customer",),
    }
    return Purpose(key=key, legal_basis=basis, **(stated | more))


LIST = Registry("list", "A list", "DE", frozenset({Channel.SMS}), Period.parse("P20D"), True)
POLICIES = PolicySet(
    version="1",
    hash="sha256:" + "0" * 64,
    controllers={"example-shop": Controller("example-shop", "Shop", "Street 1", "DE", "x@y.zz")},
    purposes={
        one.key: one
        for one in (
            purpose("news", expires_after=Period.parse("P30D"), direct_marketing=True),
            purpose("ads", signals=frozenset({"gpc"})),
            purpose("offers", LegalBasis.LEGITIMATE_INTERESTS, direct_marketing=True),
            purpose("washed", LegalBasis.LEGITIMATE_INTERESTS, do_not_call=frozenset({"list"})),
            purpose(
                "letters", double_opt_in=DoubleOptIn(frozenset({Channel.EMAIL}), timedelta(days=7))
            ),
            purpose("orders", LegalBasis.CONTRACT),
        )
    },
    registries={"list": LIST},
)
CELLS: list[Cell] = [
    ("news", Channel.EMAIL),
    ("ads", Channel.EMAIL),
    ("offers", Channel.SMS),
    ("washed", Channel.SMS),
    ("letters", Channel.EMAIL),
    ("orders", Channel.EMAIL),
    ("news", Channel.PHONE),
    ("nothing_of_the_kind", Channel.EMAIL),
]
KINDS = ["email", "phone", "external_id:shop", "ref"]
PEOPLE = 3

_numbers = itertools.count(1)


@dataclass
class World:
    """A service, and mirrors that follow it, for all examples of a test."""

    core: Core
    checker: Checker
    writer: ConsentWriter
    mirrors: Mirrors
    followers: list[Follower]
    listed_on: datetime
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(10))

    @property
    def now(self) -> datetime:
        return self.core.clock()


@pytest.fixture(scope="module", params=engines())
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("mirrored")
    if request.param == "sqlite":
        with open_world(f"sqlite:///{folder / 'world.db'}", folder) as opened:
            yield opened
        return
    server = request.getfixturevalue("pg_server")
    with server.database() as url, open_world(url, folder) as opened:
        yield opened


class open_world:  # noqa: N801 - reads as the function that it stands for
    """A world over an empty database."""

    def __init__(self, url: str, folder: Path) -> None:
        self._opening = open_core(url, folder, FrozenClock())

    def __enter__(self) -> World:
        core = self._opening.__enter__()
        checker = Checker(
            core.database.read,
            core.directory,
            lambda: POLICIES,
            core.clock,
            core.notices,
            core.lists,
        )
        recorder = Recorder(
            core.log,
            core.directory,
            core.cipher,
            lambda: POLICIES,
            core.notary.admit,
            core.notices,
            core.suppressions,
        )
        mirrors = Mirrors(
            core.database.snapshot,
            core.database.read,
            checker,
            MirrorDirectory(core.keyring),
            lambda: POLICIES,
            core.clock,
        )
        writer = ConsentWriter(core.database.begin, recorder, core.notary, core.clock)
        followers = [
            Follower(mirrors, CELLS, KINDS, "api_key:one"),
            Follower(mirrors, CELLS[:1], KINDS[:1], "api_key:two"),
        ]
        return World(core, checker, writer, mirrors, followers, core.clock())

    def __exit__(self, *error: Any) -> None:
        self._opening.__exit__(*error)


@dataclass
class Person:
    """Somebody of one example."""

    number: int
    identifiers: list[Identifier]
    ref: SubjectRef | None = None
    grants: list[tuple[str, str, str]] = field(default_factory=list)
    """Purpose, channel and event id of each grant."""

    @classmethod
    def new(cls) -> "Person":
        number = next(_numbers)
        return cls(number, [email(f"person-{number}@example.com")])

    @property
    def names(self) -> list[Identifier]:
        """All that they may be called, ever."""
        own = [
            email(f"person-{self.number}@example.com"),
            phone(f"+4930{self.number:07}"),
            external_id("shop", f"C-{self.number}"),
            email(f"other-{self.number}@example.com"),
            external_id("elsewhere", f"C-{self.number}"),
        ]
        return own if self.ref is None else [*own, ref(self.ref)]


# --- what happens ------------------------------------------------------------------------------

people = st.integers(0, PEOPLE - 1)
ago = st.sampled_from([0, 0, 0, 1, 6, 29, 31])
operations = st.one_of(
    st.tuples(
        st.just("say"),
        people,
        st.sampled_from(["news", "ads", "offers", "washed", "letters", "orders", ANY]),
        st.sampled_from(["email", "sms", ANY]),
        st.sampled_from([ChoiceState.GRANTED, ChoiceState.GRANTED, *DENIALS]),
        ago,
    ),
    st.tuples(st.just("confirm"), people),
    st.tuples(st.just("suppress"), people, st.sampled_from(MarkState)),
    st.tuples(st.just("signal"), people, st.sampled_from(MarkState)),
    st.tuples(st.just("reply"), people, st.sampled_from(MarkState)),
    st.tuples(st.just("link"), people, st.integers(1, 4)),
    st.tuples(st.just("part"), people),
    st.tuples(st.just("erase"), people),
    st.tuples(st.just("wait"), st.sampled_from([1, 5, 8, 15, 40])),
    st.tuples(st.just("publish"), st.booleans(), st.sampled_from([0, 3, 20])),
    st.tuples(st.just("list"), st.lists(people, max_size=2)),
    st.tuples(st.just("read"), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.just("read"), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.just("lose")),
)


def happens(world: World, everybody: list[Person], operation: tuple[Any, ...]) -> None:
    """Let one thing happen. What breaks a rule of the service does not happen."""
    name, *values = operation
    if name in WORLDLY:
        WORLDLY[name](world, everybody, *values)
        return
    person = everybody[values.pop(0)]
    if name == "link":
        link(world, person, values[0])
    elif name == "part":
        part(world, person)
    elif name != "erase":
        record(world, person, *new_events(world, person, name, values))
    elif person.ref is not None:
        erase(world.core.database, world.core.keyring, person.ref, world.now)
        person.grants.clear()


def wait(world: World, _: list[Person], days: int) -> None:
    world.core.clock.advance(timedelta(days=days))


def read(world: World, _: list[Person], steps: int, limit: int) -> None:
    for _step in range(steps):
        for follower in world.followers:
            follower.step(limit)


def lose(world: World, _: list[Person]) -> None:
    for follower in world.followers:
        follower.start_over()


def new_events(world: World, person: Person, name: str, values: list[Any]) -> list[NewEvent]:
    if name == "say":
        about, channel, state, days = values
        occurred_at = world.now - timedelta(days=days) if days else None
        # The notice that every grant names; material versions that come later supersede it.
        shown = NoticeRef("privacy", "3", "en") if state is ChoiceState.GRANTED else None
        try:
            said = choice(
                POLICIES,
                purpose=about,
                channel=channel,
                state=state,
                method="test",
                notice=shown,
                occurred_at=occurred_at,
            )
        except ConsentError:
            return []
        if state is ChoiceState.GRANTED:
            person.grants.append((about, channel, said.id))
        return [said]
    if name == "confirm":
        if not person.grants:
            return []
        about, channel, grant = person.grants[-1]
        return [confirmation(purpose=about, channel=channel, grant_id=grant, method="test")]
    if name == "suppress":
        return [suppression(values[0], method="test")]
    return [signal("gpc" if name == "signal" else UNCLEAR_REPLY, values[0], method="test")]


def record(world: World, person: Person, *events: NewEvent) -> None:
    for one in events:
        command = Record(person.identifiers[0], (one,), "api_key:test")
        person.ref = world.writer.submit(command).recorded.subject


def link(world: World, person: Person, which: int) -> None:
    core = world.core
    if person.ref is None:
        return
    with core.database.read() as reader:
        known = core.directory.find(reader, [person.identifiers[0]])
    if known != [person.ref]:
        return
    with core.database.begin() as session:
        core.directory.link(session, person.ref, person.names[which], world.now)


def part(world: World, person: Person) -> None:
    """One of their identifiers leads to them no more: it was somebody else's."""
    core = world.core
    if person.ref is None:
        return
    with core.database.begin() as session:
        gone = session.execute(
            delete(vault_identifier).where(
                vault_identifier.c.subject_ref == person.ref, vault_identifier.c.kind != "email"
            )
        )
        if gone.rowcount:  # type: ignore[attr-defined]
            note_people(session, [person.ref], world.now)


def publish(world: World, _: list[Person], material: bool, days: int) -> None:
    core = world.core
    with core.database.begin() as session:
        notices.publish(
            session,
            POLICIES,
            str(next(world.versions)),
            now=world.now,
            material=material,
            effective_from=world.now + timedelta(days=days, microseconds=next(world.versions)),
        )


def draw_list(world: World, everybody: list[Person], listed: list[int]) -> None:
    numbers = [f"+4930{everybody[place].number:07}" for place in listed] or ["+493099999999"]
    world.core.lists.replace(LIST, world.now.date(), numbers, smaller=True)


WORLDLY: dict[str, Callable[..., None]] = {
    "wait": wait,
    "read": read,
    "lose": lose,
    "publish": publish,
    "list": draw_list,
}
"""What happens to nobody alone."""


# --- laws --------------------------------------------------------------------------------------


def assert_equal(world: World, everybody: list[Person], now: datetime) -> None:
    for follower in world.followers:
        for person in everybody:
            for who in person.names:
                kind = who.kind if who.system is None else f"{who.kind}:{who.system}"
                for cell in follower.wanted.cells:
                    if kind not in follower.wanted.kinds:
                        assert not follower.check(who, cell, now).allow
                        continue
                    ours = world.checker.check(who, *cell)
                    assert told(follower.check(who, cell, now)) == told(ours), (cell, kind)


@given(history=st.lists(operations, max_size=14), days=st.sampled_from([0, 2, 6, 18, 29, 90]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_mirror_says_what_the_service_says(
    world: World, history: list[tuple[Any, ...]], days: int
) -> None:
    everybody = [Person.new() for _ in range(PEOPLE)]
    for operation in history:
        happens(world, everybody, operation)
    for follower in world.followers:
        follower.catch_up(3)
    assert_equal(world, everybody, world.now)
    # Time alone: nothing more is read.
    world.core.clock.advance(timedelta(days=days, microseconds=1))
    assert_equal(world, everybody, world.now)
