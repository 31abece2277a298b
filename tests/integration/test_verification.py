"""Verification of the consent ledger: events, disclosures and registers, on both engines."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select, text
from sqlalchemy.exc import DBAPIError

from consent.choices import choice, confirmation, signal, suppression
from consent.ledger.checkpoint import Verifier
from consent.ledger.findings import Report
from consent.ledger.verify import Phase, Progress
from consent.models import event as event_table
from consent.models import state as state_table
from consent.subjects import Reader, SubjectRef
from consent.verification import Erased, nothing_erased, verify_ledger
from governance.keys.models import data_key
from policies.vocabulary import ANY, ChoiceState, MarkState
from tests.fakes.core import MARKETING, NOTICE, Core
from tests.fakes.databases import Engine
from tests.fakes.tampering import drop_triggers

GRANTED, REFUSED, WITHDRAWN, OBJECTED = ChoiceState
ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"

# Which entry is which, in the ledger that `told` tells.
ALICES_GRANT, BOBS_GRANT, ALICES_WITHDRAWAL, CAROLS_SUPPRESSION = range(4)


@pytest.fixture
def told(core: Core) -> Core:
    """A ledger in which several people have said something of every sort."""
    grant = choice(
        core.policies,
        purpose=MARKETING,
        channel="email",
        state=GRANTED,
        method="web_form",
        notice=NOTICE,
        evidence={"ip": "192.0.2.7", "words": "Ja, gern \U0001f600"},
        ends_at=core.clock() + timedelta(days=30),
    )
    core.record(ALICE, grant)
    core.record(BOB, core.said(GRANTED))
    core.clock.advance(timedelta(minutes=5))
    core.record(ALICE, core.said(WITHDRAWN))
    core.record(CAROL, suppression(MarkState.SET, method="officer"))
    core.record(CAROL, signal("gpc", MarkState.SET, method="header"))
    core.record(BOB, choice(core.policies, purpose=ANY, channel="sms", state=REFUSED))
    pending = core.said(GRANTED, purpose="newsletter")
    core.record(CAROL, pending)
    core.clock.advance(timedelta(minutes=5))
    core.record(
        CAROL,
        confirmation(purpose="newsletter", channel="email", grant_id=pending.id, method="link"),
    )
    child = choice(
        core.policies,
        purpose=MARKETING,
        channel="post",
        state=GRANTED,
        notice=NOTICE,
        evidence={"age": 12},
    )
    core.record("dan@example.com", child)
    core.record(ALICE, core.said(GRANTED, at=core.clock() - timedelta(days=400)))
    core.record("eve@example.com", core.said(GRANTED, at=core.clock() + timedelta(days=400)))
    return core


def verifier_of(core: Core) -> Verifier:
    return Verifier(core.signer.name, core.signer.public_key)


def verify(core: Core, **options: Any) -> Report:
    return verify_ledger(
        core.log,
        verifier_of(core),
        core.checkpoints,
        core.cipher,
        core.database.snapshot,
        core.clock,
        **options,
    )


def found(core: Core, **options: Any) -> list[tuple[str, int | None]]:
    return [(one.kind.value, one.index) for one in verify(core, **options).findings]


def spoil(core: Core, *statements: str, **values: Any) -> None:
    """Run statements as an attacker who owns the database."""
    with core.database.begin() as session:
        drop_triggers(session.connection())
        for statement in statements:
            session.execute(text(statement), values)


def subject_of(core: Core, index: int) -> SubjectRef:
    with core.database.read() as reader:
        query = select(event_table.c.subject_ref).where(event_table.c.idx == index)
        return SubjectRef(reader.execute(query).scalar_one())


def test_sound_ledger_has_no_findings(told: Core) -> None:
    report = verify(told)
    assert report.ok, report.findings
    assert (report.entries_checked, report.events_checked, report.erased) == (11, 11, 0)
    assert report.signed_size == 11


def test_empty_ledger_has_no_findings(core: Core) -> None:
    report = verify(core)
    assert report.ok, report.findings
    assert report.size == 0


# --- events -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("purpose", "newsletter"),
        ("channel", "sms"),
        ("state", "refused"),
        ("type", "suppression"),
        ("recorded_at", "2026-01-01T00:00:00.000000Z"),
        ("occurred_at", "2026-01-01T00:00:00.000000Z"),
        ("ends_at", "2099-01-01T00:00:00.000000Z"),
        ("ends_at", None),
        ("notice", "other"),
        ("notice_version", "4"),
        ("notice", None),
        ("confirms", "0190a1b2-0000-7000-8000-000000000000"),
        ("confirmed_at", "2026-01-01T00:00:00.000000Z"),
        ("child_without_authority", True),
        ("id", "0190a1b2-0000-7000-8000-000000000000"),
    ],
)
def test_altered_column_of_an_event_is_named(told: Core, column: str, value: Any) -> None:
    spoil(
        told,
        f"UPDATE consent_event SET {column} = {cast(told, column)} WHERE idx = :i",
        x=value,
        i=ALICES_GRANT,
    )
    report = verify(told)
    finding = next(one for one in report.findings if one.kind == "ALTERED_EVENT")
    assert finding.index == ALICES_GRANT
    assert column in finding.sentence
    assert str(value) not in finding.sentence


def cast(core: Core, column: str) -> str:
    """A bound value as the column of PostgreSQL wants it; SQLite takes what it gets."""
    if core.database.dialect == "sqlite":
        return ":x"
    kinds = {"child_without_authority": "boolean"}
    kind = kinds.get(column, "timestamptz" if column.endswith("_at") else "text")
    return f"CAST(:x AS {kind})"


def test_event_moved_to_another_person(told: Core) -> None:
    spoil(
        told,
        "UPDATE consent_event SET subject_ref = :x WHERE idx = :i",
        x=subject_of(told, BOBS_GRANT),
        i=ALICES_WITHDRAWAL,
    )
    assert ("ALTERED_EVENT", ALICES_WITHDRAWAL) in found(told)


def test_event_moved_with_its_evidence_sealed_anew(told: Core) -> None:
    """The attacker has the service's keys, and seals Alice's disclosures for Bob."""
    alice, bob = subject_of(told, ALICES_WITHDRAWAL), subject_of(told, BOBS_GRANT)
    with told.database.begin() as session:
        row = session.execute(
            select(event_table).where(event_table.c.idx == ALICES_WITHDRAWAL)
        ).one()
        (plain,) = told.cipher.open(session, [(alice, row.id, row.sealed)])
        assert plain is not None
        (sealed,) = told.cipher.seal(session, [(bob, row.id, plain)], told.clock())
    spoil(
        told,
        "UPDATE consent_event SET subject_ref = :s, sealed = :x WHERE idx = :i",
        s=bob,
        x=sealed,
        i=ALICES_WITHDRAWAL,
    )
    report = verify(told)
    (finding,) = [one for one in report.findings if one.kind == "ALTERED_EVENT"]
    assert finding.index == ALICES_WITHDRAWAL
    assert "subject_ref" in finding.sentence


def test_disclosures_sealed_anew_with_other_words(told: Core) -> None:
    bob = subject_of(told, BOBS_GRANT)
    with told.database.begin() as session:
        row = session.execute(select(event_table).where(event_table.c.idx == BOBS_GRANT)).one()
        (sealed,) = told.cipher.seal(session, [(bob, row.id, b"WyJhIiwiYiIsImMiXQ")], told.clock())
    spoil(told, "UPDATE consent_event SET sealed = :x WHERE idx = :i", x=sealed, i=BOBS_GRANT)
    assert found(told) == [("DISCLOSURE_MISMATCH", BOBS_GRANT)]


@pytest.mark.parametrize("cut", [slice(0, 10), slice(0, -1), slice(0, 0)])
def test_damaged_evidence(told: Core, cut: slice) -> None:
    with told.database.read() as reader:
        query = select(event_table.c.sealed).where(event_table.c.idx == BOBS_GRANT)
        sealed = reader.execute(query).scalar_one()
    spoil(told, "UPDATE consent_event SET sealed = :x WHERE idx = :i", x=sealed[cut], i=BOBS_GRANT)
    (finding,) = found(told)
    assert finding == ("ALTERED_EVENT", BOBS_GRANT)


def test_exchanged_event_rows(told: Core) -> None:
    for source, target in ((0, 10**6), (1, 0), (10**6, 1)):
        spoil(told, "UPDATE consent_event SET idx = :t WHERE idx = :s", s=source, t=target)
    assert [one for one in found(told) if one[0] == "SWAPPED_ROW"] == [
        ("SWAPPED_ROW", 0),
        ("SWAPPED_ROW", 1),
    ]


def test_deleted_withdrawal_is_missed(told: Core) -> None:
    """The attack that matters: the no is removed, and the register shows the grant again."""
    with told.database.begin() as session:
        session.execute(delete(event_table).where(event_table.c.idx == ALICES_WITHDRAWAL))
    spoil(
        told,
        "UPDATE consent_state SET state = 'granted' WHERE idx = :i",
        i=ALICES_WITHDRAWAL,
    )
    assert ("MISSING_EVENT", ALICES_WITHDRAWAL) in found(told)


def test_event_without_an_entry(told: Core) -> None:
    with told.database.begin() as session:
        row = session.execute(select(event_table).where(event_table.c.idx == 0)).one()
        values = {**row._mapping, "idx": 50, "id": "0190a1b2-0000-7000-8000-000000000000"}
        session.execute(event_table.insert().values(values))
    assert ("SURPLUS_EVENT", 50) in found(told)


def test_id_beside_an_entry_that_is_another(told: Core) -> None:
    spoil(told, "UPDATE ledger_entry SET id = 'x' WHERE idx = 3")
    assert found(told) == [("EDITED", 3)]


def test_edited_entry_is_named_once(told: Core) -> None:
    spoil(told, "UPDATE ledger_entry SET leaf = :x WHERE idx = 3", x=b"{}")
    assert found(told) == [("EDITED", 3)]


# --- registers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "state = 'granted'",
        "event_id = 'x'",
        "idx = 0",
        "occurred_at = '2020-01-01T00:00:00.000000Z'",
        "first_granted_at = NULL",
        "confirmed_at = '2020-01-01T00:00:00.000000Z'",
        "ends_at = '2099-01-01T00:00:00.000000Z'",
        "notice = 'x'",
        "notice_version = 'x'",
        "channel = 'sms'",
        "subject_ref = 'aaaaaaaaaaaaaaaaaaaaaaaaaa'",
    ],
)
def test_altered_register(told: Core, change: str) -> None:
    alice = subject_of(told, ALICES_GRANT)
    spoil(told, f"UPDATE consent_state SET {change} WHERE subject_ref = :s", s=alice)
    report = verify(told)
    assert {one.kind for one in report.findings} == {"ALTERED_PROJECTION"}
    assert any(alice in one.sentence and MARKETING in one.sentence for one in report.findings)


def test_register_that_is_gone_and_one_that_nobody_earned(told: Core) -> None:
    alice, carol = subject_of(told, ALICES_GRANT), subject_of(told, CAROLS_SUPPRESSION)
    spoil(told, "DELETE FROM consent_state WHERE subject_ref = :s", s=alice)
    spoil(
        told,
        "UPDATE consent_state SET purpose = 'newsletter' "
        "WHERE subject_ref = :s AND type = 'suppression'",
        s=carol,
    )
    assert [kind for kind, _ in found(told)] == ["ALTERED_PROJECTION"] * 3


def test_people_are_folded_in_pages(told: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consent.verification._EVENTS_AT_A_TIME", 2)
    pages: list[int] = []

    def note(progress: Progress) -> None:
        if progress.phase is Phase.REGISTERS:
            pages.append(progress.done)

    assert verify(told, progress=note).ok
    assert pages[-1] == 11
    assert len(pages) > 2
    bob = subject_of(told, BOBS_GRANT)
    spoil(told, "UPDATE consent_state SET idx = 900 WHERE subject_ref = :s", s=bob)
    assert {kind for kind, _ in found(told)} == {"ALTERED_PROJECTION"}


def test_choice_made_meanwhile_is_no_fault(told: Core) -> None:
    def choose(_: Progress) -> None:
        told.record(BOB, told.said(WITHDRAWN))
        told.record("eve@example.com", told.said(GRANTED))

    report = verify(told, progress=choose)
    assert report.ok, report.findings
    assert report.size == 11


# --- erasure ------------------------------------------------------------------------------------


def erase(core: Core, index: int, *, rows: bool) -> Erased:
    """Destroy a person's key, and their rows if asked to; gives the record of it."""
    subject = subject_of(core, index)
    with core.database.begin() as session:
        ours = event_table.c.subject_ref == subject
        indexes = list(session.scalars(select(event_table.c.idx).where(ours)))
        session.execute(delete(data_key).where(data_key.c.subject_ref == subject))
        if rows:
            session.execute(delete(event_table).where(ours))
            session.execute(delete(state_table).where(state_table.c.subject_ref == subject))
    core.keyring.evict([subject])

    def on_record(_: Connection, start: int, stop: int) -> Sequence[int]:
        return [index for index in indexes if start <= index < stop]

    return on_record


