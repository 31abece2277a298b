"""The proof bundle: what is in it, and that a stranger can check it with Python alone."""

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import delete

from consent import proof_verifier
from consent.choices import NewEvent, choice, confirmation
from consent.errors import (
    EvidenceErasedError,
    InvalidInstantError,
    LedgerError,
    UnknownEventError,
)
from consent.ledger.checkpoint import vkey
from consent.proof_bundle import Maker, ProofBundle, ProofBundles
from consent.receipts import Receipts
from consent.signed_documents import as_text, signed
from governance.keys.models import data_key
from policies.vocabulary import ANY, ChoiceState
from tests.fakes.core import MARKETING, NOTICE, Core
from tests.fakes.notices import SINCE, publish, words
from tests.fakes.tampering import drop_triggers

GRANTED, REFUSED, WITHDRAWN, OBJECTED = ChoiceState
ALICE, BOB = "alice@example.com", "bob@example.com"
EVERYTHING = frozenset(
    {"subject", "occurred_at", "method", "actor", "notice", "confirms", "evidence"}
)
FILES = {
    "README.txt",
    "manifest.json",
    "proof.json",
    "proof.pdf",
    "verify.py",
    "vkey",
}


def bundles_of(core: Core) -> ProofBundles:
    receipts = Receipts(
        core.log, core.cipher, core.notary, core.checkpoints, core.signer, lambda: core.policies
    )
    maker = Maker("Example Shop", "Tutela 0.1.0")
    return ProofBundles(
        receipts, core.checker, core.notices, core.signer, lambda: core.policies, maker
    )


def make(core: Core, event_id: str, seen: frozenset[str] = EVERYTHING, **more: Any) -> ProofBundle:
    bundles = bundles_of(core)
    note = bundles.newest_note()
    with core.database.snapshot() as reader:
        return bundles.make(
            reader, event_id, note, now=core.clock(), may_see=lambda _: seen, **more
        )


def said(core: Core, event: NewEvent, who: str = ALICE) -> str:
    return core.record(who, event).events[0].id


def history(core: Core) -> str:
    """Alice says yes and no to one purpose, and other things besides; Bob says yes."""
    first = said(core, replace(core.said(GRANTED), evidence={"form": "footer", "score": 0.5}))
    said(core, core.said(GRANTED, purpose="product_updates"))
    said(core, core.said(GRANTED, channel="phone"))
    said(core, core.said(GRANTED), BOB)
    said(core, core.said(WITHDRAWN))
    said(core, choice(core.policies, purpose=ANY, channel=ANY, state=WITHDRAWN))
    return first


def twice(grant_id: str) -> NewEvent:
    """The second step of a double opt-in."""
    return confirmation(purpose=MARKETING, channel="email", grant_id=grant_id, method="link")


def files_of(bundle: ProofBundle) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def verify(
    folder: Path, files: Mapping[str, bytes], *options: str
) -> "subprocess.CompletedProcess[str]":
    """In a process of its own that has Python and nothing else."""
    for name, data in files.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    script = folder / "trusted.py"
    script.write_bytes(Path(proof_verifier.__file__).read_bytes())
    return subprocess.run(
        [sys.executable, "-I", "-S", str(script), *options, str(folder / "bundle")],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={},
        timeout=60,
    )


def refused(files: Mapping[str, bytes], **wanted: str) -> str:
    with pytest.raises(proof_verifier.Refused) as caught:
        proof_verifier.check(dict(files), wanted=wanted)
    return str(caught.value)


