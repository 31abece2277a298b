"""Importing HubSpot exports into a real ledger: what enters, what never does, and only once."""

import base64
import csv
import io
import json
import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from consent.importer.outcomes import ImportReason as R
from consent.importer.outcomes import Outcome, RowResult, Summary
from consent.importer.report import RowReport
from consent.importer.rows import UnreadableFileError
from consent.importer.run import FileImport
from consent.models import event as event_table
from consent.states import read_registers
from consent.subjects import Identifier, Reader, SubjectRef, email, external_id, new_subject_ref
from governance.vault.models import vault_identifier, vault_person
from policies.vocabulary import Channel, ChoiceState, Reason
from tests.fakes.core import MARKETING, Core
from tests.fakes.databases import Engine
from tests.fakes.exports import (
    ALL,
    BASIS,
    CONSENT,
    EXPLANATION,
    OPT_OUT,
    PROOF,
    STATUS,
    UPDATES,
    HubSpotImport,
    collaborators,
    contact,
    hubspot_import,
    write_export,
)

GRANTED, WITHDRAWN = ChoiceState.GRANTED, ChoiceState.WITHDRAWN
ANN, BOB = "ann@example.com", "bob@example.com"
BY_EMAIL = ("marketing_information", "product_updates", "newsletter", "existing_customer_offers")


def run(
    core: Core, path: Path, rows: Sequence[Mapping[str, str]]
) -> tuple[Summary, list[RowResult]]:
    """Write the rows to a file and import it."""
    results: list[RowResult] = []
    file = write_export(path / "export.csv", rows)
    before = core.size()
    summary = hubspot_import(core).run(file, report=results.append)
    assert summary.complete
    assert summary.rows == len(results) == sum(summary.outcomes.values())
    assert summary.events == sum(result.events for result in results)
    assert core.size() - before == summary.events
    return summary, results


def reason(core: Core, who: Identifier | str, purpose: str = MARKETING) -> Reason:
    subject = email(who) if isinstance(who, str) else who
    return core.checker.check(subject, purpose, Channel.EMAIL).reason


def hubspot(record: str) -> Identifier:
    return external_id("hubspot", record)


def counts(core: Core) -> list[int]:
    with core.database.read() as reader:
        return [
            reader.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (event_table, vault_person, vault_identifier)
        ]


def disclosed(opened: bytes) -> Iterator[tuple[str, Any]]:
    """Name and value of each disclosure of an event (RFC 9901)."""
    for disclosure in opened.decode().splitlines():
        _, name, value = json.loads(base64.urlsafe_b64decode(disclosure + "=="))
        yield name, value


# --- the sample --------------------------------------------------------------------------------


@pytest.fixture
def sample(shared: Path) -> Path:
    path = shared / "data" / "hubspot_contacts.csv"
    if not path.exists():
        pytest.skip("the sample export is not there")
    return path


def expected_of(rows: Sequence[dict[str, str]]) -> tuple[set[str], set[str]]:
    """By the plainest code: which addresses want no e-mail at all, and which may get marketing."""
    unsubscribed, opted_out, proven = set(), set(), set()
    for row in rows:
        who = row["Email"].strip().lower()
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", who):
            continue
        if row[ALL].lower() == "true" or "no more e-mails" in row["Notes"]:
            unsubscribed.add(who)
        if row[OPT_OUT] == "true" or row[STATUS] == "Opted out":
            opted_out.add(who)
        stated = re.fullmatch(r'\w[\w ]* \d{4}-\d{2}-\d{2} ".+"', row[EXPLANATION])
        if CONSENT in row[BASIS].split(";") and stated and row[STATUS] == "Opted in":
            proven.add(who)
    return unsubscribed, proven - unsubscribed - opted_out


