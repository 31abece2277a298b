"""The shipped policies say what they should, in terms that other people's vocabularies know."""

import csv
import json
from pathlib import Path

import pytest

from policies.loader import LIBRARY, load
from policies.model import PolicySet
from policies.vocabulary import Channel, ConsentStatus, LegalBasis, Signal


def terms(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


# fideslang 3.1.4's default taxonomy (Ethyca, CC BY 4.0), as far as a CRM may come near it.
DATA_USES = terms("""
    analytics analytics.reporting analytics.reporting.ad_performance
    analytics.reporting.content_performance analytics.reporting.campaign_insights collect
    essential essential.fraud_detection essential.legal_obligation essential.service
    essential.service.authentication essential.service.notifications
    essential.service.notifications.email essential.service.notifications.sms
    essential.service.operations essential.service.operations.support
    essential.service.operations.improve essential.service.payment_processing
    essential.service.security essential.service.upgrades functional functional.storage
    functional.storage.privacy_preferences functional.service functional.service.improve
    marketing marketing.advertising marketing.advertising.first_party
    marketing.advertising.first_party.contextual marketing.advertising.first_party.targeted
    marketing.advertising.frequency_capping marketing.advertising.negative_targeting
    marketing.advertising.profiling marketing.advertising.serving
    marketing.advertising.third_party marketing.advertising.third_party.targeted
    marketing.communications marketing.communications.email marketing.communications.sms
    personalize personalize.content personalize.profiling personalize.content.limited
    personalize.content.profiling personalize.content.profiled personalize.system sales
    third_party_sharing third_party_sharing.legal_obligation train_ai_system
""")
DATA_CATEGORIES = terms("""
    user user.account user.account.settings user.account.username user.authorization
    user.authorization.credentials user.authorization.password user.behavior
    user.behavior.browsing_history user.behavior.media_consumption
    user.behavior.purchase_history user.behavior.search_history user.contact
    user.contact.address user.contact.address.city user.contact.address.country
    user.contact.address.postal_code user.contact.address.state user.contact.address.street
    user.contact.email user.contact.organization user.contact.phone_number user.contact.url
    user.content user.content.private user.content.public user.demographic
    user.demographic.age_range user.demographic.date_of_birth user.demographic.gender
    user.demographic.language user.device user.device.cookie user.device.cookie_id
    user.device.device_id user.device.ip_address user.job_title user.location
    user.location.imprecise user.location.precise user.name user.name.first user.name.last
    user.payment user.privacy_preferences user.social user.telemetry user.unique_id
    user.unique_id.pseudonymous
""")
DATA_SUBJECTS = terms("""
    anonymous_user citizen_voter commuter consultant customer employee job_applicant next_of_kin
    passenger patient prospect shareholder supplier_vendor trainee visitor
""")


@pytest.fixture(scope="module")
def library() -> PolicySet:
    """The shipped policies."""
    return load(LIBRARY)


@pytest.fixture(scope="module")
def dpv(shared: Path) -> dict[str, set[str]]:
    """The classes of DPV 2.3, by module."""
    modules = json.loads((shared / "vectors" / "dpv" / "dpv-2.3-terms.json").read_text())
    return {
        module: {term["term"] for term in terms if term["type"] == "class"}
        for module, terms in modules.items()
        if isinstance(terms, list)
    }


def test_every_channel_and_the_usual_bases_are_used(library: PolicySet) -> None:
    purposes = library.purposes.values()
    assert {channel for purpose in purposes for channel in purpose.channels} == set(Channel)
    assert {purpose.legal_basis for purpose in purposes} == {
        LegalBasis.CONSENT,
        LegalBasis.CONTRACT,
        LegalBasis.LEGAL_OBLIGATION,
        LegalBasis.LEGITIMATE_INTERESTS,
    }


def test_every_purpose_is_said_in_every_language_of_the_privacy_centre(library: PolicySet) -> None:
    assert {tuple(rule.translations) for rule in library.purposes.values()} == {("de", "fr", "es")}


def test_consent_expires_and_protects_children(library: PolicySet) -> None:
    for purpose in library.purposes.values():
        on_consent = purpose.legal_basis is LegalBasis.CONSENT
        assert (purpose.expires_after is not None) == on_consent, purpose.key
        assert (purpose.child is not None) == on_consent, purpose.key
        # Germany has kept the age of the Regulation, and the controller is German.
        assert purpose.child is None or purpose.child.minimum_age == 16


def test_marketing_information_is_what_a_plain_import_maps_to(library: PolicySet) -> None:
    purpose = library.purposes["marketing_information"]
    assert purpose.channels == frozenset(Channel)
    assert purpose.legal_basis is LegalBasis.CONSENT
    assert purpose.double_opt_in is None
    assert purpose.signals == frozenset()
    assert purpose is library.purpose_called("hubspot", "marketing information")
    assert purpose is library.purpose_called("salesforce", "Marketing")


def test_the_newsletter_is_confirmed_by_e_mail_within_a_week(library: PolicySet) -> None:
    newsletter = library.purposes["newsletter"]
    assert newsletter.double_opt_in is not None
    assert newsletter.needs_confirmation(Channel.EMAIL)
    assert newsletter.double_opt_in.confirm_within.days == 7


def test_the_browser_signal_stops_sale_sharing_and_targeting(library: PolicySet) -> None:
    heeding = {key for key, purpose in library.purposes.items() if Signal.GPC in purpose.signals}
    assert heeding == {"audience_sharing", "data_sale", "personalised_advertising"}


def test_what_is_owed_to_people_is_not_marketing(library: PolicySet) -> None:
    for purpose in library.purposes.values():
        if purpose.legal_basis in {LegalBasis.CONTRACT, LegalBasis.LEGAL_OBLIGATION}:
            assert not purpose.direct_marketing, purpose.key
            assert not purpose.data_use.startswith("marketing"), purpose.key


def test_the_controller_says_that_it_is_made_up(library: PolicySet) -> None:
    (controller,) = library.controllers.values()
    assert "fictional" in controller.name
    assert controller.contact.endswith(".example")
    assert {purpose.controller for purpose in library.purposes.values()} == {controller.key}


def test_data_is_mapped_to_fideslang(library: PolicySet) -> None:
    for purpose in library.purposes.values():
        assert purpose.data_use in DATA_USES, purpose.key
        assert set(purpose.data_categories) <= DATA_CATEGORIES, purpose.key
        assert set(purpose.data_subjects) <= DATA_SUBJECTS, purpose.key


def test_purposes_are_mapped_to_dpv(library: PolicySet, dpv: dict[str, set[str]]) -> None:
    for purpose in library.purposes.values():
        assert set(purpose.dpv) <= dpv["purposes"], purpose.key


def test_each_status_is_one_consent_state_of_dpv(dpv: dict[str, set[str]]) -> None:
    groups = {
        "ConsentStatus",
        "ConsentStatusInvalidForProcessing",
        "ConsentStatusValidForProcessing",
    }
    ours = [status.dpv for status in ConsentStatus]
    assert sorted(ours) == sorted(dpv["consent_status"] - groups)


def test_the_valid_statuses_are_those_that_dpv_calls_valid(shared: Path) -> None:
    modules = json.loads((shared / "vectors" / "dpv" / "dpv-2.3-terms.json").read_text())
    valid = {
        term["term"]
        for term in modules["consent_status"]
        if "ConsentStatusValidForProcessing" in term["broader"]
    }
    assert {status.dpv for status in ConsentStatus if status.valid} == valid


def test_each_legal_basis_is_one_of_dpv(dpv: dict[str, set[str]]) -> None:
    ours = [basis.dpv for basis in LegalBasis]
    assert len(set(ours)) == len(ours)
    assert set(ours) <= dpv["legal_basis"]


def test_every_purpose_of_a_salesforce_export_is_known(library: PolicySet, shared: Path) -> None:
    with (shared / "data" / "salesforce_contact_point_type_consent.csv").open() as file:
        names = {row["DataUsePurpose"] for row in csv.DictReader(file)} - {""}
    assert [name for name in names if library.purpose_called("salesforce", name) is None] == []


def test_every_subscription_of_a_hubspot_export_is_known(library: PolicySet, shared: Path) -> None:
    with (shared / "data" / "hubspot_contacts.csv").open(encoding="utf-8-sig") as file:
        header = next(csv.reader(file))
    names = {column.partition(": ")[2] for column in header if column.startswith("Opted out of")}
    assert names == {"Marketing Information", "Product Updates"}
    assert [name for name in names if library.purpose_called("hubspot", name) is None] == []


def test_the_usual_do_not_call_lists_are_there_with_the_ages_of_their_laws(
    library: PolicySet,
) -> None:
    ages = {key: registry.maximum_age.days for key, registry in library.registries.items()}
    assert ages == {"us_dnc": 31, "uk_tps": 28, "ca_dncl": 31, "au_dncr": 30, "it_rpo": 15}
    assert all(registry.source for registry in library.registries.values())
    assert not any(purpose.do_not_call for purpose in library.purposes.values())
