import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consent.ledger.checkpoint import (
    BadSignatureError,
    Checkpoint,
    MalformedNoteError,
    SignatureType,
    UnverifiedNoteError,
    Verifier,
    cosignature_message,
    key_id,
    open_checkpoint,
    open_note,
    parse_vkey,
    sign_note,
    vkey,
)
from consent.ledger.tree import EMPTY_ROOT
from tests.fakes.memory_log import SeedSigner

LOG = SeedSigner("example.com/consent", b"\x01" * 32)
WITNESS = SeedSigner("witness.example", b"\x02" * 32)
STRANGER = SeedSigner("stranger.example", b"\x03" * 32)
COSIGNER = Verifier(WITNESS.name, WITNESS.public_key, SignatureType.COSIGNATURE_V1)
HEAD = Checkpoint(LOG.name, 3, bytes(range(32)))


def signature_line(signer: SeedSigner, text: str) -> str:
    return sign_note(text, signer).removeprefix(text + "\n")


def cosignature_line(time: int, text: str) -> str:
    stamped = time.to_bytes(8) + WITNESS.sign(cosignature_message(text, time))
    return f"— {WITNESS.name} {base64.b64encode(COSIGNER.key_id + stamped).decode()}\n"


def test_a_signed_checkpoint_opens_with_the_logs_key() -> None:
    note = sign_note(HEAD.text(), LOG)
    assert open_checkpoint(note, [LOG.verifier]) == HEAD
    assert open_checkpoint(note.encode(), [parse_vkey(LOG.vkey)]) == HEAD


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    st.integers(0, 10**18 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_checkpoints_read_back_as_written(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


def test_extension_lines_are_signed_and_ignored() -> None:
    note = sign_note(HEAD.text() + "extension 1\nextension 2\n", LOG)
    assert open_checkpoint(note, [LOG.verifier]) == HEAD


ROOT = base64.b64encode(EMPTY_ROOT).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "log\n",
        f"log\n0\n{ROOT}",
        f"\n0\n{ROOT}\n",
        f"log\n00\n{ROOT}\n",
        f"log\n01\n{ROOT}\n",
        f"log\n-1\n{ROOT}\n",
        f"log\n+1\n{ROOT}\n",
        f"log\n 1\n{ROOT}\n",
        f"log\n1_0\n{ROOT}\n",
        f"log\n\u0661\n{ROOT}\n",
        f"log\n{10**30}\n{ROOT}\n",
        f"log\n0\n{ROOT[:-1]}\n",
        f"log\n0\n{ROOT[:-4]}\n",
        "log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",  # stray bits after the hash
        f"log\n0\n{ROOT}\n\n",
        f"log\n0\n{ROOT}\n\nextension\n",
    ],
)
def test_what_is_not_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        Checkpoint.parse(text)


def test_a_note_of_another_kind_is_no_checkpoint() -> None:
    with pytest.raises(MalformedNoteError):
        open_checkpoint(sign_note("a list of things\n", LOG), [LOG.verifier])


def test_another_logs_key_cannot_vouch_for_a_checkpoint() -> None:
    note = sign_note(HEAD.text(), STRANGER)
    assert open_note(note, [STRANGER.verifier]).verified == (STRANGER.name,)
    with pytest.raises(UnverifiedNoteError, match="named as its origin"):
        open_checkpoint(note, [LOG.verifier, STRANGER.verifier])


