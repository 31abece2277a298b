import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.errors import InvalidSubjectError
from consent.subjects import email, external_id, phone
from governance.keys.blind_index import (
    TOKEN_BYTES,
    BlindIndex,
    IndexRoot,
    normalise_email,
    normalise_external_id,
    normalise_phone,
)

ROOT = IndexRoot(1, bytes(range(32)), writable=True)
INDEX = BlindIndex(ROOT, "table", "column", "index")


def test_equal_values_have_equal_tokens_and_others_do_not() -> None:
    assert INDEX.token("alice") == INDEX.token("alice")
    assert len({INDEX.token(str(number)) for number in range(1000)}) == 1000
    assert len(INDEX.token("")) == TOKEN_BYTES == 16


def test_tokens_of_different_indexes_cannot_be_matched() -> None:
    others = [
        BlindIndex(ROOT, "other", "column", "index"),
        BlindIndex(ROOT, "table", "other", "index"),
        BlindIndex(ROOT, "table", "column", "other"),
        BlindIndex(ROOT, "tablec", "olumn", "index"),
        BlindIndex(IndexRoot(2, ROOT.key, writable=True), "table", "column", "index"),
        BlindIndex(IndexRoot(1, bytes(32), writable=True), "table", "column", "index"),
    ]
    assert len({index.token("alice") for index in [INDEX, *others]}) == 7


def test_parts_do_not_run_together() -> None:
    tokens = {INDEX.token(*parts) for parts in (("a", "bc"), ("ab", "c"), ("abc",), ("abc", ""))}
    assert len(tokens) == 4


def test_index_keys_show_nothing_and_cannot_be_pickled() -> None:
    assert "redacted" in repr(INDEX)
    assert str(ROOT.key) not in repr(ROOT)
    for secret in (INDEX, ROOT):
        with pytest.raises(TypeError):
            pickle.dumps(secret)


# --- normalisers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("alice@example.org", "alice@example.org"),
        ("  Alice@EXAMPLE.org\n", "alice@example.org"),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER A}lice@example.org", "alice@example.org"),
        ("STRASSE@example.org", "strasse@example.org"),
        ("straße@example.org", "strasse@example.org"),
        ("Zoe\u0308@example.org", "zoë@example.org"),
        ("o'brien+news@example.co.uk", "o'brien+news@example.co.uk"),
    ],
)
def test_one_address_has_one_form(typed: str, normal: str) -> None:
    assert normalise_email(typed) == normal


@pytest.mark.parametrize(
    "typed",
    ["", "alice", "@x.org", "alice@", "a@b@c.org", "a b@c.org", "a\u200b@c.org", "a\x00@c.org"],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        normalise_email(typed)


@given(st.text(max_size=20), st.text(max_size=20))
def test_an_address_that_was_normalised_stays_as_it_is(name: str, domain: str) -> None:
    try:
        once = normalise_email(f"{name}@{domain}")
    except ValueError:
        return
    assert normalise_email(once) == once
    assert unicodedata.is_normalized("NFKC", once)


@given(st.emails())
def test_what_the_door_lets_in_has_a_token(address: str) -> None:
    try:
        identifier = email(address)
    except InvalidSubjectError:
        return
    assert normalise_email(identifier.value) == normalise_email(address)


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("+4915112345678", "+4915112345678"),
        ("+49 (0)151 1234-5678", "+4915112345678"),
        ("+49015112345678", "+4915112345678"),
        ("+44 (0)20 7946 0958", "+442079460958"),
        ("+39 06 1234 5678", "+390612345678"),
        ("+390612345678", "+390612345678"),
        ("+1 (212) 555-1234", "+12125551234"),
        ("+7 495 123-45-67", "+74951234567"),
        ("+354 581 2345", "+3545812345"),
        ("+9990123456", "+9990123456"),
        ("+4900368", "+4900368"),
    ],
)
def test_one_number_has_one_form(typed: str, normal: str) -> None:
    assert normalise_phone(typed) == normal
    assert normalise_phone(phone(typed).value) == normal
    assert normalise_phone(normal) == normal


@pytest.mark.parametrize(
    "typed", ["", "0151 12345678", "+", "+49", "alice", "+4915112345678901234"]
)
def test_what_is_no_international_number_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="international"):
        normalise_phone(typed)


def test_external_ids_are_told_apart_by_case_and_system() -> None:
    assert normalise_external_id(" 00Q-a ") == "00Q-a"
    assert external_id("HubSpot", "a") != external_id("hubspot", "A")
    with pytest.raises(ValueError, match="empty"):
        normalise_external_id(" \t")
