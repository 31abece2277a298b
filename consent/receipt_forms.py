"""One event in the forms that others read: ISO/IEC TS 27560 as DPV JSON-LD, and Kantara 1.1. Pure.

Fields and terms follow the W3C guide "Consent Records and Receipts as per ISO/IEC TS 27560:2023
using DPV" (DPV 2.3). What is said comes from the event and from the policy; where neither states a
fact that the standard asks for, the field is there and says `dpv:NotAvailable`. No identifier of a
person is ever in a receipt: at most the subject ref, and only if it was disclosed.

The JSON-LD has its context inside: no reader has to fetch anything to understand it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from consent.ledger.leaf import timestamp
from policies.decisions import Choice, end_of_grant
from policies.model import Controller, PolicySet, Purpose
from policies.vocabulary import (
    ANY,
    CONFIRMED,
    Channel,
    ChoiceState,
    ConsentStatus,
    EventType,
    LegalBasis,
    MarkState,
)

CONTEXT: Final[dict[str, Any]] = {
    "dct": "http://purl.org/dc/terms/",
    "dpv": "https://w3id.org/dpv#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "loc": "https://w3id.org/dpv/loc#",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "tutela": "urn:tutela:receipt#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "dct:created": {"@type": "xsd:dateTime"},
    "dpv:isIndicatedAtTime": {"@type": "xsd:dateTime"},
}

_PROFILE: Final = "https://w3id.org/dpv/schema/dpv-27560#receipt"
_NOT_STATED: Final[dict[str, Any]] = {"dpv:hasApplicability": {"@id": "dpv:NotAvailable"}}
_NO_WORDS: Final = "not stated"

# Where the GDPR applies: the Union and, by the EEA Joint Committee's decision 154/2018, the EEA.
_CODES: Final = (
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK"
)
_EEA: Final = frozenset(_CODES.split())
# fideslang's names for what Art. 9(1) GDPR calls special categories.
_SPECIAL: Final = (
    "user.biometric",
    "user.demographic.political_opinion",
    "user.demographic.race_ethnicity",
    "user.demographic.religious_belief",
    "user.demographic.sexual_orientation",
    "user.genetic",
    "user.health_and_medical",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a receipt may say of an event: its leaf, and the claims that its reader may see."""

    origin: str
    index: int
    leaf: Mapping[str, Any]
    claims: Mapping[str, Any]
    status: ConsentStatus
    """See `status_of`."""
    policies: PolicySet
    """The active policy. Its hash may differ from that in the leaf; the receipt names both."""

    @property
    def occurred_at(self) -> str:
        """When it happened, else when it was recorded."""
        return str(self.claims.get("occurred_at", self.leaf["ts"]))

    @property
    def subject(self) -> str | None:
        """The subject ref."""
        return self.claims.get("subject")

    @property
    def notice(self) -> Mapping[str, str]:
        """The words that the person was shown."""
        return self.claims.get("notice") or {}

    @property
    def purposes(self) -> list[Purpose]:
        """The purposes that the event speaks for, as far as the active policy knows them."""
        named = self.leaf["purpose"]
        everything = self.policies.purposes
        if self.leaf["type"] == EventType.SIGNAL:
            channel = self.leaf["channel"]
            return [rule for rule in everything.values() if named in rule.heeded(channel)]
        if named == ANY:
            return [rule for rule in everything.values() if self._on_channel(rule)]
        return [everything[named]] if named in everything else []

    @property
    def controllers(self) -> list[Controller]:
        """Who decides over these purposes."""
        keys = {rule.controller for rule in self.purposes}
        return [one for key, one in self.policies.controllers.items() if key in keys]

    @property
    def valid_until(self) -> datetime | None:
        """When a grant ends by its own words or by the policy; None if nothing ends it."""
        ends_at = self.claims.get("ends_at")
        if len(self.purposes) != 1:
            return None
        return end_of_grant(
            self.purposes[0],
            Choice(
                state=ChoiceState.GRANTED,
                occurred_at=datetime.fromisoformat(self.occurred_at),
                record_id=self.leaf["id"],
                ends_at=datetime.fromisoformat(ends_at) if ends_at else None,
                notice=self.notice.get("id"),
                notice_version=self.notice.get("version"),
            ),
        )

    def _on_channel(self, rule: Purpose) -> bool:
        return self.leaf["channel"] == ANY or self.leaf["channel"] in rule.channels


