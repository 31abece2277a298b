"""Receipts: what they say, to whom, and that others can check them with our public key alone."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import rfc8785
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import OKPKey
from sqlalchemy import delete

from consent.choices import NewEvent, choice, confirmation, signal, suppression
from consent.errors import EvidenceErasedError, LedgerError, UnknownEventError
from consent.ledger.checkpoint import parse_vkey, vkey
from consent.ledger.leaf import digest, open_disclosures, read_leaf
from consent.ledger.tlog_proof import TlogProof
from consent.models import event as event_table
from consent.receipt_forms import CONTEXT
from consent.receipts import Receipt, ReceiptFormat, Receipts
from consent.signed_documents import SIGNATURE
from governance.keys.models import data_key
from policies.vocabulary import ANY, ChoiceState, MarkState
from tests.fakes.core import MARKETING, NOTICE, Core
from tests.fakes.tampering import drop_triggers

GRANTED, REFUSED, WITHDRAWN, OBJECTED = ChoiceState
ALICE = "alice@example.com"
ALL = frozenset(
    {
        "subject",
        "occurred_at",
        "claimed_at",
        "method",
        "actor",
        "notice",
        "ends_at",
        "confirms",
        "confirmed_at",
        "child_without_authority",
        "evidence",
    }
)
NOTHING: frozenset[str] = frozenset()

# Terms that the guide for ISO/IEC TS 27560 uses and whose modules the vectors do not hold.
OF_THE_GUIDE = """
    Authority ConsentReceipt ConsentRecord DataSubject IndeterminateDuration LegalEntity
    NotAvailable PersonalData Process Processing ProcessingLocation Rule
    SpecialCategoryPersonalData StorageDuration StorageLocation UntilEventDuration
    UntilTimeDuration hasAddress hasApplicability hasAuthority hasConsentControl hasConsentStatus
    hasContact hasDataSource hasDataSubject hasDuration hasIdentifier hasJurisdiction hasName
    hasNecessity hasPersonalData hasProcess hasProcessing hasProcessingCondition
    hasRepresentative hasRule hasStorageCondition
"""


@pytest.fixture
def receipts(core: Core) -> Receipts:
    return receipts_of(core)


def receipts_of(core: Core) -> Receipts:
    return Receipts(
        core.log, core.cipher, core.notary, core.checkpoints, core.signer, lambda: core.policies
    )


def issue(
    core: Core,
    receipts: Receipts,
    event_id: str,
    form: ReceiptFormat = ReceiptFormat.TS27560,
    may_see: frozenset[str] = ALL,
) -> Receipt:
    with core.database.snapshot() as reader:
        return receipts.issue(reader, event_id, form, may_see)


def said(core: Core, event: NewEvent, who: str = ALICE) -> str:
    return core.record(who, event).events[0].id


def grant(core: Core, **more: Any) -> NewEvent:
    return choice(
        core.policies,
        purpose=MARKETING,
        channel="email",
        state=GRANTED,
        method="web_form",
        notice=NOTICE,
        evidence={"ip": "192.0.2.7", "score": 0.5},
        **more,
    )


def public_key(core: Core) -> str:
    return vkey(core.signer.name, core.signer.public_key)


# --- checking, as a stranger would --------------------------------------------------------------


def check_signature(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Verify a receipt's signature with joserfc and an independent RFC 8785 encoder."""
    verifier = parse_vkey(key)
    x = base64.urlsafe_b64encode(verifier.public_key).rstrip(b"=").decode()
    payload = rfc8785.dumps({k: v for k, v in document.items() if k != SIGNATURE})
    token = jws.deserialize_compact(
        document[SIGNATURE],
        OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x}),
        algorithms=["Ed25519"],
        payload=payload,
    )
    assert token.headers()["kid"] == verifier.name
    return document


