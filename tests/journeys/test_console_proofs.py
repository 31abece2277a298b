"""Officers take the proof of a consent away: one ZIP, one record of who took it."""

import io
import json
import re
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, update

from consent import proof_bundle
from consent.models import event
from governance.audit.trail import AuditRecord
from governance.keys.models import data_key
from policies.permissions import Role
from policies.vocabulary import ANY, ChoiceState
from tests.fakes.console import ADDRESS, ALICE, ALICE_PHONE, BOB, PASSWORD, Console, Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MARKETING = "marketing_information"
_FORM = re.compile(
    r'<form class="[^"]*row-acts" method="post" action="(/admin/consent/events/[^"]+/bundle)">'
    r"(.*?)</form>",
    re.DOTALL,
)
_HIDDEN = re.compile(r'name="(\w+)" value="([^"]*)"')


def forms(page: str) -> list[tuple[str, dict[str, str]]]:
    """The address and the fields of each form that hands out a bundle."""
    return [
        (path, {name: value for name, value in _HIDDEN.findall(inner) if name != "csrf_token"})
        for path, inner in _FORM.findall(page)
    ]


def cells(page: str) -> list[tuple[str, dict[str, str]]]:
    return [one for one in forms(page) if "purpose" in one[1]]


def take(visitor: Visitor, form: tuple[str, dict[str, str]]) -> dict[str, Any]:
    """Send the form; the bundle's `proof.json`."""
    path, fields = form
    answer = visitor.send(path, status=200, **fields)
    assert answer.content_type == "application/zip"
    name = path.split("/")[-2]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="proof-{name}.zip"'
    read: dict[str, Any] = json.loads(opened(answer.data)["proof.json"])
    for secret in (ALICE, ALICE_PHONE, BOB, ADDRESS):
        assert all(secret.encode() not in one for one in opened(answer.data).values())
    return read


