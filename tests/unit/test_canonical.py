import json
import string
from enum import StrEnum

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from consent.ledger.canonical import CanonicalError, JSONValue, encode

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | text,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=30,
)


@given(values)
def test_encoding_is_that_of_the_reference_implementation(value: JSONValue) -> None:
    assert encode(value) == rfc8785.dumps(value)


@given(values)
def test_encoding_loses_nothing(value: JSONValue) -> None:
    assert json.loads(encode(value)) == value


@given(st.permutations(string.ascii_letters[:12]))
def test_order_of_insertion_does_not_show(keys: list[str]) -> None:
    assert encode(dict.fromkeys(keys)) == encode(dict.fromkeys(sorted(keys)))


def test_escapes_are_the_shortest() -> None:
    assert encode('\x00\x08\x09\x0a\x0c\x0d\x1f"\\/\x7fé\u2028😀') == (
        '"\\u0000\\b\\t\\n\\f\\r\\u001f\\"\\\\/\x7fé\u2028😀"'.encode()
    )


def test_choices_of_an_enumeration_are_their_text() -> None:
    class State(StrEnum):
        GRANTED = "granted"

    assert encode({"state": State.GRANTED}) == b'{"state":"granted"}'


def test_a_tuple_is_an_array() -> None:
    assert encode({"a": (1, ("b",))}) == b'{"a":[1,["b"]]}'


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        b"bytes",
        range(2),
        {"set"},
        {"é": 1},
        {1: 1},
        {None: 1},
        {"deep": [{"float": 0.5}]},
        [[2**60]],
    ],
    ids=repr,
)
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(CanonicalError):
        encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["\ud800", {"a": "\udfff"}, {"\ud800": 1}], ids=ascii)
def test_lone_surrogates_are_refused_without_being_repeated(value: JSONValue) -> None:
    with pytest.raises(CanonicalError) as caught:
        encode(value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_errors_name_types_and_not_values() -> None:
    with pytest.raises(CanonicalError) as caught:
        encode([b"alice@example.com"])
    assert "alice" not in str(caught.value)