def status_of(
    leaf: Mapping[str, Any], claims: Mapping[str, Any], policies: PolicySet
) -> ConsentStatus:
    """The DPV consent state that an event expresses by itself, whatever came before or after it.

    Needs all claims, for a grant that still awaits its confirmation is a request.
    """
    state = leaf["state"]
    if state == ChoiceState.GRANTED:
        if claims.get("child_without_authority"):
            return ConsentStatus.INVALIDATED
        rule = policies.purpose(leaf["purpose"])
        waits = rule is not None and rule.needs_confirmation(Channel(leaf["channel"]))
        asked = waits and "confirmed_at" not in claims
        return ConsentStatus.REQUESTED if asked else ConsentStatus.GIVEN
    if leaf["type"] == EventType.SUPPRESSION and state == MarkState.SET:
        return ConsentStatus.REVOKED
    return _STATUS[state]


_STATUS: Final = {
    ChoiceState.REFUSED.value: ConsentStatus.REFUSED,
    ChoiceState.WITHDRAWN.value: ConsentStatus.WITHDRAWN,
    ChoiceState.OBJECTED.value: ConsentStatus.WITHDRAWN,
    CONFIRMED: ConsentStatus.GIVEN,
    MarkState.SET.value: ConsentStatus.WITHDRAWN,
    MarkState.LIFTED.value: ConsentStatus.UNKNOWN,
}
_OBJECTED: Final = {
    LegalBasis.LEGITIMATE_INTERESTS.value: "dpv:LegitimateInterestObjected",
    LegalBasis.PUBLIC_TASK.value: "dpv:PublicInterestObjected",
}


# --- ISO/IEC TS 27560 ---------------------------------------------------------------------------


def to_dpv(facts: Facts) -> dict[str, Any]:
    """The receipt's content as JSON-LD, without proof and signature."""
    european = any(one.country in _EEA for one in facts.controllers)
    return {
        "@context": CONTEXT,
        "@id": f"urn:uuid:{facts.leaf['id']}",
        "@type": ["dpv:ConsentReceipt", "dpv:ConsentRecord"],
        "dct:conformsTo": {"@id": f"{_PROFILE}-eu-gdpr" if european else _PROFILE},
        "dct:identifier": facts.leaf["id"],
        "dpv:hasIdentifier": f"{facts.origin}#{facts.index}",
        "dct:created": facts.leaf["ts"],
        "dpv:hasDataSubject": _data_subject(facts),
        "dpv:hasNotice": _notice(facts),
        "dpv:hasDataController": [_controller(one) for one in facts.controllers] or _NOT_STATED,
        "dpv:hasJurisdiction": _jurisdictions(facts),
        "dpv:hasAuthority": {"@type": "dpv:Authority", **_NOT_STATED},
        "dpv:hasProcess": [_process(facts, rule) for rule in facts.purposes]
        or [_unknown_process(facts)],
        "dpv:hasRight": _rights(facts, european=european),
        "dpv:hasConsentControl": _control(facts),
        "dpv:hasConsentStatus": _event(facts),
        "tutela:channel": facts.leaf["channel"],
        "tutela:recordedUnderPolicy": facts.leaf["policy"],
        "tutela:describedByPolicy": facts.policies.hash,
    }


def _data_subject(facts: Facts) -> dict[str, Any]:
    shown = {"dct:identifier": facts.subject} if facts.subject else _NOT_STATED
    return {"@type": "dpv:DataSubject", **shown}


def _notice(facts: Facts) -> dict[str, Any]:
    if not facts.notice:
        return {"@type": "dpv:ConsentNotice", "dct:language": _NO_WORDS, **_NOT_STATED}
    return {
        "@type": "dpv:ConsentNotice",
        "dct:identifier": facts.notice["id"],
        "dct:hasVersion": facts.notice["version"],
        "dct:language": facts.notice["language"],
    }


def _controller(one: Controller) -> dict[str, Any]:
    stated = {
        "@type": ["dpv:DataController", "dpv:LegalEntity"],
        "dct:identifier": one.key,
        "dpv:hasName": one.name,
        "dpv:hasAddress": one.address,
        "dpv:hasContact": one.contact,
    }
    if one.privacy_officer:
        stated["dpv:hasDataProtectionOfficer"] = one.privacy_officer
    if one.representative:
        stated["dpv:hasRepresentative"] = one.representative
    return stated


