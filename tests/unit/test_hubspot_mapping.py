"""What one row of a HubSpot export says, cell by cell, under the shipped policies."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from consent.importer.hubspot import HubSpotMapping
from consent.importer.outcomes import ImportReason as R
from consent.importer.rows import Damage, Row, UnreadableFileError
from consent.importer.statements import Statement
from policies.loader import LIBRARY, load
from policies.model import PolicySet
from policies.vocabulary import Channel, LegalBasis

POLICIES = load(LIBRARY)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
BASIS = "Legal basis for processing contact's data"
CONSENT = "Freely given consent from contact"
STATUS = "Marketing Information subscription status"
OPT_OUT = "Opted out of email: Marketing Information"
ALL = "Unsubscribed from all email"
PROOF = {
    "Record ID": "7",
    "Email": "ann@example.com",
    BASIS: CONSENT,
    "Legal basis explanation": 'web form 2021-04-02 "Newsletter v2"',
    STATUS: "Opted in",
    "Notes": "",
}


def read(
    row: dict[str, str], damage: Damage | None = None, policies: PolicySet = POLICIES
) -> Statement:
    mapping = HubSpotMapping(list(row), policies)
    return mapping.read(Row(2, list(row.values()), damage), NOW)


def denied(statement: Statement) -> set[tuple[str, str]]:
    return {(denial.purpose, denial.channel) for denial in statement.denials}


# --- columns -----------------------------------------------------------------------------------


def test_headings_are_known_in_any_case_and_order() -> None:
    row = {name.upper(): cell for name, cell in reversed(PROOF.items())}
    assert read(row).opt_ins == read(PROOF).opt_ins != ()


def test_internal_names_are_known() -> None:
    row = {"hs_object_id": "7", "hs_email_optout": "true", "hs_email_optout_123": "true"}
    statement = read(row)
    assert statement.records
    assert denied(statement) == {("*", "email")}
    assert R.UNMAPPED_TYPE in statement.reasons


@pytest.mark.parametrize(
    "heading", ["Opted out of email - Product Updates", "OPTED OUT OF EMAIL:Product Updates"]
)
def test_the_wording_of_a_type_opt_out_may_vary(heading: str) -> None:
    assert denied(read({"Email": "ann@example.com", heading: "true"})) == {
        ("product_updates", "email")
    }


def test_a_file_without_identity_is_refused_and_its_cells_not_repeated() -> None:
    with pytest.raises(UnreadableFileError) as refused:
        HubSpotMapping(["ann@example.com", "true"], POLICIES)
    assert "Record ID" in str(refused.value)
    assert "ann" not in str(refused.value)


def test_a_heading_that_stands_twice_is_refused() -> None:
    with pytest.raises(UnreadableFileError, match="'email' stands over more than one column"):
        HubSpotMapping(["Record ID", "Email", "EMAIL "], POLICIES)


def test_headings_of_nothing_may_stand_twice() -> None:
    HubSpotMapping(["Email", "", ""], POLICIES)


def test_columns_not_read_are_named_and_those_that_may_hold_opt_outs_apart() -> None:
    mapping = HubSpotMapping(["Email", "City", "WhatsApp opt-out", "x\x1b[1m"], POLICIES)
    assert mapping.ignored == ["City", "WhatsApp opt-out", "x\ufffd[1m"]
    assert mapping.doubtful == ["WhatsApp opt-out"]
    assert not mapping.tells_unsubscribes


# --- whom --------------------------------------------------------------------------------------


def test_address_and_record_id_are_normalised() -> None:
    statement = read({"Record ID": " 7 ", "Email": " Ann@EXAMPLE.com "})
    assert [one.value for one in statement.identifiers] == ["ann@example.com", "7"]


def test_a_record_id_that_a_spreadsheet_made_a_decimal_is_still_it() -> None:
    assert [one.value for one in read({"Record ID": "100010.0"}).identifiers] == ["100010"]


def test_a_malformed_address_leaves_the_record_id() -> None:
    statement = read({"Record ID": "7", "Email": "ann at example.com", ALL: "true"})
    assert [one.kind for one in statement.identifiers] == ["external_id"]
    assert R.EMAIL_MALFORMED in statement.reasons
    assert denied(statement) == {("*", "email")}


@pytest.mark.parametrize(
    "record", ["1.0001E+05", "1E5", "100,000", "100.000.000", "=A1", "x" * 300, "7\x07"]
)
def test_a_record_id_that_a_spreadsheet_mangled_is_none(record: str) -> None:
    statement = read({"Record ID": record, "Email": "ann@example.com"})
    assert [one.kind for one in statement.identifiers] == ["email"]
    assert R.RECORD_ID_MALFORMED in statement.reasons


def test_an_opt_out_of_nobody_is_named() -> None:
    statement = read({"Record ID": "", "Email": "", ALL: "true"})
    assert {R.NO_IDENTITY, R.OPT_OUT_WITHOUT_PERSON} <= set(statement.reasons)


# --- no ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["true", "TRUE", " Yes ", "1", "x", "ja", "Opted out", "\uff54\uff52ue"]
)
def test_yes_in_an_opt_out_column_is_an_opt_out(value: str) -> None:
    statement = read({"Email": "ann@example.com", ALL: value, OPT_OUT: value})
    assert denied(statement) == {("*", "email"), ("marketing_information", "email")}
    assert set(statement.reasons) == {R.UNSUBSCRIBED, R.TYPE_OPT_OUT}


@pytest.mark.parametrize(
    "value", ["maybe", "2023-05-04", "=TRUE()", "n/a", "-", "0.0", "tru", "\ufffd"]
)
def test_what_cannot_be_read_in_an_opt_out_column_is_an_opt_out(value: str) -> None:
    statement = read({"Email": "ann@example.com", ALL: value})
    assert denied(statement) == {("*", "email")}
    assert R.UNREADABLE_OPT_OUT in statement.reasons


@pytest.mark.parametrize("value", ["", " ", "false", "FALSE", "No", "0", "nein", "\u00a0"])
def test_no_in_an_opt_out_column_is_nothing(value: str) -> None:
    statement = read({"Email": "ann@example.com", ALL: value, OPT_OUT: value})
    assert (denied(statement), statement.reasons) == (set(), (R.NOTHING_STATED,))


@pytest.mark.parametrize(
    ("status", "denies", "reason"),
    [
        ("Opted out", True, R.TYPE_OPT_OUT),
        ("OPTED_OUT", True, R.TYPE_OPT_OUT),
        ("Abgemeldet", True, R.UNREADABLE_OPT_OUT),
        ("Not opted in or out", False, R.NOTHING_STATED),
        ("", False, R.NOTHING_STATED),
        ("Opted in", False, R.DEFAULT_OPTED_IN),
    ],
)
def test_a_subscription_status_denies_unless_it_plainly_does_not(
    status: str, denies: bool, reason: R
) -> None:
    statement = read({"Email": "ann@example.com", STATUS: status})
    assert denied(statement) == ({("marketing_information", "email")} if denies else set())
    assert reason in statement.reasons


@pytest.mark.parametrize("heading", ["Opted out of email: Rumours", "Rumours subscription status"])
def test_an_opt_out_of_a_type_that_no_purpose_claims_is_widened(heading: str) -> None:
    mapping = HubSpotMapping(["Email", heading], POLICIES)
    assert mapping.unmapped == [heading]
    statement = mapping.read(Row(2, ["ann@example.com", "Opted out"]), NOW)
    assert denied(statement) == {("*", "email")}
    assert R.UNMAPPED_TYPE in statement.reasons


def test_a_type_whose_purpose_is_not_pursued_by_email_counts_as_unmapped() -> None:
    purpose = POLICIES.purposes["marketing_information"]
    post = replace(purpose, channels=frozenset({Channel.POST}))
    policies = replace(POLICIES, purposes={purpose.key: post})
    statement = read({"Email": "ann@example.com", OPT_OUT: "true"}, policies=policies)
    assert denied(statement) == {("*", "email")}


@pytest.mark.parametrize(
    ("note", "channel"), [("called, wants no more e-mails", "email"), ("DO NOT CONTACT", "*")]
)
def test_a_note_denies(note: str, channel: str) -> None:
    statement = read({"Email": "ann@example.com", "Notes": note})
    assert denied(statement) == {("*", channel)}
    assert statement.reasons == (R.NOTE_OPT_OUT,)


def test_denials_of_one_purpose_are_one_and_name_all_that_says_so() -> None:
    (denial,) = read({"Email": "ann@example.com", OPT_OUT: "yes", STATUS: "Opted out"}).denials
    assert denial.said_in == ((OPT_OUT, "yes"), (STATUS, "Opted out"))


# --- yes ---------------------------------------------------------------------------------------


def test_consent_with_date_source_and_words_counts() -> None:
    statement = read(PROOF | {"Notes": "double opt-in ok 2021-04-03 10:11"})
    (opt_in,) = statement.opt_ins
    assert opt_in.purpose == "marketing_information"
    assert opt_in.given_at == datetime(2021, 4, 2, tzinfo=UTC)
    assert (opt_in.notice.id, opt_in.notice.version) == ("newsletter", "2")
    assert opt_in.confirmed_at is not None
    assert statement.reasons == ()


@pytest.mark.parametrize(
    "basis", [f"{CONSENT};Performance of a contract", f" not applicable ; {CONSENT.upper()}"]
)
def test_consent_may_be_one_of_several_bases(basis: str) -> None:
    assert read(PROOF | {BASIS: basis}).opt_ins


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({BASIS: "", "Legal basis explanation": ""}, R.DEFAULT_OPTED_IN),
        ({BASIS: "Performance of a contract", "Legal basis explanation": ""}, R.DEFAULT_OPTED_IN),
        ({BASIS: "Performance of a contract"}, R.NO_CONSENT_BASIS),
        ({BASIS: "No freely given consent from contact"}, R.NO_CONSENT_BASIS),
        ({"Legal basis explanation": 'web form "Newsletter v2"'}, R.NO_DATE),
        ({"Legal basis explanation": 'web form 03/04/2022 "Newsletter v2"'}, R.NO_DATE),
        ({"Legal basis explanation": 'web form 2026-03-02 "Newsletter v2"'}, R.NO_DATE),
        ({"Legal basis explanation": '2021-04-02 "Newsletter v2"'}, R.NO_SOURCE),
        ({"Legal basis explanation": "web form 2021-04-02 Newsletter v2"}, R.NO_WORDS),
        ({STATUS: ""}, R.NOT_OPTED_IN),
        ({STATUS: "Not opted in or out"}, R.NOT_OPTED_IN),
        ({STATUS: "Opted out"}, R.NOT_OPTED_IN),
        ({"Notes": "wants no more e-mails"}, R.CONTRADICTED),
        ({ALL: "true"}, R.CONTRADICTED),
        ({ALL: "?"}, R.CONTRADICTED),
        ({OPT_OUT: "true"}, R.CONTRADICTED),
        ({"Opted out of email: Rumours": "true"}, R.CONTRADICTED),
        ({"Email": "ann at example.com"}, R.NO_ADDRESS),
        ({"Email": ""}, R.NO_ADDRESS),
    ],
)
def test_anything_less_is_no_consent(change: dict[str, str], reason: R) -> None:
    statement = read(PROOF | change)
    assert statement.opt_ins == ()
    assert reason in statement.reasons


def test_an_empty_explanation_lacks_all_three() -> None:
    reasons = read(PROOF | {"Legal basis explanation": ""}).reasons
    assert set(reasons) == {R.NO_DATE, R.NO_SOURCE, R.NO_WORDS}


def test_an_opt_out_of_another_type_contradicts_nothing() -> None:
    statement = read(PROOF | {"Opted out of email: Product Updates": "true"})
    assert statement.opt_ins
    assert denied(statement) == {("product_updates", "email")}


def test_words_for_one_type_are_none_for_another() -> None:
    both = PROOF | {"Product Updates subscription status": "Opted in"}
    assert R.WORDS_NAME_NO_TYPE in read(both).reasons
    named = both | {"Legal basis explanation": 'web form 2021-04-02 "Product updates v1"'}
    (opt_in,) = read(named).opt_ins
    assert opt_in.purpose == "product_updates"
    all_named = {
        "Legal basis explanation": 'fair 2021-04-02 "Product updates, marketing information"'
    }
    assert R.WORDS_NAME_NO_TYPE in read(both | all_named).reasons


@pytest.mark.parametrize(
    ("heading", "reason"),
    [
        ("Rumours subscription status", R.UNMAPPED_TYPE),
        ("Customer Service Communication subscription status", R.NOT_A_CONSENT_PURPOSE),
    ],
)
def test_only_a_purpose_that_rests_on_consent_can_be_granted(heading: str, reason: R) -> None:
    assert POLICIES.purposes["support_conversation"].legal_basis is LegalBasis.CONTRACT
    row = {name: cell for name, cell in PROOF.items() if name != STATUS} | {heading: "Opted in"}
    statement = read(row)
    assert statement.opt_ins == ()
    assert reason in statement.reasons


# --- damaged rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", list(Damage))
def test_a_damaged_row_grants_nothing_and_still_denies(damage: Damage) -> None:
    assert read(PROOF, damage).opt_ins == ()
    statement = read({"Record ID": "7", "Email": "ann@example.com", ALL: "true"}, damage)
    assert ("*", "email") in denied(statement)
    assert R(damage.value) in statement.reasons


@pytest.mark.parametrize("cell", ["TRUE", "Opted out", "wants no more e-mails"])
def test_in_a_shifted_row_a_no_counts_wherever_it_stands(cell: str) -> None:
    row = {"Record ID": "7", "Email": "Ann", "City": "ann@example.com", "Age": cell}
    statement = read(row, Damage.RAGGED_ROW)
    assert [one.value for one in statement.identifiers] == ["ann@example.com"]
    assert denied(statement) == {("*", "email")}
    assert R.DAMAGED_OPT_OUT in statement.reasons


def test_a_shifted_row_with_two_addresses_is_its_record_ids() -> None:
    row = {"Record ID": "7", "Email": "x", "a": "ann@example.com", "b": "bob@example.com"}
    assert [one.value for one in read(row, Damage.RAGGED_ROW).identifiers] == ["7"]