def test_the_sample_is_accounted_for_row_by_row_and_enters_once(
    core: Core, sample: Path, tmp_path: Path
) -> None:
    # In force today would mean not expired: the clock stands a year after what the sample states.
    core.clock.set(datetime(2022, 3, 1, tzinfo=UTC))
    text = sample.read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    importer = hubspot_import(core)
    results: list[RowResult] = []
    progress: list[tuple[int, int]] = []

    foreseen = importer.run(sample, dry_run=True)
    assert counts(core) == [0, 0, 0]
    summary = importer.run(
        sample, report=results.append, progress=lambda done, of: progress.append((done, of))
    )
    assert summary.complete
    assert len(results) == summary.rows == len(rows)
    assert progress[-1] == (len(rows), len(rows))
    assert [result.line for result in results] == sorted({result.line for result in results})
    assert all(result.reasons for result in results)
    assert summary.events == foreseen.events == core.size()
    assert (summary.outcomes, summary.reasons) == (foreseen.outcomes, foreseen.reasons)

    unsubscribed, allowed = expected_of(rows)
    everyone = sorted({row["Email"].strip().lower() for row in rows if "@" in row["Email"]})
    answers = {
        purpose: core.checker.check_many([email(who) for who in everyone], purpose, Channel.EMAIL)
        for purpose in BY_EMAIL
    }
    assert {
        who for who, answer in zip(everyone, answers[MARKETING], strict=True) if answer.allow
    } == allowed
    assert allowed
    for purpose in BY_EMAIL:
        assert not unsubscribed & {
            who for who, answer in zip(everyone, answers[purpose], strict=True) if answer.allow
        }

    core.clock.advance(timedelta(days=1))
    random.Random(7).shuffle(rows)
    again = importer.run(write_export(tmp_path / "again.csv", rows, rows[0]))
    assert (again.events, again.outcomes[Outcome.IMPORTED]) == (0, 0)
    assert again.complete
    assert core.size() == summary.events


def test_one_persons_timeline_matches_their_rows(core: Core, tmp_path: Path) -> None:
    rows = [
        contact("7", ANN) | PROOF | {"Notes": "double opt-in ok 2025-04-02 10:11"},
        contact("8", BOB) | PROOF | {UPDATES: "true"},
    ]
    run(core, tmp_path, rows)
    with core.database.read() as reader:
        (ann,) = core.directory.find(reader, [email(ANN)])
        assert core.directory.find(reader, [hubspot("7")]) == [ann]
        events = reader.execute(select(event_table).where(event_table.c.subject_ref == ann)).all()
        (opened,) = core.cipher.open(
            reader, [(events[0].subject_ref, events[0].id, events[0].sealed)]
        )
    assert [(event.type, event.state) for event in events] == [
        ("choice", "granted"),
        ("confirmation", "confirmed"),
    ]
    assert events[0].occurred_at == datetime(2025, 4, 2, tzinfo=UTC)
    assert (events[0].notice, events[0].notice_version) == ("newsletter", "2")
    assert events[1].occurred_at == datetime(2025, 4, 2, 10, 11, tzinfo=UTC)
    claims = dict(disclosed(opened or b""))
    assert claims["method"] == "import.hubspot"
    assert claims["evidence"] == {
        "system": "hubspot",
        "record_id": "7",
        "line": 2,
        "stated_date": "2025-04-02",
        "stated_source": "web form",
        "stated_words": "Newsletter v2",
    }
    assert core.check(ANN).allow
    assert core.check(BOB).allow
    assert reason(core, BOB, "product_updates") is Reason.OBJECTED


# --- only once ---------------------------------------------------------------------------------


def test_a_choice_made_here_after_an_import_stands_when_the_same_export_comes_again(
    core: Core, tmp_path: Path
) -> None:
    rows = [contact("7", ANN) | {ALL: "true"}, contact("8", BOB) | {OPT_OUT: "true"}]
    run(core, tmp_path, rows)
    core.clock.advance(timedelta(days=1))
    for who in (ANN, BOB):
        core.record(who, core.said(GRANTED))
    core.clock.advance(timedelta(days=1))
    for again in (rows, rows[::-1]):
        summary, _ = run(core, tmp_path, again)
        assert summary.outcomes[Outcome.UNCHANGED] == 2
    assert core.check(ANN).allow
    assert core.check(BOB).allow