def check_proof(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Verify that the leaf is in the signed log and commits to the disclosures."""
    entry = document["tutela:ledgerEntry"]
    leaf = entry["tutela:leaf"].encode()
    proof = TlogProof.parse(entry["tutela:tlogProof"])
    assert proof.index == entry["tutela:index"]
    proof.verify(leaf, [parse_vkey(key)])
    fields = read_leaf(leaf)
    assert all(digest(one) in fields["_sd"] for one in entry["tutela:disclosures"])
    return fields


def test_receipt_verifies_with_nothing_but_the_public_key(core: Core, receipts: Receipts) -> None:
    event_id = said(core, grant(core))
    receipt = issue(core, receipts, event_id)
    assert receipt.media_type == "application/ld+json"
    document = check_signature(json.loads(receipt.body), public_key(core))
    leaf = check_proof(document, public_key(core))
    claims = open_disclosures(leaf, document["tutela:ledgerEntry"]["tutela:disclosures"])
    assert claims["evidence"] == {"ip": "192.0.2.7", "score": 0.5}
    assert leaf["id"] == event_id == document["dct:identifier"]


def test_the_documented_way_of_checking_works(
    core: Core, receipts: Receipts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "receipts.md").read_text()
    _, _, rest = page.partition("```python\n")
    program, _, _ = rest.partition("```")
    monkeypatch.chdir(tmp_path)
    Path("receipt.json").write_text(issue(core, receipts, said(core, grant(core))).body)
    Path("vkey").write_text(f"{public_key(core)}\n")
    run = [sys.executable, "-W", "error::SyntaxWarning", "-c", program]
    subprocess.run(run, check=True)
    Path("receipt.json").write_text(Path("receipt.json").read_text().replace("web_form", "mail"))
    assert subprocess.run(run, check=False, capture_output=True).returncode == 1


def test_one_changed_word_breaks_the_signature(core: Core, receipts: Receipts) -> None:
    document = json.loads(issue(core, receipts, said(core, grant(core))).body)
    document["dpv:hasConsentStatus"]["dpv:hasIndicationMethod"] = "telephone"
    with pytest.raises(BadSignatureError):
        check_signature(document, public_key(core))


def test_bare_proof_carries_the_leaf(core: Core, receipts: Receipts) -> None:
    for _ in range(3):
        said(core, grant(core), "bob@example.com")
    receipt = issue(core, receipts, said(core, grant(core)), ReceiptFormat.TLOG_PROOF)
    assert receipt.media_type == "text/plain; charset=utf-8"
    proof = TlogProof.parse(receipt.body)
    assert proof.extra is not None
    assert proof.index == 3
    assert proof.verify(proof.extra, [parse_vkey(public_key(core))]).size > 3


def test_receipt_of_an_old_event_leads_to_the_newest_checkpoint(
    core: Core, receipts: Receipts
) -> None:
    first = said(core, grant(core))
    for _ in range(6):
        said(core, grant(core), "bob@example.com")
    proof = TlogProof.parse(issue(core, receipts, first, ReceiptFormat.TLOG_PROOF).body)
    assert proof.extra is not None
    assert proof.verify(proof.extra, [parse_vkey(public_key(core))]).size == 7


# --- who may see what ---------------------------------------------------------------------------


def test_reader_who_may_see_nothing_learns_nothing_of_the_person(
    core: Core, receipts: Receipts
) -> None:
    subject = core.record(ALICE, grant(core)).subject
    event_id = said(core, grant(core))
    for form in ReceiptFormat:
        body = issue(core, receipts, event_id, form, NOTHING).body
        for hidden in (subject, ALICE, "web_form", "192.0.2.7", "api_key:test"):
            assert hidden not in body
    document = json.loads(issue(core, receipts, event_id, may_see=NOTHING).body)
    assert document["tutela:ledgerEntry"]["tutela:disclosures"] == []
    check_proof(check_signature(document, public_key(core)), public_key(core))


def test_only_allowed_claims_are_disclosed(core: Core, receipts: Receipts) -> None:
    recorded = core.record(ALICE, grant(core))
    may_see = frozenset({"subject", "occurred_at"})
    body = issue(core, receipts, recorded.events[0].id, may_see=may_see).body
    document = json.loads(body)
    assert len(document["tutela:ledgerEntry"]["tutela:disclosures"]) == 2
    assert document["dpv:hasDataSubject"]["dct:identifier"] == recorded.subject
    assert "192.0.2.7" not in body


def test_no_identifier_is_in_a_receipt_whatever_its_reader_may_see(
    core: Core, receipts: Receipts
) -> None:
    event_id = said(core, grant(core))
    for form in ReceiptFormat:
        assert "alice" not in issue(core, receipts, event_id, form).body


# --- what it says -------------------------------------------------------------------------------


def document_of(core: Core, event: NewEvent, may_see: frozenset[str] = ALL) -> dict[str, Any]:
    receipt = issue(core, receipts_of(core), said(core, event), may_see=may_see)
    document: dict[str, Any] = json.loads(receipt.body)
    return document


def status_of(core: Core, event: NewEvent) -> str:
    return str(document_of(core, event)["dpv:hasConsentStatus"]["@type"])


@pytest.mark.parametrize(
    ("state", "term"),
    [
        (GRANTED, "dpv:ConsentGiven"),
        (REFUSED, "dpv:ConsentRefused"),
        (WITHDRAWN, "dpv:ConsentWithdrawn"),
        (OBJECTED, "dpv:ConsentWithdrawn"),
    ],
)
def test_status_is_that_of_the_choice(core: Core, state: ChoiceState, term: str) -> None:
    assert status_of(core, core.said(state)) == term


def test_grant_that_awaits_its_confirmation_is_a_request(core: Core) -> None:
    pending = core.said(GRANTED, purpose="newsletter")
    assert status_of(core, pending) == "dpv:ConsentRequested"
    confirmed = confirmation(
        purpose="newsletter", channel="email", grant_id=pending.id, method="link"
    )
    assert status_of(core, confirmed) == "dpv:ConsentGiven"
    at_once = replace(core.said(GRANTED, purpose="newsletter"), confirmed_at=core.clock())
    assert status_of(core, at_once) == "dpv:ConsentGiven"


def test_grant_by_a_child_without_authority_is_not_called_valid(core: Core) -> None:
    by_a_child = choice(
        core.policies,
        purpose=MARKETING,
        channel="email",
        state=GRANTED,
        notice=NOTICE,
        evidence={"age": 12},
    )
    assert status_of(core, by_a_child) == "dpv:ConsentInvalidated"


def test_marks_have_a_status_too(core: Core) -> None:
    assert status_of(core, suppression(MarkState.SET, method="officer")) == "dpv:ConsentRevoked"
    lifted = suppression(MarkState.LIFTED, method="officer")
    assert status_of(core, lifted) == "dpv:ConsentUnknown"
    gpc = signal("gpc", MarkState.SET, method="header")
    assert status_of(core, gpc) == "dpv:ConsentWithdrawn"


def test_withdrawal_of_everything_names_every_purpose_of_the_channel(core: Core) -> None:
    everything = choice(core.policies, purpose=ANY, channel="post", state=WITHDRAWN)
    document = document_of(core, everything)
    named = {one["dpv:hasPurpose"]["dct:identifier"] for one in document["dpv:hasProcess"]}
    assert named == {key for key, rule in core.policies.purposes.items() if "post" in rule.channels}


def test_objection_is_called_what_the_legal_basis_makes_it(core: Core) -> None:
    key, channel = next(
        (rule.key, min(rule.channels))
        for rule in core.policies.purposes.values()
        if rule.legal_basis == "legitimate_interests"
    )
    document = document_of(core, core.said(OBJECTED, purpose=key, channel=channel))
    status = document["dpv:hasConsentStatus"]
    assert status["dpv:hasStatus"] == {"@id": "dpv:LegitimateInterestObjected"}
    assert {"@id": "eu-gdpr:A21"} in document["dpv:hasRight"]
    assert {"@id": "eu-gdpr:A6-1-f"} in document["dpv:hasProcess"][0]["dpv:hasLegalBasis"]


def test_validity_ends_with_the_first_that_ends_it(core: Core) -> None:
    by_policy = document_of(core, grant(core))["dpv:hasConsentStatus"]["dpv:hasDuration"]
    rule = core.policies.purposes[MARKETING]
    assert rule.expires_after is not None
    assert by_policy["@type"] == "dpv:UntilTimeDuration"
    assert datetime.fromisoformat(by_policy["rdf:value"]) == rule.expires_after.after(core.clock())
    sooner = core.clock() + timedelta(days=30)
    by_words = document_of(core, grant(core, ends_at=sooner))
    value = by_words["dpv:hasConsentStatus"]["dpv:hasDuration"]["rdf:value"]
    assert datetime.fromisoformat(value) == sooner


def test_purpose_that_left_the_policy_is_named_and_not_described(core: Core) -> None:
    event_id = said(core, grant(core))
    fewer = {key: rule for key, rule in core.policies.purposes.items() if key != MARKETING}
    later = replace(core.policies, hash="sha256:later", purposes=fewer)
    receipts = Receipts(
        core.log, core.cipher, core.notary, core.checkpoints, core.signer, lambda: later
    )
    document = json.loads(issue(core, receipts, event_id).body)
    (process,) = document["dpv:hasProcess"]
    assert process["dpv:hasPurpose"]["dct:identifier"] == MARKETING
    assert document["tutela:recordedUnderPolicy"] == core.policies.hash
    assert document["tutela:describedByPolicy"] == "sha256:later"
    assert_fields_of_27560(document)


def every_sort_of_event(core: Core) -> Iterator[NewEvent]:
    for state in ChoiceState:
        yield core.said(state)
    yield choice(core.policies, purpose=ANY, channel=ANY, state=WITHDRAWN)
    yield suppression(MarkState.SET, method="officer")
    yield signal("gpc", MarkState.LIFTED, method="header")
    for rule in core.policies.purposes.values():
        state = GRANTED if rule.legal_basis == "consent" else OBJECTED
        yield core.said(state, purpose=rule.key, channel=min(rule.channels))


def assert_fields_of_27560(document: dict[str, Any]) -> None:
    """Every field that ISO/IEC TS 27560 or the GDPR wants is there, stated or "not available"."""
    for field in (
        "dct:conformsTo",  # schema_version
        "dct:identifier",  # record_id
        "dpv:hasIdentifier",  # receipt_id
        "dpv:hasDataSubject",  # pii_principal_id
        "dpv:hasNotice",  # privacy_notice, language
        "dpv:hasDataController",  # pii_controllers
        "dpv:hasJurisdiction",
        "dpv:hasConsentControl",  # withdrawal_method
        "dpv:hasRight",  # privacy_rights
        "dpv:hasAuthority",  # authority_party
    ):
        assert document[field], field
    assert document["dpv:hasNotice"]["dct:language"]
    for process in document["dpv:hasProcess"]:
        if "dpv:hasApplicability" in process:
            continue
        for field in (
            "dpv:hasPurpose",
            "dpv:hasLegalBasis",
            "dpv:hasPersonalData",
            "dpv:hasDataSource",  # collection_method
            "dpv:hasProcessing",  # processing_method
            "dpv:hasStorageCondition",  # storage_locations, retention_period
            "dpv:hasProcessingCondition",  # processing_locations
            "dpv:hasRule",  # geographic_restrictions
            "dpv:hasRecipient",  # recipient_third_parties
        ):
            assert process[field], field
    event = document["dpv:hasConsentStatus"]
    for field in (
        "@type",  # event_state
        "dpv:isIndicatedAtTime",  # event_time
        "dpv:hasDuration",  # validity_duration
        "dpv:isIndicatedBy",  # entity_id
        "dpv:hasLegalBasis",  # event_type
        "dpv:hasIndicationMethod",
    ):
        assert event[field], field


def terms_of(value: Any) -> Iterator[str]:
    """Every compact IRI in a JSON-LD document: properties, types and references."""
    if isinstance(value, list):
        for item in value:
            yield from terms_of(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "@type":
                yield from item if isinstance(item, list) else [item]
            elif key == "@id":
                yield item
            elif key != "@context":
                yield key
                yield from terms_of(item)


@pytest.mark.parametrize("may_see", [ALL, NOTHING], ids=["everything", "nothing"])
def test_every_receipt_is_complete_json_ld_in_terms_that_dpv_has(
    core: Core, shared: Path, may_see: frozenset[str]
) -> None:
    vectors = json.loads((shared / "vectors" / "dpv" / "dpv-2.3-terms.json").read_text())
    known = {"dpv": set(OF_THE_GUIDE.split()), "eu-gdpr": set()}
    for module, terms in vectors.items():
        if isinstance(terms, list):
            space = "eu-gdpr" if module.startswith("eu_gdpr") else "dpv"
            known[space] |= {one["term"] for one in terms}
    for event in every_sort_of_event(core):
        document = document_of(core, event, may_see)
        assert_fields_of_27560(document)
        assert document["@context"] == CONTEXT
        for term in terms_of(document):
            prefix, _, name = term.partition(":")
            if prefix not in {"urn", "https"}:
                assert prefix in CONTEXT, term
                assert name in known.get(prefix, {name}), term


def test_kantara_receipts_fit_the_published_schema(
    core: Core, receipts: Receipts, shared: Path
) -> None:
    schema = json.loads((shared / "vectors" / "kantara" / "schema-clean.json").read_text())
    validator = jsonschema_rs.validator_for(schema)
    for event in every_sort_of_event(core):
        event_id = said(core, event)
        for may_see in (ALL, NOTHING):
            receipt = issue(core, receipts, event_id, ReceiptFormat.KANTARA, may_see)
            assert receipt.media_type == "application/json"
            validator.validate(json.loads(receipt.body))


def test_kantara_receipt_says_who_why_and_how_long(core: Core, receipts: Receipts) -> None:
    recorded = core.record(ALICE, grant(core))
    body = issue(core, receipts, recorded.events[0].id, ReceiptFormat.KANTARA).body
    document = json.loads(body)
    assert document["piiPrincipalId"] == recorded.subject
    assert document["consentTimestamp"] == int(core.clock().timestamp())
    assert document["collectionMethod"] == "web_form"
    assert document["language"] == NOTICE.language
    (purpose,) = document["services"][0]["purposes"]
    assert purpose["consentType"] == "EXPLICIT"
    assert purpose["termination"].startswith("until 2028-03-01")
    assert parse_vkey(document["publicKey"]).name == core.signer.name


# --- what cannot be issued ----------------------------------------------------------------------


def test_unknown_event_has_no_receipt(core: Core, receipts: Receipts) -> None:
    said(core, grant(core))
    with pytest.raises(UnknownEventError):
        issue(core, receipts, "0190a1b2-0000-7000-8000-000000000000")


@pytest.mark.parametrize("table", [data_key, event_table], ids=["key", "row"])
def test_of_an_erased_event_only_the_bare_proof_remains(
    core: Core, receipts: Receipts, table: Any
) -> None:
    event_id = said(core, grant(core))
    with core.database.begin() as session:
        subjects = [row.subject_ref for row in session.execute(table.select())]
        session.execute(delete(table))
    core.keyring.evict(subjects)
    for form in (ReceiptFormat.TS27560, ReceiptFormat.KANTARA):
        with pytest.raises(EvidenceErasedError):
            issue(core, receipts, event_id, form)
    proof = TlogProof.parse(issue(core, receipts, event_id, ReceiptFormat.TLOG_PROOF).body)
    assert proof.extra is not None
    proof.verify(proof.extra, [parse_vkey(public_key(core))])


def test_entry_that_the_log_does_not_prove_gets_no_receipt(core: Core, receipts: Receipts) -> None:
    event_id = said(core, grant(core))
    with core.database.begin() as session:
        drop_triggers(session.connection())
        session.connection().exec_driver_sql("UPDATE ledger_entry SET leaf = leaf_hash")
    for form in ReceiptFormat:
        with pytest.raises(LedgerError):
            issue(core, receipts, event_id, form)


def test_time_before_1970_is_no_obstacle(core: Core, receipts: Receipts) -> None:
    event_id = said(core, replace(core.said(GRANTED), occurred_at=datetime(1969, 7, 1, tzinfo=UTC)))
    document = json.loads(issue(core, receipts, event_id, ReceiptFormat.KANTARA).body)
    assert document["consentTimestamp"] == 0