def _jurisdictions(facts: Facts) -> list[dict[str, Any]] | dict[str, Any]:
    countries = sorted({one.country for one in facts.controllers})
    return [{"@id": f"loc:{country}"} for country in countries] or _NOT_STATED


def _process(facts: Facts, rule: Purpose) -> dict[str, Any]:
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {
            "@type": [f"dpv:{term}" for term in rule.dpv],
            "dct:identifier": rule.key,
            "dct:title": rule.name,
            "dct:description": rule.description,
        },
        "dpv:hasLegalBasis": _legal_basis(facts, rule),
        "dpv:hasPersonalData": [_personal_data(category) for category in rule.data_categories],
        "dpv:hasDataSource": _NOT_STATED,
        "dpv:hasProcessing": {"@type": "dpv:Processing", **_NOT_STATED},
        "dpv:hasStorageCondition": [
            {"@type": "dpv:StorageLocation", **_NOT_STATED},
            _storage_duration(rule),
        ],
        "dpv:hasProcessingCondition": {"@type": "dpv:ProcessingLocation", **_NOT_STATED},
        "dpv:hasRule": {"@type": "dpv:Rule", **_NOT_STATED},
        "dpv:hasRecipient": [
            {"@type": "dpv:Recipient", "dpv:hasName": name} for name in rule.recipients
        ]
        or _NOT_STATED,
    }


def _unknown_process(facts: Facts) -> dict[str, Any]:
    """The purpose has left the policy since: its name is all that can be said."""
    named = {"@type": "dpv:Purpose", "dct:identifier": facts.leaf["purpose"], **_NOT_STATED}
    return {"@type": "dpv:Process", "dpv:hasPurpose": named, **_NOT_STATED}


def _legal_basis(facts: Facts, rule: Purpose) -> list[dict[str, Any]]:
    """The basis under which the event was recorded, if it was about this purpose alone."""
    recorded = facts.leaf["basis"]
    basis = LegalBasis(recorded) if recorded in list(LegalBasis) else rule.legal_basis
    terms = [f"dpv:{basis.dpv}"]
    if facts.policies.controllers[rule.controller].country in _EEA:
        terms.append(f"eu-gdpr:{basis.gdpr}")
    return [{"@id": term} for term in terms]


def _personal_data(category: str) -> dict[str, Any]:
    kind = "dpv:SpecialCategoryPersonalData" if _is_special(category) else "dpv:PersonalData"
    return {"@type": kind, "dct:identifier": category, "dpv:hasNecessity": _NOT_STATED}


def _is_special(category: str) -> bool:
    return any(category == one or category.startswith(f"{one}.") for one in _SPECIAL)


def _storage_duration(rule: Purpose) -> dict[str, Any]:
    if rule.retention is None:
        return {"@type": "dpv:StorageDuration", **_NOT_STATED}
    return {
        "@type": "dpv:StorageDuration",
        "dct:identifier": rule.retention,
        "dpv:hasDuration": {"@id": "dpv:IndeterminateDuration"},
    }


def _rights(facts: Facts, *, european: bool) -> list[dict[str, Any]] | dict[str, Any]:
    if not european:
        return {"@type": "dpv:DataSubjectRight", **_NOT_STATED}
    bases = {rule.legal_basis for rule in facts.purposes}
    articles = ["A13", "A15", "A16", "A17", "A18", "A77"]
    if LegalBasis.CONSENT in bases:
        articles.append("A7-3")
    if bases & {LegalBasis.CONSENT, LegalBasis.CONTRACT}:  # Art. 20(1)(a)
        articles.append("A20")
    if bases & {LegalBasis.LEGITIMATE_INTERESTS, LegalBasis.PUBLIC_TASK} or any(
        rule.direct_marketing for rule in facts.purposes
    ):
        articles.append("A21")
    return [{"@id": f"eu-gdpr:{article}"} for article in articles]


def _control(facts: Facts) -> dict[str, Any]:
    contacts = [one.contact for one in facts.controllers]
    where: dict[str, Any] = {"dpv:isExercisedAt": contacts} if contacts else _NOT_STATED
    return {"@type": "dpv:WithdrawConsent", **where}