def test_an_opt_out_in_a_later_export_ends_what_was_granted_here_in_between(
    core: Core, tmp_path: Path
) -> None:
    rows = [contact("7", ANN) | {ALL: "true"}, contact("8", BOB) | {OPT_OUT: "true"}]
    run(core, tmp_path, rows)
    core.clock.advance(timedelta(days=1))
    for who in (ANN, BOB):
        core.record(who, core.said(GRANTED))
    core.clock.advance(timedelta(days=1))
    later = [*rows, contact("9", "carl@example.com")]
    summary, results = run(core, tmp_path, later)
    assert summary.reasons[R.OVERRULES_GRANT] == 2
    assert any("granted something here" in sentence for sentence in summary.sentences())
    assert [result.events for result in results] == [1, 1, 0]
    assert reason(core, ANN) is reason(core, BOB) is Reason.OBJECTED
    # While it stands, it is nothing new in any export.
    summary, _ = run(core, tmp_path, [*later, contact("10", "dora@example.com")])
    assert summary.events == 0


def test_an_objection_that_stands_is_recorded_once_however_many_columns_and_exports_say_it(
    core: Core, tmp_path: Path
) -> None:
    row = contact("7", ANN) | {ALL: "true", "Notes": "wants no more e-mails"}
    assert run(core, tmp_path, [row])[0].events == 1
    assert run(core, tmp_path, [row | {"Notes": ""}])[0].events == 0
    assert run(core, tmp_path, [row | {ALL: "maybe"}])[0].events == 0
    assert run(core, tmp_path, [row | {OPT_OUT: "true"}])[0].events == 1


def test_an_imported_objection_is_new_where_only_a_withdrawal_stood(
    core: Core, tmp_path: Path
) -> None:
    core.record(ANN, core.said(WITHDRAWN))
    assert run(core, tmp_path, [contact("7", ANN) | {OPT_OUT: "true"}])[0].events == 1


def test_an_older_grant_never_undoes_a_newer_withdrawal(core: Core, tmp_path: Path) -> None:
    core.record(ANN, core.said(WITHDRAWN, at=datetime(2025, 4, 2, 0, 0, 1, tzinfo=UTC)))
    core.record(BOB, core.said(WITHDRAWN, at=datetime(2025, 4, 2, tzinfo=UTC)))
    carl = "carl@example.com"
    core.record(carl, core.said(WITHDRAWN, at=datetime(2025, 4, 1, 23, 59, 59, tzinfo=UTC)))
    rows = [contact(str(i), who) | PROOF for i, who in enumerate((ANN, BOB, carl))]
    summary, _ = run(core, tmp_path, rows)
    assert summary.outcomes[Outcome.IMPORTED] == 3
    assert reason(core, ANN) is reason(core, BOB) is Reason.WITHDRAWN
    assert reason(core, carl) is Reason.GRANTED


def test_a_confirmation_that_a_later_export_adds_is_recorded(core: Core, tmp_path: Path) -> None:
    run(core, tmp_path, [contact("7", ANN) | PROOF])
    confirmed = contact("7", ANN) | PROOF | {"Notes": "double opt-in ok 2025-04-03 10:11"}
    summary, _ = run(core, tmp_path, [confirmed])
    assert summary.events == 1
    with core.database.read() as reader:
        (ann,) = core.directory.find(reader, [email(ANN)])
        assert ann is not None
        (register,) = read_registers(reader, [ann]).values()
    assert register.confirmed_at == datetime(2025, 4, 3, 10, 11, tzinfo=UTC)


@pytest.mark.parametrize("when", ["2025-04-01 23:59", "2026-03-01 09:01"])
def test_a_confirmation_before_the_grant_or_to_come_is_none(
    core: Core, tmp_path: Path, when: str
) -> None:
    row = contact("7", ANN) | PROOF | {"Notes": f"double opt-in ok {when}"}
    assert run(core, tmp_path, [row])[0].events == 1


