"""Exports: what an auditor gets, that a foreign program accepts it, and what is left out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from consent.choices import choice
from consent.errors import LedgerError
from consent.export import Disclosures, Exported, ExportError, export
from consent.ledger.checkpoint import NoteError, vkey
from consent.ledger.leaf import open_disclosures, read_leaf
from consent.ledger.tiles import tiles_of, unbundle
from consent.models import event as event_table
from consent.models import ledger
from governance.keys.models import data_key
from policies.vocabulary import ChoiceState
from tests.fakes.core import MARKETING, NOTICE, Core
from tests.fakes.memory_log import SeedSigner
from tests.fakes.tampering import drop_triggers

GRANTED, REFUSED, WITHDRAWN, OBJECTED = ChoiceState
ALICE, BOB = "alice@example.com", "bob@example.com"
TOOL = Path(__file__).parents[2] / "tools" / "tlogcheck"


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The auditor's program, over Go's own packages."""
    program = tmp_path_factory.mktemp("tlogcheck") / "tlogcheck"
    subprocess.run([TOOL / "build.sh", program, Path(sys.prefix) / "bin" / "go"], check=True)
    return program


@pytest.fixture
def told(core: Core) -> Core:
    for who, state in ((ALICE, GRANTED), (BOB, REFUSED), (ALICE, WITHDRAWN)):
        said = choice(
            core.policies,
            purpose=MARKETING,
            channel="email",
            state=state,
            method="web_form",
            notice=NOTICE,
            evidence={"ip": "192.0.2.7"},
        )
        core.record(who, said)
    return core


def public_key(core: Core) -> str:
    return vkey(core.signer.name, core.signer.public_key)


def write(core: Core, directory: Path, **options: Any) -> Exported:
    given = {
        "log": core.log,
        "snapshot": core.database.snapshot,
        "checkpoint": options.get("checkpoint") or core.notary.certify(),
        "vkey": public_key(core),
        "disclosures": Disclosures(core.cipher),
    }
    return export(directory, **{**given, **options})


def check(checker: Path, directory: Path, *old: Path) -> subprocess.CompletedProcess[str]:
    command = [checker, directory / "vkey", directory, *old]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def grow(core: Core, size: int) -> None:
    """Fill the log with entries that have no events, and sign it."""
    with core.database.begin() as session:
        head = core.log.lock(session)
        rows = [(f"id-{i}", b'{"_sd":[],"n":%d}' % i) for i in range(head.size, size)]
        core.log.append(session, head, rows)
    core.notary.certify()


# --- what the auditor gets ----------------------------------------------------------------------


def test_export_is_complete_and_a_foreign_program_accepts_it(
    told: Core, tmp_path: Path, checker: Path
) -> None:
    written = write(told, tmp_path / "export")
    assert (written.size, written.disclosures) == (3, 3)
    names = sorted(
        str(path.relative_to(tmp_path / "export"))
        for path in (tmp_path / "export").rglob("*")
        if path.is_file()
    )
    assert names == [
        "README.txt",
        "checkpoint",
        "disclosures.jsonl",
        "tile/0/000.p/3",
        "tile/entries/000.p/3",
        "vkey",
    ]
    judged = check(checker, tmp_path / "export")
    assert judged.returncode == 0, judged.stderr
    assert judged.stdout.splitlines()[-1].startswith("ok: 3 entries, root ")
    assert "disclosures: all 3 belong to their entries" in judged.stdout


@pytest.mark.parametrize("size", [0, 1, 256, 700])
def test_log_of_any_size_is_accepted(core: Core, tmp_path: Path, checker: Path, size: int) -> None:
    grow(core, size)
    steps: list[tuple[int, int]] = []
    written = write(
        core, tmp_path / "export", progress=lambda done, total: steps.append((done, total))
    )
    judged = check(checker, tmp_path / "export")
    assert judged.returncode == 0, judged.stderr
    assert (written.size, written.tiles) == (size, len(list(tiles_of(size))))
    assert steps == [(i + 1, written.tiles) for i in range(written.tiles)]


def test_export_under_an_older_checkpoint_holds_the_log_as_it_was_then(
    core: Core, tmp_path: Path, checker: Path
) -> None:
    grow(core, 300)
    old = core.notary.certify()
    grow(core, 900)
    write(core, tmp_path / "old", checkpoint=old)
    write(core, tmp_path / "new")
    for name in ("old", "new"):
        assert check(checker, tmp_path / name).returncode == 0
    judged = check(checker, tmp_path / "new", tmp_path / "old" / "checkpoint")
    assert judged.returncode == 0, judged.stderr


def test_operator_log_can_be_exported_without_disclosures(
    told: Core, tmp_path: Path, checker: Path
) -> None:
    written = write(told, tmp_path / "export", disclosures=None)
    assert written.disclosures == 0
    assert not (tmp_path / "export" / "disclosures.jsonl").exists()
    assert check(checker, tmp_path / "export").returncode == 0


