"""Keys, envelopes and blind indexes against committed vectors, and against a second reader.

The vectors were written by a program that knows the specification in the modules' docstrings and
not their code. The reader below is of the same kind: it uses the primitives alone.
"""

import hmac
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from consent.subjects import SubjectRef
from governance.keys.blind_index import BlindIndex, IndexRoot
from governance.keys.codec import Value, encode
from governance.keys.envelope import PersonKey, Place, key_id
from governance.keys.wrapping import EpochKey

ANSWERS = Path(__file__).parent / "known_answers"


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ANSWERS / name).read_text())["vectors"]
    return found


def derive(key: bytes) -> tuple[bytes, bytes]:
    derived = hmac.new(key, b"tutela/k1/person", "sha512").digest()
    return derived[:32], derived[32:48]


def key_of(vector: dict[str, Any]) -> PersonKey:
    encryption_key, kid = derive(bytes.fromhex(vector["key"]))
    subject = SubjectRef(vector["subject"])
    return PersonKey(kid, subject, vector["generation"], AESGCM(encryption_key))


def read_envelope(
    key: bytes, sealed: bytes, table: str, column: str, subject: str, row: str | None
) -> bytes:
    """An envelope's plaintext, by the specification alone."""

    def prefixed(text: str) -> bytes:
        return len(text.encode()).to_bytes(4, "big") + text.encode()

    encryption_key, kid = derive(key)
    magic, algorithm, flags = sealed[:3]
    assert (magic, algorithm, flags, sealed[3:19]) == (0xC1, 1, row is not None, kid)
    data = b"tutela/f1" + sealed[:19] + prefixed(table) + prefixed(column)
    if row is not None:
        data += prefixed(subject) + prefixed(row)
    return AESGCM(encryption_key).decrypt(sealed[19:31], sealed[31:], data)


def value_of(vector: dict[str, Any]) -> Value:
    readers: dict[str, Any] = {
        "Decimal": Decimal,
        "UUID": UUID,
        "bytes": bytes.fromhex,
        "date": date.fromisoformat,
        "datetime": datetime.fromisoformat,
        "float": float,
    }
    value: Value = readers.get(vector["type"], lambda value: value)(vector["value"])
    return value


@pytest.mark.parametrize("vector", vectors("person_key_v1.json"), ids=lambda v: v["epoch"])
def test_a_stored_key_opens_to_the_known_one(vector: dict[str, Any]) -> None:
    encryption_key, kid = derive(bytes.fromhex(vector["key"]))
    assert encryption_key.hex() == vector["encryption_key"]
    assert kid.hex() == vector["kid"]
    epoch = EpochKey(vector["epoch"], bytes.fromhex(vector["epoch_key"]))
    wrapped = bytes.fromhex(vector["wrapped"])
    opened = epoch.open(wrapped, vector["subject"], kid, vector["generation"])
    place = Place("a", "b")
    assert place.open(opened, place.seal(key_of(vector), "x"), opened.subject) == "x"


@pytest.mark.parametrize("vector", vectors("envelope_v1.json"), ids=lambda v: v["name"])
def test_a_stored_value_opens_to_the_known_one(vector: dict[str, Any]) -> None:
    sealed = bytes.fromhex(vector["envelope"])
    key = key_of(vector)
    place = Place(vector["table"], vector["column"])
    value = place.open(key, sealed, key.subject, vector["row"])
    assert (type(value).__name__, value) == (type(value_of(vector)).__name__, value_of(vector))
    assert encode(value).hex() == vector["plaintext"]
    assert key_id(sealed) == key.kid


@pytest.mark.parametrize("vector", vectors("envelope_v1.json"), ids=lambda v: v["name"])
def test_a_reader_that_knows_the_specification_reads_what_is_sealed(
    vector: dict[str, Any],
) -> None:
    sealed = Place(vector["table"], vector["column"]).seal(
        key_of(vector), value_of(vector), vector["row"]
    )
    where = (vector["table"], vector["column"], vector["subject"], vector["row"])
    assert read_envelope(bytes.fromhex(vector["key"]), sealed, *where).hex() == vector["plaintext"]
    assert len(sealed) == len(bytes.fromhex(vector["envelope"]))


@pytest.mark.parametrize("vector", vectors("blind_index_v1.json"), ids=lambda v: v["token"][:8])
def test_tokens_are_the_known_ones(vector: dict[str, Any]) -> None:
    root = IndexRoot(vector["version"], bytes.fromhex(vector["root"]), writable=True)
    index = BlindIndex(root, vector["table"], vector["column"], vector["index"])
    assert index.token(*vector["parts"]).hex() == vector["token"]