def test_two_imports_at_once_record_every_fact_once(core: Core, tmp_path: Path) -> None:
    rows = [contact(str(i), f"p{i}@example.com") | {ALL: "true"} for i in range(300)]
    file = write_export(tmp_path / "export.csv", rows)
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(hubspot_import(core, batch=20).run, file) for _ in range(3)]
        summaries = [one.result() for one in runs]
    assert all(summary.complete for summary in summaries)
    assert core.size() == len(rows)
    assert counts(core) == [300, 300, 600]


def test_a_run_that_was_broken_off_is_finished_by_the_next(core: Core, tmp_path: Path) -> None:
    rows = [contact(str(i), f"p{i}@example.com") | {ALL: "true"} for i in range(50)]
    file = write_export(tmp_path / "export.csv", rows)

    def break_off(done: int, _total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hubspot_import(core, batch=10).run(file, progress=break_off)
    assert core.size() == 20
    summary = hubspot_import(core, batch=7).run(file)
    assert (summary.outcomes[Outcome.UNCHANGED], summary.outcomes[Outcome.IMPORTED]) == (20, 30)
    assert core.size() == 50


# --- who is who --------------------------------------------------------------------------------


def test_address_and_record_id_lead_to_one_person(core: Core, tmp_path: Path) -> None:
    run(core, tmp_path, [contact("7", f" {ANN.upper()} ") | {ALL: "true"}])
    assert reason(core, ANN) is reason(core, hubspot("7")) is Reason.OBJECTED
    assert counts(core) == [1, 1, 2]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_row_without_an_address_is_about_the_person_of_its_record_id(
    core: Core, tmp_path: Path, backwards: bool
) -> None:
    rows = [contact("7", ANN) | PROOF, contact("7", "ann at example.com") | {ALL: "true"}]
    _, results = run(core, tmp_path, rows[::-1] if backwards else rows)
    assert reason(core, ANN) is Reason.OBJECTED
    assert any(R.CONTRADICTED in result.reasons for result in results)
    assert counts(core) == [1, 1, 2]


def test_identifiers_of_two_people_are_denied_both_and_granted_neither(
    core: Core, tmp_path: Path
) -> None:
    core.record(email(ANN), core.said(GRANTED, at=datetime(2025, 1, 1, tzinfo=UTC)))
    core.record(hubspot("7"), core.said(WITHDRAWN, purpose="newsletter"))
    _, (result,) = run(core, tmp_path, [contact("7", ANN) | PROOF | {UPDATES: "true"}])
    assert R.AMBIGUOUS_IDENTITY in result.reasons
    assert result.events == 2
    for who in (email(ANN), hubspot("7")):
        assert reason(core, who, "product_updates") is Reason.OBJECTED
    assert reason(core, hubspot("7")) is Reason.NO_RECORD
    assert reason(core, ANN) is Reason.GRANTED


def test_a_record_id_with_two_addresses_merges_nobody(core: Core, tmp_path: Path) -> None:
    rows = [
        contact("7", ANN) | PROOF,
        contact("7", BOB) | {OPT_OUT: "true"},
        contact("7") | {UPDATES: "true"},
    ]
    _, results = run(core, tmp_path, rows)
    assert all(R.AMBIGUOUS_IDENTITY in result.reasons for result in results)
    assert reason(core, ANN) is Reason.NO_RECORD
    assert reason(core, BOB) is reason(core, hubspot("7")) is Reason.OBJECTED
    for who in (email(ANN), email(BOB), hubspot("7")):
        assert reason(core, who, "product_updates") is Reason.OBJECTED
    assert run(core, tmp_path, rows[::-1])[0].events == 0


def test_a_new_address_joins_the_person_of_its_record_id_who_had_none(
    core: Core, tmp_path: Path
) -> None:
    run(core, tmp_path, [contact("7") | {UPDATES: "true"}])
    run(core, tmp_path, [contact("7", ANN) | {OPT_OUT: "true"}])
    assert reason(core, ANN, "product_updates") is reason(core, ANN) is Reason.OBJECTED
    assert counts(core) == [2, 1, 2]


def test_consent_does_not_follow_a_contact_to_another_address(core: Core, tmp_path: Path) -> None:
    run(core, tmp_path, [contact("7", ANN) | PROOF])
    run(core, tmp_path, [contact("7", BOB) | PROOF | {UPDATES: "true"}])
    assert core.check(ANN).allow
    assert not core.check(BOB).allow
    assert reason(core, BOB, "product_updates") is Reason.OBJECTED
    assert reason(core, ANN, "product_updates") is Reason.OBJECTED


def test_an_address_with_two_record_ids_is_one_person(core: Core, tmp_path: Path) -> None:
    rows = [contact("7", ANN) | PROOF, contact("8", ANN), contact("8") | {OPT_OUT: "true"}]
    _, results = run(core, tmp_path, rows)
    assert R.CONTRADICTED in results[0].reasons
    assert [result.events for result in results] == [0, 0, 1]
    assert reason(core, hubspot("7")) is reason(core, hubspot("8")) is Reason.OBJECTED


def test_nobody_is_made_who_said_nothing(core: Core, tmp_path: Path) -> None:
    summary, _ = run(core, tmp_path, [contact("7", ANN) | {STATUS: "Opted in"}, contact("8", BOB)])
    assert summary.outcomes[Outcome.UNKNOWN] == 2
    assert counts(core) == [0, 0, 0]
    assert reason(core, ANN) is Reason.SUBJECT_UNKNOWN


# --- hostile files -----------------------------------------------------------------------------


def test_a_hostile_file_costs_no_opt_out(core: Core, tmp_path: Path) -> None:
    head = b"Record ID;Email;Unsubscribed from all email;Notes\r\n"
    lines = [
        b"1;a1@example.com;TRUE;J\xfcrgen",
        b"2;a2@example.com;true;x\x00y",
        b"3;a3@example.com;true;" + b"z" * 100_000,
        b"4;Smith; Ann;a4@example.com;true;x",
        b'5;a5@example.com;true;"never closed',
        b"6;a6@example.com",
        b"7;a7@example.com;=2+3;+1",
        b"8\xff;a8@example.com;true;",
        b";;true;nobody",
        b";;;",
        b'9;a9@example.com;1;"two\r\nlines; and ""quotes"""',
        b"1E+05;a10@example.com;true;",
        b"a11@example.com;;true;no record id here",
        b"12;a12@example.com;false;fine",
    ]
    file = tmp_path / "hostile.csv"
    file.write_bytes(head + b"\r\n".join(lines) + b"\r\n")
    results: list[RowResult] = []
    summary = hubspot_import(core).run(file, report=results.append)
    assert summary.complete
    assert summary.rows == len(lines)
    denied = {
        i
        for i in range(1, 13)
        if reason(core, f"a{i}@example.com", "newsletter") is Reason.OBJECTED
    }
    assert denied == {1, 2, 3, 4, 5, 7, 8, 9, 10}
    by_line = {result.line: result for result in results}
    assert R.OPT_OUT_WITHOUT_PERSON in by_line[10].reasons
    assert R.NO_IDENTITY in by_line[11].reasons
    assert by_line[6].outcome is by_line[7].outcome is Outcome.REJECTED
    assert by_line[16].outcome is Outcome.UNKNOWN
    before = core.size()
    assert hubspot_import(core).run(file).events == 0
    assert core.size() == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty"),
        (b"Name,City\nann,Rome\n", "None of the 2 columns"),
        (b"Email,Email\na@example.com,b@example.com\n", "more than one column"),
        (b"\xff\xfeE\x00m\x00", "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_one_is_refused_at_the_door(
    core: Core, tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "export.csv"
    file.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=sentence):
        hubspot_import(core).run(file)
    assert counts(core) == [0, 0, 0]


def test_an_export_without_rows_is_complete(core: Core, tmp_path: Path) -> None:
    summary, results = run(core, tmp_path, [])
    assert (summary.rows, results) == (0, [])


def test_a_file_that_grows_while_it_is_read_is_noticed(core: Core, tmp_path: Path) -> None:
    rows = [contact(str(i), f"p{i}@example.com") for i in range(3)]
    file = write_export(tmp_path / "export.csv", rows)

    def grow(done: int, _total: int) -> None:
        if done == 1:
            with file.open("a") as more:
                more.write("9,late@example.com,,,,,,,\n")

    with pytest.raises(UnreadableFileError, match="changed while it was read"):
        hubspot_import(core, batch=1).run(file, progress=grow)


# --- telling -----------------------------------------------------------------------------------


def test_warnings_come_first_and_the_result_last(core: Core, tmp_path: Path) -> None:
    columns = ["Email", "Rumours subscription status", "SMS opt-out", "City"]
    rows = [{"Email": ANN, "Rumours subscription status": "Opted out"}, {"Email": "", "City": "x"}]
    file = write_export(tmp_path / "export.csv", rows, columns)
    told = hubspot_import(core).run(file).sentences()
    assert "'Rumours subscription status'" in told[0]
    assert "'SMS opt-out'" in told[1]
    assert "Unsubscribed from all email" in told[2]
    assert told[-1] == (
        "2 rows: 1 imported, 0 unchanged, 0 unknown, 1 rejected, 0 failed. Events recorded: 1."
    )
    assert reason(core, ANN) is Reason.OBJECTED


def test_nothing_that_is_told_is_personal(
    core: Core, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        contact("770077", "ann.secret@example.com") | PROOF | {"Notes": "=cmd|secret"},
        contact("", "bob.secret at example.com") | {ALL: "secret", "Notes": "+secret"},
    ]
    file = write_export(tmp_path / "export.csv", rows)
    text = io.StringIO()
    with caplog.at_level(logging.DEBUG):
        summary = hubspot_import(core).run(file, report=RowReport(text))
    told = text.getvalue() + "".join(summary.sentences()) + repr(summary) + caplog.text
    assert "secret" not in told
    assert "770077" not in told
    lines = list(csv.reader(io.StringIO(text.getvalue())))
    assert [line[:2] for line in lines] == [
        ["line", "outcome"],
        ["2", "imported"],
        ["3", "rejected"],
    ]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for line in lines for cell in line)