def test_the_explanation_says_what_how_and_how_far(told: Core, tmp_path: Path) -> None:
    write(told, tmp_path / "export")
    text = (tmp_path / "export" / "README.txt").read_text()
    assert told.signer.name in text
    assert public_key(told) in text
    assert "Claims disclosed in this export: method." in text
    assert "tlogcheck" in text
    assert "What it does not prove" in text
    assert "$" not in text
    assert len(text.splitlines()) < 70


def test_a_damaged_log_is_exported_as_it_is_and_rejected(
    told: Core, tmp_path: Path, checker: Path
) -> None:
    with told.database.begin() as session:
        drop_triggers(session.connection())
        session.execute(ledger.entry.update().values(leaf=b"{}").where(ledger.entry.c.idx == 1))
    write(told, tmp_path / "export")
    assert check(checker, tmp_path / "export").returncode == 1


# --- what is disclosed --------------------------------------------------------------------------


def disclosures_in(directory: Path) -> dict[int, list[str]]:
    lines = (directory / "disclosures.jsonl").read_text().splitlines()
    return {line["index"]: line["disclosures"] for line in map(json.loads, lines)}


def test_nothing_that_points_at_a_person_is_disclosed_by_default(
    told: Core, tmp_path: Path
) -> None:
    with told.database.read() as reader:
        subjects = set(reader.scalars(select(event_table.c.subject_ref)))
    write(told, tmp_path / "export")
    everything = b"".join(
        path.read_bytes() for path in (tmp_path / "export").rglob("*") if path.is_file()
    )
    for hidden in (ALICE, BOB, "192.0.2.7", "api_key:test", *subjects):
        assert str(hidden).encode() not in everything
    assert all(len(shown) == 1 for shown in disclosures_in(tmp_path / "export").values())


def test_allowed_claims_are_disclosed_and_belong_to_their_entries(
    told: Core, tmp_path: Path
) -> None:
    every = {"subject", "occurred_at", "method", "actor", "notice", "evidence"}
    write(told, tmp_path / "export", disclosures=Disclosures(told.cipher, may_see=frozenset(every)))
    entries = unbundle((tmp_path / "export/tile/entries/000.p/3").read_bytes())
    told_of = disclosures_in(tmp_path / "export")
    claims = [open_disclosures(read_leaf(leaf), told_of[i]) for i, leaf in enumerate(entries)]
    assert [one["evidence"] for one in claims] == [{"ip": "192.0.2.7"}] * 3
    assert claims[0]["subject"] == claims[2]["subject"] != claims[1]["subject"]


def test_of_the_erased_nothing_is_disclosed(told: Core, tmp_path: Path, checker: Path) -> None:
    with told.database.begin() as session:
        subjects = list(
            session.scalars(data_key.select().with_only_columns(data_key.c.subject_ref))
        )
        session.execute(delete(data_key))
    told.keyring.evict(subjects)
    written = write(told, tmp_path / "export")
    assert (written.size, written.disclosures) == (3, 0)
    assert check(checker, tmp_path / "export").returncode == 0


# --- all or nothing -----------------------------------------------------------------------------


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_there_already_is_never_touched(told: Core, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    target = folder / "export"
    target.mkdir()
    (target / "mine").write_text("keep")
    with pytest.raises(ExportError, match="not empty"):
        write(told, target)
    with pytest.raises(ExportError, match="not a directory"):
        write(told, target / "mine")
    assert left_in(folder) == ["export"]
    assert (target / "mine").read_text() == "keep"


def test_an_empty_directory_or_a_path_to_make_will_do(told: Core, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(told, tmp_path / "empty")
    write(told, tmp_path / "some" / "where" / "new")
    assert (tmp_path / "empty" / "checkpoint").exists()
    assert (tmp_path / "some" / "where" / "new" / "checkpoint").exists()


def test_a_place_that_cannot_be_written_is_refused(told: Core, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        write(told, tmp_path / "file" / "export")


def test_an_interrupted_export_leaves_nothing(told: Core, tmp_path: Path) -> None:
    folder = tmp_path / "here"

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(told, folder / "export", progress=stop)
    assert left_in(folder) == []


def test_a_log_shorter_than_its_checkpoint_is_refused(told: Core, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    note = told.notary.certify()
    with told.database.begin() as session:
        drop_triggers(session.connection())
        session.execute(delete(ledger.entry).where(ledger.entry.c.idx == 2))
    with pytest.raises(LedgerError, match="shorter"):
        write(told, folder / "export", checkpoint=note)
    assert left_in(folder) == []


def test_a_checkpoint_of_another_key_is_refused(told: Core, tmp_path: Path) -> None:
    with pytest.raises(NoteError):
        write(told, tmp_path / "export", vkey=SeedSigner(told.signer.name).vkey)
