"""Laws of importing: the order of rows, runs and batches says nothing; time and denial do."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consent.importer.outcomes import Summary
from consent.states import read_registers
from consent.subjects import Identifier, email, external_id
from policies.vocabulary import ChoiceState
from tests.fakes.clock import START
from tests.fakes.core import Core
from tests.fakes.exports import (
    ALL,
    EXPLANATION,
    OPT_OUT,
    PROOF,
    STATUS,
    UPDATES,
    hubspot_import,
    write_export,
)

_numbers = itertools.count()
PEOPLE = 3

# One database serves all examples: each has its own people in it.
same_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)


@st.composite
def contacts(draw: st.DrawFn) -> dict[str, str]:
    """A row about one or two of three people, with `{}` where their names are told apart."""
    person = st.integers(0, PEOPLE - 1)
    row = {
        "Record ID": draw(st.one_of(st.just(""), person.map(lambda i: f"{{}}{i}"))),
        "Email": draw(
            st.one_of(st.just(""), st.just("x"), person.map(lambda i: f"{{}}e{i}@a.example"))
        ),
    }
    if draw(st.booleans()):
        day = draw(st.dates(date(2025, 4, 1), date(2025, 4, 3)))
        row |= PROOF | {EXPLANATION: f'fair {day} "Newsletter v{draw(st.integers(1, 2))}"'}
    denials = {
        ALL: "true",
        OPT_OUT: "?",
        UPDATES: "yes",
        STATUS: "Opted out",
        "Notes": "no e-mails",
    }
    confirmations = {"Notes": "double opt-in ok 2025-04-02 10:11"}
    for extra in draw(st.lists(st.sampled_from([*denials, ""]), max_size=2)):
        row |= {extra: denials[extra]} if extra else confirmations
    return row


def imported(
    core: Core, folder: Path, rows: Sequence[Mapping[str, str]], prefix: int, batch: int
) -> Summary:
    named = [{name: cell.replace("{}", str(prefix)) for name, cell in row.items()} for row in rows]
    path = write_export(folder / "export.csv", named)
    foreseen = hubspot_import(core, batch).run(path, dry_run=True)
    summary = hubspot_import(core, batch).run(path)
    assert summary.complete
    assert replace(foreseen, dry_run=False) == summary
    return summary


def known(core: Core, prefix: int) -> list[Any]:
    """Who is who, and what each has said, without the ids that differ from run to run."""
    names: list[Identifier] = [
        one
        for i in range(PEOPLE)
        for one in (email(f"{prefix}e{i}@a.example"), external_id("hubspot", f"{prefix}{i}"))
    ]
    with core.database.read() as reader:
        refs = core.directory.find(reader, names)
        registers = read_registers(reader, [ref for ref in refs if ref is not None])
    said = {
        ref: sorted(
            (key, one.state, one.occurred_at, one.confirmed_at is not None, one.first_granted_at)
            for (owner, key), one in registers.items()
            if owner == ref
        )
        for ref in refs
    }
    return [(None if ref is None else refs.index(ref), said[ref]) for ref in refs]


@same_database
@given(st.lists(contacts(), min_size=1, max_size=6), st.data())
def test_neither_the_order_of_rows_nor_the_size_of_batches_matters(
    core: Core, tmp_path: Path, rows: list[dict[str, str]], data: st.DataObject
) -> None:
    first, second = next(_numbers) + 1000, next(_numbers) + 1000
    shuffled = data.draw(st.permutations(rows))
    batches = st.integers(1, 4)
    one = imported(core, tmp_path, rows, first, data.draw(batches))
    other = imported(core, tmp_path, shuffled, second, data.draw(batches))
    assert one.events == other.events
    assert known(core, first) == known(core, second)

    size = core.size()
    core.clock.advance(timedelta(hours=1))
    again = imported(core, tmp_path, shuffled, first, data.draw(batches))
    assert again.events == 0
    assert core.size() == size


@same_database
@given(
    st.lists(
        st.tuples(
            st.integers(0, 96).map(lambda hours: timedelta(hours=hours)),
            st.sampled_from([ChoiceState.GRANTED, ChoiceState.WITHDRAWN, ChoiceState.OBJECTED]),
        ),
        max_size=4,
    ),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_an_import_gives_what_the_true_order_gives_whenever_it_comes(
    core: Core,
    tmp_path: Path,
    said: list[tuple[timedelta, ChoiceState]],
    place: int,
    day: int,
) -> None:
    start = datetime.combine(START.date() - timedelta(days=60), time(), START.tzinfo)
    prefix = next(_numbers) + 1000
    who = f"{prefix}e0@a.example"
    given_on = start + timedelta(days=day)
    row = {"Email": "{}e0@a.example"} | PROOF | {EXPLANATION: f'fair {given_on:%Y-%m-%d} "News v1"'}

    for number, (after, state) in enumerate(said):
        if number == place:
            imported(core, tmp_path, [row], prefix, 1)
        core.record(who, core.said(state, at=start + after))
    if place >= len(said):
        imported(core, tmp_path, [row], prefix, 1)

    facts = [(start + after, state.denies) for after, state in said] + [(given_on, False)]
    _, denied = max(facts)
    assert core.check(who).allow is not denied
