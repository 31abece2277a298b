"""Evidence as officers may see it: what a choice rests on, without what identifies a person.

Guarantees: an IP address is cut to its network (IPv4 /24, IPv6 /48); what looks like an e-mail
address or a telephone number is masked as identifiers are, also inside a longer text.
Pure.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final

from consent.errors import InvalidSubjectError
from consent.subjects import email, phone
from governance.vault.identify import mask

_EMAIL: Final = re.compile(r"[^\s\"'<>(),;:@]+@[^\s\"'<>(),;:@]+\.[^\s\"'<>(),;:@.]+")
_PHONE: Final = re.compile(r"(?<![\w.:-])\+\d[\d ()/.-]{5,20}\d(?![\w.:-])")
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4}:[0-9a-fA-F:.]+)(?![\w:])"
)


def shown(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The evidence as name and text, in its own order; what is nested has its path as name."""
    return [(name, masked(text)) for name, text in _flat("", evidence)]


def names_nobody(evidence: Mapping[str, Any]) -> bool:
    """Whether nothing in the evidence has to be masked, so that it may leave as it is."""
    return all(masked(text) == text for _, text in _flat("", evidence))


def masked(text: str) -> str:
    """A text in which addresses and numbers of people cannot be read."""
    text = _EMAIL.sub(lambda found: _mask(email, found.group()), text)
    text = _PHONE.sub(lambda found: _mask(phone, found.group()), text)
    return _ADDRESS.sub(lambda found: _network(found.group()), text)


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path} · {name}" if path else str(name), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            yield from _flat(f"{path} {number}", inner)
    elif isinstance(value, bool) or value is None:
        yield path, {True: "yes", False: "no", None: "not given"}[value]
    else:
        yield path, str(value)


def _mask(parse: Any, text: str) -> str:
    try:
        return mask(parse(text))
    except InvalidSubjectError:
        return "•••"


def _network(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return text
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))