def _event(facts: Facts) -> dict[str, Any]:
    by_us = facts.leaf["type"] == EventType.SUPPRESSION
    stated = {
        "@type": f"dpv:{facts.status.dpv}",
        "dpv:isIndicatedAtTime": facts.occurred_at,
        "dpv:isIndicatedBy": {"@id": "dpv:DataController" if by_us else "dpv:DataSubject"},
        "dpv:hasIndicationMethod": facts.claims.get("method", _NOT_STATED),
        "dpv:hasLegalBasis": {"@id": "dpv:ExpressedConsent" if _is_grant(facts) else "dpv:Consent"},
        "dpv:hasDuration": _validity(facts),
        "tutela:eventType": facts.leaf["type"],
        "tutela:eventState": facts.leaf["state"],
    }
    objected = facts.leaf["state"] == ChoiceState.OBJECTED and _OBJECTED.get(facts.leaf["basis"])
    if objected:
        stated["dpv:hasStatus"] = {"@id": objected}
    return stated


def _is_grant(facts: Facts) -> bool:
    return facts.leaf["state"] in (ChoiceState.GRANTED, CONFIRMED)


def _validity(facts: Facts) -> dict[str, Any]:
    if not _is_grant(facts):
        return {"@type": "dpv:UntilEventDuration", "rdf:value": "a new choice"}
    if "occurred_at" not in facts.claims or facts.leaf["state"] == CONFIRMED:
        return _NOT_STATED
    ends_at = facts.valid_until
    if ends_at is None:
        return {"@type": "dpv:UntilEventDuration", "rdf:value": "withdrawal"}
    return {"@type": "dpv:UntilTimeDuration", "rdf:value": timestamp(ends_at)}


# --- Kantara Consent Receipt 1.1 ----------------------------------------------------------------


def to_kantara(facts: Facts, public_key: str) -> dict[str, Any]:
    """The receipt by Kantara's JSON schema of 2017-11-17, which has no place for a proof.

    That form knows consent that was given; of anything else it says so in `termination`.
    """
    countries = sorted({one.country for one in facts.controllers})
    special = sorted({c for rule in facts.purposes for c in rule.data_categories if _is_special(c)})
    notice = facts.notice
    receipt = {
        "version": "KI-CR-v1.1.0",
        "jurisdiction": " ".join(countries) or _NO_WORDS,
        "consentTimestamp": max(0, int(datetime.fromisoformat(facts.occurred_at).timestamp())),
        "collectionMethod": facts.claims.get("method", _NO_WORDS),
        "consentReceiptID": facts.leaf["id"],
        "publicKey": public_key,
        "piiPrincipalId": facts.subject or _NO_WORDS,
        "piiControllers": [_kantara_controller(one) for one in facts.controllers],
        "policyUrl": f"notice {notice['id']}, version {notice['version']}" if notice else _NO_WORDS,
        "services": [_kantara_service(facts, rule) for rule in facts.purposes],
        "sensitive": bool(special),
        "spiCat": special,
    }
    if notice:
        receipt["language"] = notice["language"]
    return receipt


def _kantara_controller(one: Controller) -> dict[str, Any]:
    return {
        "piiController": one.name,
        "contact": one.privacy_officer or one.contact,
        "address": {"streetAddress": one.address, "addressCountry": one.country},
        "email": one.contact if "@" in one.contact else _NO_WORDS,
        "phone": _NO_WORDS,
    }


def _kantara_service(facts: Facts, rule: Purpose) -> dict[str, Any]:
    purpose: dict[str, Any] = {
        "purpose": rule.description,
        "consentType": "EXPLICIT" if _is_grant(facts) else "N/A",
        "purposeCategory": list(rule.dpv),
        "piiCategory": list(rule.data_categories),
        "termination": _termination(facts),
        "thirdPartyDisclosure": bool(rule.recipients),
    }
    if rule.recipients:
        purpose["thirdPartyName"] = ", ".join(rule.recipients)
    return {"service": rule.name, "purposes": [purpose]}


def _termination(facts: Facts) -> str:
    if not _is_grant(facts):
        return f"not in force: {facts.leaf['state']} at {facts.occurred_at}"
    ends_at = facts.valid_until if "occurred_at" in facts.claims else None
    return "until withdrawn" if ends_at is None else f"until {timestamp(ends_at)}, or withdrawn"