@pytest.mark.parametrize("bit", range(0, len(HEAD.text()) * 8, 5))
def test_no_bit_of_a_signed_text_can_change(bit: int) -> None:
    note = bytearray(sign_note(HEAD.text(), LOG).encode())
    note[bit // 8] ^= 1 << bit % 8
    with pytest.raises((BadSignatureError, MalformedNoteError)):
        open_checkpoint(bytes(note), [LOG.verifier])


def test_strangers_signatures_are_ignored() -> None:
    note = sign_note(HEAD.text(), LOG) + signature_line(STRANGER, "something else\n")
    assert open_note(note, [LOG.verifier]).verified == (LOG.name,)


def test_one_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    note = sign_note(HEAD.text(), LOG) + signature_line(STRANGER, "something else\n")
    with pytest.raises(BadSignatureError):
        open_note(note, [LOG.verifier, STRANGER.verifier])


def test_a_note_may_carry_a_hundred_signatures_and_no_more() -> None:
    lines = [signature_line(STRANGER, f"{number}\n") for number in range(100)]
    head, own = HEAD.text(), signature_line(LOG, HEAD.text())
    assert open_note(head + "\n" + "".join(lines[:99]) + own, [LOG.verifier]).text == head
    with pytest.raises(MalformedNoteError):
        open_note(head + "\n" + "".join(lines) + own, [LOG.verifier])


def test_both_keys_of_a_log_count_while_they_are_rotated() -> None:
    new = SeedSigner(LOG.name, b"\x09" * 32)
    note = sign_note(HEAD.text(), LOG) + signature_line(new, HEAD.text())
    assert open_note(note, [LOG.verifier, new.verifier]).verified == (LOG.name, LOG.name)
    assert open_checkpoint(note, [new.verifier]) == HEAD


NOTE = sign_note(HEAD.text(), LOG)


@pytest.mark.parametrize(
    "note",
    [
        b"\xff" + NOTE.encode(),
        "\ud800" + NOTE,
        "\t" + NOTE,
        "\r" + NOTE,
        NOTE + "\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("— ", "—"),
        NOTE.replace("example.com/consent", "example.com/con\u00a0sent"),
        NOTE.replace("example.com/consent", "example.com+consent"),
        NOTE.replace("example.com/consent ", " "),
        NOTE[:-1] + " trailing\n",
        NOTE[:-3] + "\n",
        HEAD.text() + f"\n— {LOG.name} AAAAAA==\n",  # a key id and no signature
        HEAD.text() + f"\n— {LOG.name}\n",
    ],
)
def test_what_is_not_a_note_is_refused(note: str | bytes) -> None:
    with pytest.raises(MalformedNoteError):
        open_note(note, [LOG.verifier])


@pytest.mark.parametrize("length", [1, 63, 65])
def test_a_signature_of_another_length_is_a_wrong_one(length: int) -> None:
    signature = base64.b64encode(LOG.verifier.key_id + bytes(length)).decode()
    with pytest.raises(BadSignatureError):
        open_note(f"{HEAD.text()}\n— {LOG.name} {signature}\n", [LOG.verifier])


@pytest.mark.parametrize("text", ["no newline", "tab\t\n", "\x00\n", "\ud800\n"])
def test_what_cannot_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        sign_note(text, LOG)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\u2003b", "a\x1fb"])
def test_no_key_has_an_improper_name(name: str) -> None:
    with pytest.raises(MalformedNoteError):
        sign_note(HEAD.text(), SeedSigner(name))
    with pytest.raises(MalformedNoteError):
        parse_vkey(vkey(name, LOG.public_key))


def test_a_verifier_key_reads_back_as_written() -> None:
    assert parse_vkey(LOG.vkey) == LOG.verifier
    assert parse_vkey(vkey(WITNESS.name, WITNESS.public_key, COSIGNER.kind)) == COSIGNER
    assert key_id(LOG.name, LOG.public_key).hex() in LOG.vkey


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        LOG.vkey[:-4],
        LOG.vkey.upper(),
        LOG.vkey.replace("consent", "other"),
        vkey(LOG.name, LOG.public_key[:31]),
        vkey(LOG.name, LOG.public_key + b"\0"),
        LOG.vkey + "\n",
        "name+6f0d2a6b+BgAA",
    ],
)
def test_what_is_not_a_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        parse_vkey(text)


def test_a_witness_cosigns_a_time_and_the_text() -> None:
    note = sign_note(HEAD.text(), LOG) + cosignature_line(1_679_315_147, HEAD.text())
    opened = open_note(note, [LOG.verifier, COSIGNER])
    assert opened.verified == (LOG.name, WITNESS.name)
    assert open_checkpoint(note, [LOG.verifier, COSIGNER]) == HEAD


def test_cosigned_bytes_are_those_of_the_specification() -> None:
    assert cosignature_message("example.com/log\n1\nroot=\n", 1_679_315_147) == (
        b"cosignature/v1\ntime 1679315147\nexample.com/log\n1\nroot=\n"
    )


def test_a_cosignature_does_not_hold_for_another_time() -> None:
    stamped = (8).to_bytes(8) + WITNESS.sign(cosignature_message(HEAD.text(), 7))
    line = f"— {WITNESS.name} {base64.b64encode(COSIGNER.key_id + stamped).decode()}\n"
    with pytest.raises(BadSignatureError):
        open_note(sign_note(HEAD.text(), LOG) + line, [LOG.verifier, COSIGNER])


def test_a_plain_signature_is_no_cosignature() -> None:
    signature = WITNESS.sign(HEAD.text().encode())
    line = f"— {WITNESS.name} {base64.b64encode(COSIGNER.key_id + signature).decode()}\n"
    with pytest.raises(BadSignatureError):
        open_note(sign_note(HEAD.text(), LOG) + line, [LOG.verifier, COSIGNER])