def proof_of(files: Mapping[str, bytes]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(files["proof.json"])
    return read


# --- what is in it -----------------------------------------------------------------------------


def test_it_holds_exactly_what_shows_this_consent(core: Core) -> None:
    files = files_of(make(core, history(core)))
    pages = {"notices/01-en.html"}
    proofs = {f"events/{number:04}.tlog-proof" for number in (1, 2, 3)}
    assert files.keys() == FILES | pages | proofs
    proof = proof_of(files)
    assert [event["state"] for event in proof["events"]] == ["granted", "withdrawn", "withdrawn"]
    assert {event["purpose"] for event in proof["events"]} == {MARKETING, ANY}
    (status,) = proof["statuses"]
    assert (status["allow"], status["reason"]) == (False, "WITHDRAWN")
    (notice,) = proof["notices"]
    assert notice["text"].startswith("We write to you.")
    assert notice["hash"].startswith("sha256:")
    everything = b"".join(data for name, data in files.items() if name != "proof.pdf")
    for foreign in (b"product_updates", b'"phone"', ALICE.encode(), BOB.encode()):
        assert foreign not in everything


def test_status_as_of_an_instant_stands_beside_that_of_now(core: Core) -> None:
    event_id = said(core, core.said(GRANTED))
    then = core.clock()
    core.clock.set(then + timedelta(days=2))
    said(core, core.said(WITHDRAWN))
    proof = proof_of(files_of(make(core, event_id, as_of=then)))
    assert [one["allow"] for one in proof["statuses"]] == [False, True]
    with pytest.raises(InvalidInstantError):
        make(core, event_id, as_of=core.clock() + timedelta(days=1))


def test_double_opt_in_is_in_it(core: Core) -> None:
    asked = said(core, core.said(GRANTED))
    said(core, twice(asked))
    proof = proof_of(files_of(make(core, asked)))
    assert [event["type"] for event in proof["events"]] == ["choice", "confirmation"]
    assert proof["events"][1]["claims"]["confirms"] == asked


def test_the_same_facts_make_the_same_bytes(core: Core) -> None:
    event_id = history(core)
    assert make(core, event_id) == make(core, event_id)


def test_nothing_is_disclosed_that_its_reader_may_not_see(core: Core) -> None:
    event_id = history(core)
    files = files_of(make(core, event_id, frozenset()))
    assert b"footer" not in b"".join(files.values())
    proof = proof_of(files)
    assert {frozenset(event["claims"]) for event in proof["events"]} == {frozenset({"subject"})}
    assert proof["subject"]["identifiers"] == []
    proof_verifier.check(files)


def test_masked_identifiers_go_along_where_they_may(core: Core) -> None:
    event_id = history(core)
    files = files_of(make(core, event_id, identifiers=lambda _: [("E-mail", "a•••@e•••.com")]))
    assert proof_of(files)["subject"]["identifiers"][0]["masked"] == "a•••@e•••.com"
    proof_verifier.check(files)


# --- the document ------------------------------------------------------------------------------


def test_the_document_is_tagged_titled_and_in_reading_order(core: Core) -> None:
    pdf = files_of(make(core, history(core)))["proof.pdf"]
    with pikepdf.open(io.BytesIO(pdf)) as document:
        assert document.Root.MarkInfo.Marked
        assert str(document.Root.Lang) == "en"
        assert document.Root.ViewerPreferences.DisplayDocTitle
        with document.open_metadata() as metadata:
            assert metadata["pdfuaid:part"] == "1"
            assert metadata["dc:title"] == "Proof of one consent"
        tags = list(tags_of(document.Root.StructTreeRoot))
        order = [tag for tag in tags if tag in {"Title", "H1", "H2"}]
        assert order[:3] == ["Title", "H1", "H1"]
        assert order.count("H2") == 3 + 1
        assert "L" in tags
        fonts = [one for page in document.pages for one in page.Resources.Font.values()]
        for font in fonts:
            described = font.DescendantFonts[0].FontDescriptor
            assert "/FontFile2" in described or "/FontFile3" in described


def tags_of(node: Any) -> Any:
    if isinstance(node, pikepdf.Array):
        for one in node:
            yield from tags_of(one)
    elif isinstance(node, pikepdf.Dictionary):
        if "/S" in node:
            yield str(node.S)[1:]
        if "/K" in node:
            yield from tags_of(node.K)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("ar", "نكتب إليك."),
        ("ja", "お知らせを送ります。😀"),
        ("de", "Wir schreiben Ihnen."),
    ],
)
def test_words_in_any_script_can_be_proved(core: Core, language: str, text: str) -> None:
    own = replace(words(language, "4"), text=text)
    with core.database.begin() as session:
        publish(
            session,
            core.policies,
            "4",
            now=core.clock(),
            effective_from=SINCE + timedelta(days=1),
            languages=(language,),
            said={language: own},
        )
    told = replace(NOTICE, version="4", language=language)
    files = files_of(make(core, said(core, replace(core.said(GRANTED), notice=told))))
    assert proof_of(files)["notices"][0]["text"] == text
    assert text in files[f"notices/01-{language}.html"].decode()
    assert files["proof.pdf"].startswith(b"%PDF-")
    proof_verifier.check(files)


