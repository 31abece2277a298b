import math
import struct
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.keys.codec import decode, encode

zones = st.none() | st.builds(
    lambda seconds: timezone(timedelta(seconds=seconds)), st.integers(-86_399, 86_399)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
).filter(lambda value: isinstance(value, dict | list))
values = st.one_of(
    st.text(),
    st.integers(),
    st.integers(min_value=2**4000, max_value=2**4001),
    st.booleans(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False),
    st.binary(),
    st.dates(),
    st.datetimes(timezones=zones).map(lambda moment: moment.replace(fold=0)),
    st.uuids(),
)


@given(values)
def test_every_value_comes_back_as_the_same_value_of_the_same_type(value: Any) -> None:
    back = decode(encode(value))
    assert type(back) is type(value)
    assert back == value
    assert repr(back) == repr(value)


@given(json_values)
def test_documents_come_back_equal(value: Any) -> None:
    try:
        encoded = encode(value)
    except ValueError:
        assert any(math.isinf(number) for number in floats_in(value))
    else:
        assert decode(encoded) == value


def floats_in(value: Any) -> list[float]:
    match value:
        case dict():
            return [number for item in value.values() for number in floats_in(item)]
        case list():
            return [number for item in value for number in floats_in(item)]
        case float():
            return [value]
    return []


@pytest.mark.parametrize(
    ("value", "other"),
    [(True, 1), (1, 1.0), ("1", 1), (b"x", "x"), (Decimal("1.0"), Decimal("1.00"))],
)
def test_values_that_compare_alike_or_look_alike_stay_apart(value: Any, other: Any) -> None:
    assert encode(value) != encode(other)
    assert repr(decode(encode(value))) == repr(value)


def test_not_a_number_keeps_its_bits() -> None:
    (odd,) = struct.unpack(">d", bytes.fromhex("7ff8000000001234"))
    back = decode(encode(odd))
    assert isinstance(back, float)
    assert struct.pack(">d", back).hex() == "7ff8000000001234"
    assert str(decode(encode(Decimal("-sNaN12")))) == "-sNaN12"
    assert math.copysign(1, float(str(decode(encode(-0.0))))) == -1


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    "value",
    [
        None,
        Colour.RED,
        Size.BIG,
        object(),
        (1, 2),
        bytearray(b"x"),
        {1: "a key that would become text"},
        {"a": (1, 2)},
        [Colour.RED, {1}],
    ],
)
def test_what_would_come_back_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize("value", ["\ud800", {"a": "\udfff"}, {"\ud800": 1}, [float("inf")]])
def test_what_has_no_exact_bytes_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"surrogates|JSON compliant"):
        encode(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"x1",
        b"b\x02",
        b"b",
        b"f\x00",
        b"u\x00",
        b"d1,0",
        b"D2026-02-30",
        b"s\xff",
        b"j{",
    ],
)
def test_bytes_that_no_value_has_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="type tag"):
        decode(data)


def test_each_type_has_its_own_tag() -> None:
    samples: list[Any] = [
        "",
        0,
        0.0,
        False,
        Decimal(0),
        b"",
        date(2026, 1, 1),
        datetime(2026, 1, 1, tzinfo=UTC),
        UUID(int=0),
    ]
    assert bytes(encode(sample)[0] for sample in samples) == b"sifbdyDTu"
    assert encode({})[:1] == encode([])[:1] == b"j"
