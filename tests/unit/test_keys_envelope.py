import copy
import pickle
import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from consent.subjects import SubjectRef
from governance.errors import DecryptionError, KeyringError
from governance.keys.envelope import PersonKey, Place, key_id
from governance.keys.wrapping import EpochKey

ALICE = SubjectRef("alice" + "a" * 21)
BOB = SubjectRef("bob" + "b" * 23)
EPOCH = EpochKey("2026-03", secrets.token_bytes(32))
KEY, WRAPPED = EPOCH.make(ALICE, 1)
PLACE = Place("customer", "name")


@given(st.text() | st.binary(), st.none() | st.text())
def test_a_value_opens_at_its_own_place_alone(value: str | bytes, row: str | None) -> None:
    sealed = PLACE.seal(KEY, value, row)
    assert PLACE.open(KEY, sealed, ALICE, row) == value
    assert len(sealed) == 47 + 1 + len(value.encode() if isinstance(value, str) else value)


@given(st.data())
def test_no_change_of_a_sealed_value_opens(data: st.DataObject) -> None:
    sealed = PLACE.seal(KEY, data.draw(st.text(max_size=40)), "row")
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for broken in (bytes(flipped), cut, sealed + b"\x00", b""):
        with pytest.raises(DecryptionError):
            PLACE.open(KEY, broken, ALICE, "row")


@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda sealed: Place("customer", "email").open(KEY, sealed, ALICE, "row"),
        lambda sealed: Place("supplier", "name").open(KEY, sealed, ALICE, "row"),
        lambda sealed: PLACE.open(KEY, sealed, ALICE, "another row"),
        lambda sealed: PLACE.open(KEY, sealed, BOB, "row"),
        lambda sealed: PLACE.open(KEY, sealed, ALICE),
        lambda sealed: PLACE.open(EPOCH.make(ALICE, 2)[0], sealed, ALICE, "row"),
    ],
)
def test_a_value_does_not_open_elsewhere(elsewhere: Callable[[bytes], object]) -> None:
    with pytest.raises(DecryptionError):
        elsewhere(PLACE.seal(KEY, "value", "row"))


def test_names_that_run_together_are_different_places() -> None:
    sealed = Place("a", "bc").seal(KEY, "value", "d")
    for table, column, row in (("ab", "c", "d"), ("a", "b", "cd"), ("", "abc", "d")):
        with pytest.raises(DecryptionError):
            Place(table, column).open(KEY, sealed, ALICE, row)


def test_one_encryption_key_under_two_ids_opens_nothing_of_the_other() -> None:
    other = PersonKey(bytes(16), ALICE, 1, KEY.aead)
    with pytest.raises(DecryptionError):
        PLACE.open(other, PLACE.seal(KEY, "value"), ALICE)
    forged = b"\xc1\x01\x00" + other.kid + PLACE.seal(KEY, "value")[19:]
    with pytest.raises(DecryptionError):
        PLACE.open(other, forged, ALICE)


def test_equal_values_never_look_equal() -> None:
    assert len({PLACE.seal(KEY, "value", "row")[19:] for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "sealed", [b"", b"alice@example.org" * 4, b"\xc1\x02" + bytes(60), b"\xc1\x01"]
)
def test_what_is_no_envelope_has_no_key(sealed: bytes) -> None:
    with pytest.raises(DecryptionError):
        key_id(sealed)


def test_text_in_clear_cannot_be_an_envelope() -> None:
    with pytest.raises(UnicodeDecodeError):
        PLACE.seal(KEY, "value").decode()


def test_an_authentic_plaintext_without_a_type_does_not_open() -> None:
    header = b"\xc1\x01\x00" + KEY.kid
    data = b"tutela/f1" + header + PLACE._path
    sealed = header + bytes(12) + KEY.aead.encrypt(bytes(12), b"?value", data)
    with pytest.raises(DecryptionError):
        PLACE.open(KEY, sealed, ALICE)


# --- keys --------------------------------------------------------------------------------------


def test_a_key_opens_again_from_its_wrapped_form() -> None:
    again = EPOCH.open(WRAPPED, ALICE, KEY.kid, 1)
    assert PLACE.open(again, PLACE.seal(KEY, "value"), ALICE) == "value"


def test_a_wrapped_key_does_not_open_for_anybody_or_anything_else() -> None:
    other_kid = EPOCH.make(ALICE, 1)[0].kid
    key = secrets.token_bytes(32)
    for epoch, wrapped, subject, kid, generation in (
        (EPOCH, WRAPPED, BOB, KEY.kid, 1),
        (EPOCH, WRAPPED, ALICE, other_kid, 1),
        (EPOCH, WRAPPED, ALICE, KEY.kid, 2),
        (EPOCH, WRAPPED[:-1] + bytes([WRAPPED[-1] ^ 1]), ALICE, KEY.kid, 1),
        (EpochKey("2026-03", key), WRAPPED, ALICE, KEY.kid, 1),
    ):
        with pytest.raises(KeyringError):
            epoch.open(wrapped, subject, kid, generation)
    march, april = EpochKey("2026-03", key), EpochKey("2026-04", key)
    opened, wrapped = march.make(ALICE, 1)
    with pytest.raises(KeyringError):
        april.open(wrapped, ALICE, opened.kid, 1)


def test_an_id_that_does_not_commit_to_its_key_is_noticed() -> None:
    wrong = bytes(16)
    wrapped = EPOCH._siv.encrypt(bytes(32), EPOCH._data(ALICE, wrong, 1))
    with pytest.raises(KeyringError, match="does not match its id"):
        EPOCH.open(wrapped, ALICE, wrong, 1)


def test_keys_show_nothing_and_cannot_be_changed_copied_or_pickled() -> None:
    for key in (KEY, EPOCH):
        assert "redacted" in repr(key)
        for leave in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError):
                leave(key)
    with pytest.raises(AttributeError):
        KEY.aead = AESGCM(bytes(32))