@pytest.mark.parametrize("rows", [False, True], ids=["key", "key and rows"])
def test_erasure_on_record_is_no_fault(told: Core, rows: bool) -> None:
    report = verify(told, erased=erase(told, ALICES_GRANT, rows=rows))
    assert report.ok, report.findings
    assert report.erased == 3
    assert report.entries_checked == 11


def test_evidence_destroyed_without_a_record_is_a_fault(told: Core) -> None:
    erase(told, ALICES_GRANT, rows=False)
    assert {kind for kind, _ in found(told, erased=nothing_erased)} == {"EVIDENCE_LOST"}


# --- damaged data is a finding, never a crash ---------------------------------------------------


@pytest.mark.parametrize("table", ["consent_event", "consent_state"])
@pytest.mark.parametrize("value", ["NULL", "7", "'x'", "x'ff00'", "CAST(x'ff' AS TEXT)", "1.5"])
def test_any_value_in_any_column_is_a_finding(
    told: Core, engine_name: Engine, table: str, value: str
) -> None:
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL keeps the types of its columns")
    columns = (event_table if table == "consent_event" else state_table).columns.keys()
    with told.database.begin() as session:
        connection = session.connection()
        connection.exec_driver_sql(f"CREATE TABLE backup AS SELECT * FROM {table}")
        connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql(f"CREATE TABLE {table} AS SELECT * FROM backup")
    for column in columns:
        with told.database.read() as reader:
            query = f"SELECT {column} IS {value} FROM {table} WHERE rowid = 2"
            unchanged = bool(reader.exec_driver_sql(query).scalar_one())
        spoil(told, f"UPDATE {table} SET {column} = {value} WHERE rowid = 2")
        report = verify(told)
        assert report.ok is unchanged, column
        assert all("\udcff" not in one.sentence for one in report.findings)
        spoil(told, f"DELETE FROM {table}", f"INSERT INTO {table} SELECT * FROM backup")