# --- checking it, as a stranger would ----------------------------------------------------------


def test_it_verifies_in_a_process_without_this_service(core: Core, tmp_path: Path) -> None:
    bundle = make(core, history(core))
    key = vkey(core.signer.name, core.signer.public_key)
    done = verify(
        tmp_path, files_of(bundle), "--key", key, "--person", bundle.subject, "--channel", "email"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("OK\n")
    (tmp_path / "bundle.zip").write_bytes(bundle.data)
    own = tmp_path / "bundle" / "verify.py"
    for target in ([str(tmp_path / "bundle.zip")], []):
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(own), *target],
            capture_output=True,
            check=False,
            timeout=60,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        assert "compare it with one that you got elsewhere" in done.stdout


def test_one_changed_byte_in_any_file_is_named(core: Core, tmp_path: Path) -> None:
    files = files_of(make(core, history(core)))
    for name, data in files.items():
        for at in (0, len(data) // 2, len(data) - 1):
            changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            assert refused({**files, name: changed}).startswith(name), (name, at)
    name = "events/0002.tlog-proof"
    changed = files[name].replace(b"index ", b"index 1")
    done = verify(tmp_path, {**files, name: changed})
    assert (done.returncode, done.stdout) == (1, f"FAILED {name}: it was changed\n")


def test_a_changed_byte_anywhere_in_the_zip_is_noticed(core: Core, tmp_path: Path) -> None:
    data = make(core, history(core)).data
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (one,) = (info for info in archive.infolist() if info.filename == "proof.json")
        at = one.header_offset + 400
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(proof_verifier.Refused, match=r"^proof\.json: it was changed"):
        proof_verifier.check(proof_verifier.read(path))


def test_files_that_are_missing_or_too_many_are_named(core: Core) -> None:
    files = files_of(make(core, history(core)))
    for name in files:
        rest = {one: data for one, data in files.items() if one != name}
        assert refused(rest).startswith(f"{name}: it is missing")
    assert refused({**files, "more.txt": b""}).startswith("more.txt: it does not belong")


def test_a_bundle_about_somebody_or_something_else_is_refused(core: Core) -> None:
    first = make(core, history(core))
    other = make(core, said(core, core.said(GRANTED), BOB))
    assert "another person" in refused(files_of(other), person=first.subject)
    assert "another purpose" in refused(files_of(first), purpose="product_updates")
    assert "another channel" in refused(files_of(first), channel="sms")
    mine, theirs = files_of(first), files_of(other)
    swapped = {**mine, "events/0001.tlog-proof": theirs["events/0001.tlog-proof"]}
    assert refused(swapped).startswith("events/0001.tlog-proof: it was changed")


def resigned(core: Core, files: dict[str, bytes]) -> dict[str, bytes]:
    """The bundle as somebody who has the signing key would forge it."""

    listed = [
        {"name": name, "sha256": sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
        if name != "manifest.json"
    ]
    return {**files, "manifest.json": as_text(signed({"files": listed}, core.signer)).encode()}


def test_reordered_and_foreign_events_are_refused_though_the_manifest_fits(core: Core) -> None:
    files = files_of(make(core, history(core)))
    theirs = files_of(make(core, said(core, core.said(GRANTED), BOB)))
    proof = proof_of(files)
    first, second, third = proof["events"]
    forged = {**proof, "events": [second, first, third]}
    reordered = resigned(core, {**files, "proof.json": json.dumps(forged).encode()})
    assert "not at its place in the order" in refused(reordered)
    swapped = [{**first, "proof": second["proof"]}, {**second, "proof": first["proof"]}, third]
    renamed = resigned(
        core, {**files, "proof.json": json.dumps({**proof, "events": swapped}).encode()}
    )
    assert "not at its place in the order" in refused(renamed)
    foreign = {**proof, "events": proof_of(theirs)["events"][:1]}
    name = "events/0001.tlog-proof"
    mixed = resigned(
        core, {**files, name: theirs[name], "proof.json": json.dumps(foreign).encode()}
    )
    assert "another person's" in refused(mixed)
    edited = {**proof, "events": [{**first, "state": "refused"}, second, third]}
    assert "differs from the log in 'state'" in refused(
        resigned(core, {**files, "proof.json": json.dumps(edited).encode()})
    )


def test_another_key_is_refused(core: Core) -> None:
    files = files_of(make(core, history(core)))
    with pytest.raises(proof_verifier.Refused, match="not the key that you gave"):
        proof_verifier.check(files, key="example.com/log+00000000+AAAA")


def test_junk_is_refused_with_a_sentence(core: Core, tmp_path: Path) -> None:
    files = files_of(make(core, history(core)))
    for junk in (b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"files": 1}'):
        assert refused({**files, "manifest.json": junk}).startswith("manifest.json")
        assert refused(resigned(core, {**files, "proof.json": junk})).startswith("proof.json")
    lists: tuple[Any, ...] = (None, 1, [1], [{"name": []}])
    for listed in lists:
        forged = as_text(signed({"files": listed}, core.signer)).encode()
        assert refused({**files, "manifest.json": forged}).startswith("manifest.json")
    path = tmp_path / "no.zip"
    path.write_bytes(b"no ZIP")
    with pytest.raises(proof_verifier.Refused, match="cannot be read"):
        proof_verifier.read(path)


# --- signatures --------------------------------------------------------------------------------


def test_signatures_are_judged_as_openssl_judges_them() -> None:
    own = Ed25519PrivateKey.generate()
    public = own.public_key().public_bytes_raw()
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for length in (0, 1, 64, 1000):
        message = os.urandom(length)
        signature = own.sign(message)
        assert proof_verifier.ed25519(public, message, signature)
        scalar = int.from_bytes(signature[32:], "little") + proof_verifier.ORDER
        for key, words_signed, forged in (
            (other, message, signature),
            (public, message + b"\0", signature),
            (public, message, signature[:-1]),
            (public, message, signature[:32] + scalar.to_bytes(32, "little")),
            (public, message, bytes([signature[0] ^ 1]) + signature[1:]),
            (public, message, signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]),
            (b"\xff" * 32, message, signature),
            (public[:-1], message, signature),
        ):
            assert not proof_verifier.ed25519(key, words_signed, forged)


# --- what cannot be made -----------------------------------------------------------------------


def test_there_is_no_bundle_of_what_is_not_there(core: Core) -> None:
    event_id = history(core)
    with pytest.raises(UnknownEventError):
        make(core, "0190a1b2-0000-7000-8000-000000000000")
    with core.database.begin() as session:
        session.execute(delete(data_key))
    with pytest.raises(EvidenceErasedError):
        make(core, event_id)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("ledger_entry", "UPDATE ledger_entry SET leaf = leaf_hash"),
        ("consent_event", "UPDATE consent_event SET purpose = 'marketing_information'"),
        ("consent_notice_words", "UPDATE consent_notice_words SET text = 'We write to nobody.'"),
    ],
)
def test_nothing_that_was_tampered_with_gets_a_bundle(core: Core, table: str, change: str) -> None:
    event_id = history(core)
    with core.database.begin() as session:
        connection = session.connection()
        drop_triggers(connection)
        if table == "consent_notice_words":
            on_sqlite = connection.dialect.name == "sqlite"
            trigger = f"{table}_refuses_{'update' if on_sqlite else f'change ON {table}'}"
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        connection.exec_driver_sql(change)
    with pytest.raises(LedgerError):
        make(core, event_id)
