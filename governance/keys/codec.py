"""Values as bytes and back, without loss: one tag byte, then the value.

| tag | type | bytes after the tag |
|---|---|---|
| s | str | UTF-8; lone surrogates are refused |
| i | int | two's complement, big-endian, of any length |
| f | float | IEEE 754 binary64, big-endian: NaN, infinities and -0.0 included |
| b | bool | 00 or 01 |
| d | Decimal | its text, so that exponent and trailing zeros survive |
| y | bytes | themselves |
| D | date | ISO 8601 |
| T | datetime | ISO 8601 with its UTC offset, if any; zone name and `fold` are not kept |
| u | UUID | its 16 bytes |
| j | dict or list | JSON in UTF-8; only what JSON brings back equal |

Pure. None is not a value: NULL stays NULL. Subclasses (enums among them) are refused, as they
would come back as something else.
"""

import json
import struct
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias
from uuid import UUID

Value: TypeAlias = (
    str | int | float | bool | Decimal | bytes | date | datetime | UUID | dict[str, Any] | list[Any]
)


def encode(value: Value) -> bytes:
    """The tag and bytes of a value.

    Raises:
        TypeError: values of this type, or JSON with something like it inside, are not supported.
        ValueError: the text has lone surrogates.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        raise TypeError(f"a {type(value).__name__} cannot be sealed without loss")
    return encoder(value)


def decode(data: bytes) -> Value:
    """The value that `encode` was given.

    Raises:
        ValueError: the bytes were not made by `encode`.
    """
    decoder = _DECODERS.get(data[:1])
    if decoder is None:
        raise ValueError("the value's type tag is unknown")
    try:
        return decoder(data[1:])
    except (ValueError, ArithmeticError, struct.error) as error:
        raise ValueError("the value does not fit its type tag") from error


def _encode_int(value: int) -> bytes:
    return b"i" + value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _encode_json(value: dict[str, Any] | list[Any]) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if json.loads(text) != value:
        raise TypeError("the document has keys or values that JSON does not bring back equal")
    return b"j" + text.encode()


def _decode_bool(data: bytes) -> bool:
    return (b"\x00", b"\x01").index(data) == 1


def _decode_float(data: bytes) -> float:
    (value,) = struct.unpack(">d", data)
    return float(value)


_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: lambda value: b"s" + value.encode(),
    int: _encode_int,
    float: lambda value: b"f" + struct.pack(">d", value),
    bool: lambda value: b"b\x01" if value else b"b\x00",
    Decimal: lambda value: b"d" + str(value).encode(),
    bytes: lambda value: b"y" + value,
    date: lambda value: b"D" + value.isoformat().encode(),
    datetime: lambda value: b"T" + value.isoformat().encode(),
    UUID: lambda value: b"u" + value.bytes,
    dict: _encode_json,
    list: _encode_json,
}

_DECODERS: Final[dict[bytes, Callable[[bytes], Value]]] = {
    b"s": lambda data: data.decode(),
    b"i": lambda data: int.from_bytes(data, "big", signed=True),
    b"f": _decode_float,
    b"b": _decode_bool,
    b"d": lambda data: Decimal(data.decode()),
    b"y": lambda data: data,
    b"D": lambda data: date.fromisoformat(data.decode()),
    b"T": lambda data: datetime.fromisoformat(data.decode()),
    b"u": lambda data: UUID(bytes=data),
    b"j": json.loads,
}