@pytest.mark.parametrize("value", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_instant_that_python_cannot_hold_is_a_finding(
    told: Core, engine_name: Engine, value: str
) -> None:
    if engine_name != "postgresql":
        pytest.skip("instants are text in SQLite")
    spoil(told, f"UPDATE consent_event SET occurred_at = '{value}' WHERE idx = {BOBS_GRANT}")
    assert ("ALTERED_EVENT", BOBS_GRANT) in found(told)
    spoil(told, f"UPDATE consent_state SET occurred_at = '{value}' WHERE idx = {BOBS_GRANT}")
    assert "ALTERED_PROJECTION" in {kind for kind, _ in found(told)}


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"v":1}',
        b'{"v":2}',
        b"\xff",
        b"[" * 60_000,
        b'{"v":1,"_sd":3}',
    ],
)
def test_leaf_of_any_form_is_a_finding(core: Core, leaf: bytes) -> None:
    """Whoever may append can append anything; what is no leaf is named."""
    core.record(ALICE, core.said(GRANTED))
    with core.database.begin() as session:
        core.log.append(session, core.log.lock(session), [("x", leaf)])
        row = session.execute(select(event_table)).one()
        values = {**row._mapping, "idx": 1, "id": "x"}
        session.execute(event_table.insert().values(values))
    core.notary.certify()
    kinds = [kind for kind, index in found(core) if index == 1]
    assert kinds