def opened(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def exports(console: Console) -> list[AuditRecord]:
    with console.services.database.read() as reader:
        records = console.services.trail.read(reader, limit=1000)
    return [one for one in records if one.action == "proof.exported"]


def test_each_recorded_cell_and_each_event_offers_its_bundle(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(ALICE))
    assert [one[1] for one in cells(page)] == [
        {"purpose": MARKETING, "channel": "email"},
        {"purpose": "product_updates", "channel": "email"},
    ]
    assert len(forms(page)) == 2 + 3
    proofs = []
    for form in forms(page):
        visitor.get(console.page_of(ALICE))
        proofs.append(take(visitor, form))
    assert [len(one["events"]) for one in proofs] == [1, 2, 2, 2, 1]
    taken = exports(console)
    assert [one.object for one in taken[::-1]] == [
        f"event:{path.split('/')[-2]}" for path, _ in forms(page)
    ]
    assert {one.actor_role for one in taken} == {"officer"}


def test_identifiers_go_masked_and_evidence_only_where_it_names_nobody(console: Console) -> None:
    console.say(ALICE, ChoiceState.REFUSED, purpose="newsletter", evidence={"form": "footer"})
    visitor = console.staff(Role.AUDITOR)
    page = visitor.get(console.page_of(ALICE))
    proofs = {}
    for form in cells(page):
        visitor.get(console.page_of(ALICE))
        proof = proofs[form[1]["purpose"]] = take(visitor, form)
        assert [one["masked"] for one in proof["subject"]["identifiers"]] == [
            "a•••@e•••.com",
            "+•••20",
        ]
    shown = {
        purpose: "evidence" in one["events"][0]["claims"]
        for purpose, one in proofs.items()
        if purpose != "product_updates"
    }
    # What Alice left in the footer names nobody; her first yes came with an address.
    assert shown == {MARKETING: False, "newsletter": True}


def test_a_page_about_a_past_moment_gives_a_bundle_about_it(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    day = f"{console.clock() - timedelta(days=20):%Y-%m-%d}"
    address = f"{console.page_of(ALICE)}?as_of={day}"
    page = visitor.get(address)
    (form,) = (one for one in cells(page) if one[1]["purpose"] == "product_updates")
    assert form[1]["as_of"].startswith(f"{day}T")
    proof = take(visitor, form)
    assert [one["allow"] for one in proof["statuses"]] == [False, True]
    assert len(proof["events"]) == 2


def test_the_cell_counts_where_one_event_decides_many(console: Console) -> None:
    console.say(ALICE, ChoiceState.WITHDRAWN, purpose=ANY, channel=ANY, notice=None)
    visitor = console.staff(Role.OFFICER)
    page = visitor.get(console.page_of(ALICE))
    (form,) = (one for one in cells(page) if one[1] == {"purpose": MARKETING, "channel": "email"})
    proof = take(visitor, form)
    assert proof["purpose"]["key"] == MARKETING
    assert [one["state"] for one in proof["events"]] == ["granted", "withdrawn"]
    assert proof["statuses"][0]["record_id"] == form[0].split("/")[-2]


@pytest.mark.parametrize("role", Role)
def test_only_those_who_may_are_offered_it_and_get_it(console: Console, role: Role) -> None:
    officer = console.staff(Role.OFFICER)
    (path, fields), *_ = forms(officer.get(console.page_of(ALICE)))
    visitor = console.staff(role)
    visitor.get("/admin")
    if role in (Role.OFFICER, Role.AUDITOR):
        visitor.send(path, status=200, **fields)
        return
    visitor.send(path, status=403, **fields)
    assert exports(console) == []
    if role in (Role.AGENT, Role.APPROVER):
        assert forms(visitor.get(console.page_of(ALICE))) == []


def test_no_foreign_form_takes_a_bundle(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    (path, fields), *_ = forms(visitor.get(console.page_of(ALICE)))
    assert visitor.client.post(path, data=fields).status_code == 400
    assert visitor.client.get(path).status_code == 405
    assert exports(console) == []


def test_without_the_record_there_is_no_bundle(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = console.staff(Role.OFFICER)
    (path, fields), *_ = forms(visitor.get(console.page_of(ALICE)))

    def fails(*_: Any, **__: Any) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(type(console.services.trail), "record", fails)
    answer = visitor.send(path, status=500, **fields)
    assert answer.mimetype == "text/html"


def test_what_cannot_be_made_is_explained_and_not_recorded(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = console.staff(Role.OFFICER)
    (path, fields), *_ = forms(visitor.get(console.page_of(ALICE)))
    nobody = "/admin/consent/events/0190163d-8694-739b-aea5-966c26f8ad91/bundle"

    def said(status: int, path: str = path, **changes: str) -> str:
        visitor.get(console.page_of(BOB))
        return visitor.send(path, status=status, **{**fields, **changes}).text

    assert "There is nothing here" in said(404, nobody)
    assert "There is nothing here" in said(404, purpose="newsletter")
    assert "The policy does not have this" in said(422, purpose="' OR 1=1")
    assert "The policy does not have this" in said(422, channel="fax")
    assert "That moment has not come yet" in said(422, as_of="2999-01-01T00:00:00+00:00")
    for moment in ("soon", "0001-01-01", "2026-01-01T00:00+99:00", "\x00"):
        assert "This cannot be understood" in said(400, as_of=moment)
    monkeypatch.setattr(proof_bundle, "MAX_EVENTS", 0)
    assert "Too much for one bundle" in said(422)
    monkeypatch.undo()
    with console.services.database.begin() as session:
        session.execute(
            update(event)
            .where(event.c.subject_ref == console.people[ALICE])
            .values(sealed=b"\xc1" * 60)
        )
    assert "This cannot be proved" in said(503)
    assert exports(console) == []


def test_of_an_erased_person_there_is_no_bundle(console: Console) -> None:
    visitor = console.staff(Role.OFFICER)
    (path, fields), *_ = forms(visitor.get(console.page_of(ALICE)))
    with console.services.database.begin() as session:
        session.execute(delete(data_key))
    console.services.keyring.evict(list(console.people.values()))
    assert "This was erased" in visitor.send(path, status=410, **fields).text
    assert exports(console) == []


def test_an_officer_takes_a_verified_bundle_in_three_clicks(
    browser: "Browser", shown: tuple[Console, str], tmp_path: Path
) -> None:
    console, address = shown
    console.account("pia", [Role.OFFICER])
    context = browser.new_context(base_url=address, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto("/login")
        page.fill("#login", "pia")
        page.fill("#password", PASSWORD)
        page.click("main button")
        page.fill("#find", ALICE)
        page.press("#find", "Enter")
        page.wait_for_url(f"**{console.page_of(ALICE)}")
        with page.expect_download() as download:
            page.click('button:text("Proof bundle") >> nth=0')
        page.click(".history summary >> nth=0")
        with page.expect_download() as second:
            page.click(".history details[open] button:text('Proof bundle')")
        path = tmp_path / "bundle.zip"
        download.value.save_as(path)
        name = second.value.suggested_filename
    finally:
        context.close()
    assert re.fullmatch(r"proof-[0-9a-f-]{36}\.zip", name)
    script = tmp_path / "verify.py"
    script.write_bytes(opened(path.read_bytes())["verify.py"])
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(script),
            "--key",
            console.services.verifier_key,
            str(path),
        ],
        capture_output=True,
        check=False,
        env={},
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("OK\n")
    assert [one.actor_role for one in exports(console)] == ["officer", "officer"]