def test_identifiers_and_evidence_are_in_the_database_in_no_clear_form(
    core: Core, tmp_path: Path, engine_name: Engine
) -> None:
    if engine_name != "sqlite":
        pytest.skip("the file of a SQLite database can be searched")
    row = contact("770077", "ann.hushed@example.com") | PROOF
    run(core, tmp_path, [row | {EXPLANATION: 'hushed fair 2025-04-02 "My hushed words"'}])
    assert core.check("ann.hushed@example.com").allow
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("*.db*"))
    assert stored
    assert b"hushed" not in stored
    assert b"770077" not in stored


class Strangers:
    """A directory of another vault: its people are unknown to the writer."""

    def find(self, reader: Reader, identifiers: Sequence[Identifier]) -> list[SubjectRef | None]:
        return [None for _ in identifiers]

    def ensure(
        self, session: Session, identifiers: Sequence[Identifier], now: datetime
    ) -> list[SubjectRef]:
        return [new_subject_ref() for _ in identifiers]

    def link_many(
        self, session: Session, pairs: Sequence[tuple[SubjectRef, Identifier]], now: datetime
    ) -> list[SubjectRef]:
        return [ref for ref, _ in pairs]


def test_a_row_that_cannot_be_written_makes_the_import_incomplete(
    core: Core, tmp_path: Path
) -> None:
    strange = replace(collaborators(core), directory=Strangers())  # type: ignore[arg-type]
    importer = HubSpotImport(FileImport(strange))
    file = write_export(tmp_path / "export.csv", [contact("7", ANN) | {ALL: "true"}, contact("8")])
    summary = importer.run(file)
    assert not summary.complete
    assert (summary.outcomes[Outcome.FAILED], summary.outcomes[Outcome.UNKNOWN]) == (1, 1)
    assert summary.reasons[R.WRITE_REFUSED] == 1
    assert summary.events == 0
