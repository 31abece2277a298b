"""Imports: Salesforce, tables by mapping, quarantine, repair, resuming, signed reports."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from admin_ui.imports import ImportBusyError, Imports, propose, verify_report
from admin_ui.services import Services
from consent.errors import LedgerError
from consent.importer import marks, quarantine
from consent.importer.mapping import MappingError
from consent.importer.models import import_part, import_run, note
from consent.importer.models import quarantine as quarantine_table
from consent.importer.outcomes import ImportReason as R
from consent.importer.outcomes import Outcome, Summary
from consent.importer.plan import Kind
from consent.importer.repairs import InvalidRepairError
from consent.importer.rows import UnreadableFileError
from consent.importer.statements import Supplied
from consent.models import ledger
from consent.subjects import Identifier, email, external_id
from governance.audit.trail import CLI
from governance.vault.suppressions import SuppressionCause
from policies.vocabulary import Channel, Reason
from tests.conftest import ROOT

ANN, BOB = "ann@example.com", "bob@example.com"
PARTY = "0PK5e0000000001AAA"
YES = {
    "PartyId": PARTY,
    "Email": ANN,
    "ContactPointType": "Email",
    "DataUsePurpose": "Marketing",
    "PrivacyConsentStatus": "OptIn",
    "CaptureDate": "2025-04-02T10:11:00.000+0000",
    "CaptureSource": "Web form",
    "EffectiveFrom": "2025-04-02",
    "EffectiveTo": "",
    "DoubleConsentCaptureDate": "",
}
MAPPING: dict[str, Any] = {
    "kind": "csv",
    "system": "old-shop",
    "identifiers": {"email": "E-Mail", "external_id": "Nr"},
    "choices": [
        {
            "purpose": "marketing_information",
            "channel": "email",
            "state": {"column": "News", "values": {"ja": "granted", "nein": "objected"}},
            "time": "Am",
            "source": {"column": "Quelle"},
            "words": {"text": "Ja, ich will Angebote."},
        }
    ],
}


def write(path: Path, rows: Sequence[Mapping[str, str]], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, restval="", delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode())
    return path


def run(
    services: Services, file: Path, kind: Kind = Kind.SALESFORCE, mapping: Any = None, **more: Any
) -> Summary:
    options: dict[str, Any] = {"encoding": None, "dry_run": False, "report": None, **more}
    return Imports(services).import_file(
        file,
        kind,
        None if mapping is None else json.dumps(mapping),
        progress=lambda *_: None,
        actor=CLI,
        **options,
    )


def reason(
    services: Services,
    who: str | Identifier,
    purpose: str = "marketing_information",
    channel: Channel = Channel.EMAIL,
) -> Reason:
    subject = email(who) if isinstance(who, str) else who
    return services.checker.check(subject, purpose, channel).reason


def count(services: Services, table: Any) -> int:
    with services.database.read() as reader:
        return int(reader.execute(select(func.count()).select_from(table)).scalar_one())


# --- the samples -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.HUBSPOT, "hubspot_contacts.csv"),
        (Kind.SALESFORCE, "salesforce_individual.csv"),
        (Kind.SALESFORCE, "salesforce_contact_point_type_consent.csv"),
    ],
)
def test_each_sample_is_accounted_for_and_enters_once(
    services: Services, shared: Path, tmp_path: Path, kind: Kind, name: str
) -> None:
    services.clock.set(datetime(2026, 11, 24, tzinfo=UTC))  # type: ignore[attr-defined]
    file = shared / "data" / name
    foreseen = run(services, file, kind, dry_run=True, report=tmp_path / "dry.csv")
    assert count(services, import_run) == count(services, ledger.entry) == 0
    summary = run(services, file, kind, report=tmp_path / "done.csv")
    with file.open(encoding="utf-8-sig", newline="") as text:
        assert summary.rows == sum(summary.outcomes.values()) == len(list(csv.DictReader(text)))
    assert summary.complete
    assert summary.events == count(services, ledger.entry) > 0
    assert (tmp_path / "dry.csv").read_bytes() == (tmp_path / "done.csv").read_bytes()
    assert (foreseen.outcomes, foreseen.reasons) == (summary.outcomes, summary.reasons)
    again = run(services, file, kind)
    assert (again.events, again.marks, again.outcomes[Outcome.IMPORTED]) == (0, 0, 0)
    assert count(services, ledger.entry) == summary.events


# --- Salesforce --------------------------------------------------------------------------------


def test_a_full_row_is_a_grant_with_its_times(services: Services, tmp_path: Path) -> None:
    rows = [YES | {"EffectiveTo": "2026-04-02", "DoubleConsentCaptureDate": "2025-04-03"}]
    summary = run(services, write(tmp_path / "a.csv", rows))
    assert summary.events == 2
    decision = services.checker.check(email(ANN), "marketing_information", Channel.EMAIL)
    assert decision.allow
    assert decision.expires_at == datetime(2026, 4, 2, tzinfo=UTC)
    short = external_id("salesforce", PARTY)
    assert reason(services, short) is Reason.GRANTED


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({"CaptureDate": ""}, R.NO_DATE),
        ({"CaptureDate": "2099-01-01"}, R.NO_DATE),
        ({"CaptureSource": ""}, R.NO_SOURCE),
        ({"CaptureSource": "Import"}, R.NO_SOURCE),
        ({"DataUsePurpose": ""}, R.NO_PURPOSE),
        ({"DataUsePurpose": "Rumours"}, R.UNMAPPED_TYPE),
        ({"ContactPointType": "Pigeon"}, R.UNMAPPED_CHANNEL),
        ({"Email": "ann at example.com"}, R.EMAIL_MALFORMED),
        ({"EffectiveTo": "soon"}, R.END_UNREADABLE),
        ({"EffectiveFrom": "2099-01-01"}, R.NOT_YET_IN_FORCE),
    ],
)
def test_less_than_a_full_row_is_held(
    services: Services, tmp_path: Path, change: dict[str, str], held: R
) -> None:
    summary = run(services, write(tmp_path / "a.csv", [YES | change]))
    assert summary.events == 0
    assert dict(summary.held) == {held: 1}


@pytest.mark.parametrize("status", ["Seen", "NotSeen", ""])
def test_who_only_saw_it_is_undecided(services: Services, tmp_path: Path, status: str) -> None:
    summary = run(services, write(tmp_path / "a.csv", [YES | {"PrivacyConsentStatus": status}]))
    assert (summary.events, summary.held) == (0, {})


def test_time_decides_between_rows_in_any_order(services: Services, tmp_path: Path) -> None:
    no = YES | {"PrivacyConsentStatus": "OptOut", "CaptureDate": "2025-05-01T00:00:00.000+0000"}
    later = YES | {"Email": BOB, "PartyId": "0PK5e0000000002AAA"}
    before = later | {"PrivacyConsentStatus": "OptOut", "CaptureDate": "2024-01-01"}
    run(services, write(tmp_path / "a.csv", [no, YES, later, before]))
    assert reason(services, ANN) is Reason.OBJECTED
    assert reason(services, BOB) in {Reason.GRANTED, Reason.RENEWED}


def test_an_opt_out_of_an_unknown_purpose_is_widened(services: Services, tmp_path: Path) -> None:
    no = YES | {"PrivacyConsentStatus": "OptOut", "DataUsePurpose": "Rumours", "CaptureDate": ""}
    summary = run(services, write(tmp_path / "a.csv", [no]))
    assert "Rumours" in summary.sentences()[0]
    assert reason(services, ANN, "newsletter") is Reason.OBJECTED


def test_a_phone_opt_out_covers_text_messages(services: Services, tmp_path: Path) -> None:
    no = YES | {"PrivacyConsentStatus": "OptOut", "ContactPointType": "Phone"}
    run(services, write(tmp_path / "a.csv", [no]))
    for channel in (Channel.PHONE, Channel.SMS):
        assert reason(services, ANN, channel=channel) is Reason.OBJECTED
    assert reason(services, ANN) is Reason.NO_RECORD


def test_wishes_become_drafts_and_notes_once(services: Services, tmp_path: Path) -> None:
    person = {
        "Id": PARTY,
        "Email": ANN,
        "ShouldForget": "true",
        "SendIndividualData": "true",
        "HasOptedOutProcessing": "false",
        "CanStorePiiElsewhere": "false",
        "IndividualsAge": "",
    }
    summary = run(services, write(tmp_path / "a.csv", [person]))
    assert (summary.events, summary.marks) == (1, 3)
    with services.database.read() as reader:
        drafts = marks.open_drafts(reader)
    assert sorted(one.asks for one in drafts) == ["erasure", "portability"]
    assert reason(services, ANN) is Reason.OBJECTED
    assert run(services, write(tmp_path / "a.csv", [person])).marks == 0
    lifted = person | {"CanStorePiiElsewhere": "true"}
    run(services, write(tmp_path / "b.csv", [lifted]))
    assert count(services, note) == 0


@pytest.mark.parametrize("consents_first", [False, True])
def test_a_child_without_authority_is_never_in_force(
    services: Services, tmp_path: Path, consents_first: bool
) -> None:
    child = {"Id": PARTY, "Email": ANN, "HasOptedOutSolicit": "false", "IndividualsAge": "Under 13"}
    files = [write(tmp_path / "p.csv", [child]), write(tmp_path / "c.csv", [YES])]
    for file in reversed(files) if consents_first else files:
        run(services, file)
    assert reason(services, ANN) is Reason.CHILD_WITHOUT_AUTHORITY
    for file in files:
        assert run(services, file).events == 0


def test_false_is_no_consent_and_makes_nobody(services: Services, tmp_path: Path) -> None:
    row = {"Id": PARTY, "Email": ANN, "HasOptedOutOfEmail": "false", "DoNotCall": "0"}
    summary = run(services, write(tmp_path / "a.csv", [row]))
    assert summary.events == 0
    assert reason(services, ANN) is Reason.SUBJECT_UNKNOWN


def test_a_short_id_is_the_long_one(services: Services, tmp_path: Path) -> None:
    row = {"Id": "001A0000006Vm9r", "HasOptedOutOfEmail": "true"}
    run(services, write(tmp_path / "a.csv", [row]))
    assert reason(services, external_id("salesforce", "001A0000006Vm9rIAC")) is Reason.OBJECTED


def test_a_mapping_names_purposes_and_words(services: Services, tmp_path: Path) -> None:
    rows = [YES | {"DataUsePurpose": "0ZW5e000000CaR1"}]
    mapping = {
        "kind": "salesforce",
        "purposes": {"0ZW5e000000CaR1": "marketing_information"},
        "words": {"Web form": {"text": "Yes, send me offers."}},
    }
    assert run(services, write(tmp_path / "a.csv", rows), mapping=mapping).events == 1
    wrong = mapping | {"purposes": {"x": "no_such_purpose"}}
    with pytest.raises(MappingError, match="no_such_purpose"):
        run(services, write(tmp_path / "a.csv", rows), mapping=wrong)


def test_a_strange_file_is_refused(services: Services, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no export of"):
        run(services, write(tmp_path / "a.csv", [{"Name": "x"}]))


# --- tables ------------------------------------------------------------------------------------


def test_a_table_is_read_by_its_mapping(services: Services, tmp_path: Path) -> None:
    rows = [
        {"Nr": "1", "E-Mail": ANN, "News": "ja", "Am": "02.04.2025 10:11", "Quelle": "Messe"},
        {"Nr": "2", "E-Mail": BOB, "News": "NEIN"},
        {"Nr": "3", "E-Mail": "c@example.com", "News": "=maybe()"},
        {"Nr": "4", "E-Mail": "d@example.com", "News": ""},
        {"Nr": "5", "E-Mail": "e@example.com", "News": "ja", "Am": "03/04/2025", "Quelle": "x y"},
    ]
    file = write(tmp_path / "a.csv", rows, ";")
    summary = run(services, file, Kind.CSV, MAPPING)
    assert summary.events == 3
    assert dict(summary.held) == {R.NO_DATE: 1}
    assert reason(services, ANN) is Reason.GRANTED
    assert reason(services, BOB) is reason(services, "c@example.com") is Reason.OBJECTED
    assert run(services, file, Kind.CSV, MAPPING).events == 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state": {"column": "News", "values": {"": "granted"}}}, "empty cell"),
        (
            {"state": {"column": "News subscription status", "values": {"Opted in": "granted"}}},
            "default",
        ),
        ({"time": "Create Date"}, "record was made"),
        ({"purpose": "*"}, "only a no"),
        ({"purpose": "order_updates"}, "rests on contract"),
        ({"channel": "fax"}, "must be one of"),
        ({"word": "x"}, "not known"),
    ],
)
def test_a_mapping_cannot_invent_consent(
    services: Services, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    mapping = MAPPING | {"choices": [MAPPING["choices"][0] | change]}
    with pytest.raises(MappingError, match=sentence):
        run(services, write(tmp_path / "a.csv", [{"Nr": "1"}]), Kind.CSV, mapping)


def test_an_encoding_is_declared_or_the_file_refused(services: Services, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    text = "Nr;E-Mail;News;Am;Quelle\r\n1;ann@example.com;ja;02.04.2025;Käsemarkt\r\n"
    file.write_bytes(text.encode("cp1252"))
    with pytest.raises(UnreadableFileError, match="Line 2 is not in UTF-8"):
        run(services, file, Kind.CSV, MAPPING)
    assert run(services, file, Kind.CSV, MAPPING, encoding="latin-1").events == 1


def test_a_proposal_never_shows_a_cell_and_never_invents_a_time(
    services: Services, tmp_path: Path
) -> None:
    rows = [{"Mail": ANN, "Newsletter": "ja", "Name": "Secretson"}] * 3
    proposal = propose(services.policies(), write(tmp_path / "a.csv", rows), None)
    assert "ecret" not in repr(proposal)
    assert ANN not in repr(proposal)
    assert any(lack.startswith("time") for lack in proposal.lacking)
    with pytest.raises(MappingError, match="time"):
        run(services, tmp_path / "a.csv", Kind.CSV, dict(proposal.content))


# --- quarantine --------------------------------------------------------------------------------


def test_what_is_held_is_kept_once_and_sealed(services: Services, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [YES | {"CaptureSource": "Import", "Email": "hush@b.example"}])
    for _ in range(2):
        run(services, file)
    with services.database.read() as reader:
        (row,) = reader.execute(select(quarantine_table)).all()
    assert b"hush" not in row.sealed
    assert row.record == "salesforce:•••AA"


def test_a_repair_completes_and_records(services: Services, tmp_path: Path) -> None:
    rows = [YES | {"CaptureSource": "", "CaptureDate": ""}]
    run(services, write(tmp_path / "a.csv", rows))
    imports = Imports(services)

    def repair(code: R, **supplied: Any) -> Mapping[str, int]:
        return imports.repair(code, Supplied(**supplied), "case 7", CLI, lambda *_: None)

    with pytest.raises(InvalidRepairError, match="which day"):
        repair(R.NO_DATE)
    with pytest.raises(InvalidRepairError, match="between 1990"):
        repair(R.NO_DATE, given_on=date(2099, 1, 1))
    assert repair(R.NO_DATE, given_on=date(2025, 4, 2)) == {"held": 1}
    with services.database.read() as reader:
        assert [pile.reason for pile in quarantine.piles(reader)] == [R.NO_SOURCE]
    assert repair(R.NO_SOURCE, source="Fair in Cologne") == {"repaired": 1}
    assert reason(services, ANN) is Reason.GRANTED
    with services.database.read() as reader:
        assert quarantine.piles(reader) == []
        assert reader.execute(select(quarantine_table.c.sealed)).scalar_one() is None


def test_a_supplied_date_never_beats_a_no(services: Services, tmp_path: Path) -> None:
    no = YES | {"PrivacyConsentStatus": "OptOut", "CaptureDate": "2024-01-01"}
    run(services, write(tmp_path / "a.csv", [YES | {"CaptureDate": ""}, no]))
    supplied = Supplied(given_on=date(2026, 2, 1))
    counts = Imports(services).repair(R.NO_DATE, supplied, "case 7", CLI, lambda *_: None)
    assert counts == {"held": 1}
    assert reason(services, ANN) is Reason.OBJECTED
    with services.database.read() as reader:
        assert [pile.reason for pile in quarantine.piles(reader)] == [R.DENIED_SINCE]


def test_rows_are_dismissed_or_expire_and_are_emptied(services: Services, tmp_path: Path) -> None:
    rows = [YES | {"CaptureDate": ""}, YES | {"CaptureSource": ""}]
    run(services, write(tmp_path / "a.csv", rows))
    imports = Imports(services)
    assert imports.dismiss(R.NO_DATE, "case 7", CLI) == 1
    services.clock.advance(services.settings.import_quarantine * 2)  # type: ignore[attr-defined]
    with services.database.begin() as session:
        assert imports.expire(session) == 1
    with services.database.read() as reader:
        assert set(reader.execute(select(quarantine_table.c.sealed)).scalars()) == {None}


def test_the_erased_do_not_come_back_by_a_list(services: Services, tmp_path: Path) -> None:
    with services.database.begin() as session:
        services.suppressions.register(
            session, [email(ANN)], SuppressionCause.ERASURE, services.clock()
        )
    summary = run(services, write(tmp_path / "a.csv", [YES, YES | {"Email": BOB, "PartyId": ""}]))
    assert dict(summary.held) == {R.SUPPRESSED: 1}
    assert reason(services, ANN) is Reason.SUBJECT_UNKNOWN
    assert reason(services, BOB) is Reason.GRANTED


# --- broken off, raced, reported ---------------------------------------------------------------


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_kills_change_nothing(
    services: Services, tmp_path: Path, migrated_url: str, kills: int
) -> None:
    rows = [
        YES
        | {
            "PartyId": f"0PK5e00000{n:05}AAA",
            "Email": f"p{n}@example.com",
            "CaptureSource": "" if n % 3 else "Fair",
            "PrivacyConsentStatus": "OptOut" if n % 4 == 0 else "OptIn",
        }
        for n in range(80)
    ]
    file = write(tmp_path / "a.csv", rows)
    report = tmp_path / "dry.csv"
    foreseen = run(services, file, dry_run=True, report=report)
    command = [
        sys.executable,
        "-m",
        "tests.fakes.import_node",
        migrated_url,
        str(tmp_path),
        str(file),
    ]
    killed = 0
    while True:
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(2)]
            if told[1] == "" or killed == kills:
                process.stdout.read()
                break
            process.kill()
            killed += 1
    assert process.returncode == 0
    assert killed == kills
    with services.database.read() as reader:
        (record,) = reader.execute(select(import_run)).all()
    assert (record.state, record.rows_done) == ("done", len(rows))
    counts = json.loads(record.counts)
    assert counts["events"] == foreseen.events == count(services, ledger.entry)
    assert count(services, quarantine_table) == sum(foreseen.held.values())
    with services.database.snapshot() as snapshot:
        assert b"".join(Imports(services).lines(snapshot, record.id)) == report.read_bytes()
    assert run(services, file).events == 0


def test_never_two_at_once_for_one_file(services: Services, tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", [YES])

    def meanwhile(_done: int, _total: int) -> None:
        with pytest.raises(ImportBusyError):
            run(services, file)

    Imports(services).import_file(
        file,
        Kind.SALESFORCE,
        None,
        encoding=None,
        dry_run=False,
        report=None,
        progress=meanwhile,
        actor=CLI,
    )
    assert count(services, import_run) == 1


def test_a_report_is_worth_its_signature(services: Services, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    rows = [YES, YES | {"PartyId": "=cmd()", "Email": "", "PrivacyConsentStatus": "OptOut"}]
    run(services, write(tmp_path / "a.csv", rows), report=report)
    account, key = tmp_path / "report.csv.json", services.verifier_key
    assert verify_report(account, None, key).startswith("ok: import")
    lines = report.read_text()
    assert ANN not in lines + account.read_text()
    assert "cmd" not in lines
    report.write_text(lines.replace("CONSENT_EVIDENCED", "NOTHING_STATED"))
    with pytest.raises(LedgerError, match="not those"):
        verify_report(account, None, key)
    document = json.loads(account.read_text())
    document["counts"]["events"] += 1
    account.write_text(json.dumps(document))
    with pytest.raises(LedgerError, match="changed"):
        verify_report(account, None, key)


def test_a_hostile_cell_costs_its_row_alone(services: Services, tmp_path: Path) -> None:
    rows = [YES | {"CaptureSource": "x" * 10_000_000}, YES | {"Email": BOB, "PartyId": ""}]
    summary = run(services, write(tmp_path / "a.csv", rows))
    assert summary.outcomes[Outcome.REJECTED] == 1
    assert reason(services, BOB) is Reason.GRANTED
    assert count(services, import_part) == 1
