"""Proof bundles by API: who gets one, what is recorded of it, and that a stranger can check it."""

import io
import json
import subprocess
import sys
import zipfile
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from consent import proof_bundle
from consent.ledger.leaf import timestamp
from consent.models import event
from consent.subjects import SubjectRef
from governance.audit.trail import AuditRecord
from governance.keys.models import data_key
from policies.permissions import API_SCOPES, Permission
from tests.fakes.services import MARKETING, Api, person, problem, said

ABOUT = {"purpose": MARKETING, "channel": "email"}


def address(event_id: str) -> str:
    return f"/v1/consent/events/{event_id}/proof"


def recorded(api: Api, *choices: Any) -> tuple[str, str]:
    """The person's ref, and the id of the last event."""
    answer = api.record(person(), *choices)
    return answer["subject"], answer["events"][-1]["id"]


def opened(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def proof_in(data: bytes) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(opened(data)["proof.json"])
    return read


def exports(api: Api) -> list[AuditRecord]:
    with api.services.database.read() as reader:
        records = api.services.trail.read(reader, limit=1000)
    return [one for one in records if one.action == "proof.exported"]


def test_a_bundle_from_the_api_verifies_with_its_own_verifier(
    shared_api: Api, tmp_path: Path
) -> None:
    ref, event_id = recorded(shared_api, said("granted", evidence={"form": "footer"}))
    answer = shared_api.post(address(event_id), {})
    assert (answer.status_code, answer.content_type) == (200, "application/zip")
    assert answer.headers["Content-Disposition"] == (f'attachment; filename="proof-{event_id}.zip"')
    assert answer.headers["Cache-Control"] == "no-store"
    (tmp_path / "bundle.zip").write_bytes(answer.data)
    (tmp_path / "verify.py").write_bytes(opened(answer.data)["verify.py"])
    key = shared_api.services.verifier_key
    asked = ["--key", key, "--person", ref, "--purpose", MARKETING, "--channel", "email"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "verify.py", *asked, "bundle.zip"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={},
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("OK\n")


def test_who_took_it_and_what_is_recorded_before_it_is_sent(shared_api: Api) -> None:
    _, event_id = recorded(shared_api, said("granted"))
    before = len(exports(shared_api))
    answer = shared_api.post(address(event_id), {})
    (taken, *_) = found = exports(shared_api)
    assert len(found) == before + 1
    assert taken.object == f"event:{event_id}"
    assert taken.actor.startswith("api_key:")
    assert taken.details == {
        **ABOUT,
        "events": 1,
        "sha256": sha256(answer.data).hexdigest(),
    }


def test_without_the_record_there_is_no_bundle(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    _, event_id = recorded(api, said("granted"))
    before = api.contents()

    def fails(*_: Any, **__: Any) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(type(api.services.trail), "record", fails)
    problem(api.post(address(event_id), {}), 500, "INTERNAL_ERROR")
    assert api.contents() == before


def test_evidence_goes_to_those_who_may_see_it_and_identifiers_to_no_key(
    shared_api: Api,
) -> None:
    subject = person()
    made = shared_api.record(subject, said("granted", evidence={"form": "footer"}))
    path = address(made["events"][0]["id"])
    for scopes, seen in ((API_SCOPES, True), ({Permission.PROOF_EXPORT}, False)):
        data = shared_api.post(path, {}, headers=shared_api.key(scopes)).data
        assert ("evidence" in proof_in(data)["events"][0]["claims"]) == seen
        assert proof_in(data)["subject"]["identifiers"] == []
        assert all(subject["email"].encode() not in one for one in opened(data).values())


def test_a_withdrawal_from_everything_proves_the_consent_that_is_named(shared_api: Api) -> None:
    subject = person()
    shared_api.record(subject, said("granted"))
    shared_api.record(subject, said("granted", "product_updates"))
    stop = shared_api.record(subject, said("withdrawn", "*", "*", notice=None))
    path = address(stop["events"][0]["id"])
    proof = proof_in(shared_api.post(path, ABOUT).data)
    assert (proof["purpose"]["key"], proof["channel"]) == (MARKETING, "email")
    assert [one["state"] for one in proof["events"]] == ["granted", "withdrawn"]
    (status,) = proof["statuses"]
    assert (status["allow"], status["record_id"]) == (False, stop["events"][0]["id"])


def test_an_event_proves_no_consent_that_it_does_not_bear_on(shared_api: Api) -> None:
    _, event_id = recorded(shared_api, said("granted"))
    before = len(exports(shared_api))
    for about, status, reason in (
        ({"purpose": "product_updates", "channel": "email"}, 404, "EVENT_UNKNOWN"),
        ({"purpose": "nothing_of_ours", "channel": "email"}, 422, "PURPOSE_UNKNOWN"),
        ({"purpose": MARKETING, "channel": "social"}, 422, None),
        ({"purpose": "newsletter", "channel": "sms"}, 422, "CHANNEL_NOT_COVERED"),
    ):
        answer = shared_api.post(address(event_id), about)
        problem(answer, status, reason or answer.get_json()["reason"])
    assert len(exports(shared_api)) == before


def test_the_status_as_of_an_instant_is_told_besides(api: Api) -> None:
    subject = person()
    made = api.record(subject, said("granted"))
    then = api.clock()
    api.clock.set(then + timedelta(days=1))
    api.record(subject, said("withdrawn", notice=None))
    path = address(made["events"][0]["id"])
    proof = proof_in(api.post(path, {"as_of": timestamp(then)}).data)
    assert [one["allow"] for one in proof["statuses"]] == [False, True]
    ahead = timestamp(api.clock() + timedelta(days=1))
    problem(api.post(path, {"as_of": ahead}), 422, "AS_OF_IN_FUTURE")


def test_what_cannot_be_proved_is_said_and_not_recorded(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, event_id = recorded(api, said("granted"))
    nobody = address("01a2013e-3610-7233-a1c9-2a1f55281f18")
    problem(api.post(nobody, {}), 404, "EVENT_UNKNOWN")
    monkeypatch.setattr(proof_bundle, "MAX_EVENTS", 0)
    problem(api.post(address(event_id), {}), 422, "TOO_MANY_EVENTS")
    monkeypatch.undo()
    with api.services.database.begin() as session:
        session.execute(update(event).values(sealed=b"\xc1" * 60))
    problem(api.post(address(event_id), {}), 503, "LEDGER_ERROR")
    assert exports(api) == []


def test_of_an_erased_person_there_is_no_bundle(api: Api) -> None:
    ref, event_id = recorded(api, said("granted"))
    with api.services.database.begin() as session:
        session.execute(delete(data_key))
    api.services.keyring.evict([SubjectRef(ref)])
    problem(api.post(address(event_id), {}), 410, "EVIDENCE_ERASED")
    assert exports(api) == []