def test_lost_connection_is_no_finding(told: Core) -> None:
    class Lost:
        def open(self, reader: Reader, items: Sequence[Any]) -> list[bytes | None]:
            reader.execute(text("SELECT * FROM no_such_table"))
            return []

    with pytest.raises(DBAPIError):
        verify_ledger(
            told.log,
            verifier_of(told),
            told.checkpoints,
            Lost(),  # type: ignore[arg-type]
            told.database.snapshot,
            told.clock,
        )


# --- progress and resuming ----------------------------------------------------------------------


class StopError(Exception):
    """The job was told to end."""


def test_verification_resumes_in_either_phase(told: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consent.verification._EVENTS_AT_A_TIME", 3)
    spoil(told, "UPDATE consent_event SET state = 'refused' WHERE idx = 0")
    whole = verify(told)
    phases: list[Phase] = []
    cursor: dict[str, Any] | None = None
    report: Report | None = None

    def stop(progress: Progress) -> None:
        nonlocal cursor
        phases.append(progress.phase)
        cursor = json.loads(json.dumps(progress.cursor()))
        raise StopError

    while report is None:
        try:
            report = verify(told, progress=stop, resume=cursor)
        except StopError:
            told.clock.advance(timedelta(seconds=1))
    assert phases[0] is Phase.ENTRIES
    assert phases.count(Phase.REGISTERS) == len(phases) - 1 > 1
    assert report.findings == whole.findings
    assert (report.events_checked, report.entries_checked) == (10, 11)
    assert report.finished_at - report.started_at == timedelta(seconds=len(phases))
