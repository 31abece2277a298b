"""Where calls may go: named hosts on named ports, at public addresses. Pure.

A host is allowed by name, and the addresses that its name leads to are judged besides. So neither
a configured URL nor whoever controls a receiver's DNS can turn the service against the network
that it runs in: loopback, private, link-local (cloud metadata) and other special ranges are out
of reach unless an operator names the range.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address

MAX_URL: Final = 2000
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Target:
    """One address on the web, taken apart."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """Path and query, as sent: at least `/`."""

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Take an http(s) URL apart.

    Raises:
        ValueError: it is none; or holds a user, a fragment, spaces, or anything but ASCII. The
            message is a sentence that does not repeat it.
    """
    if len(url) > MAX_URL or not all("!" <= character <= "~" for character in url):
        raise ValueError(f"the address is ASCII without spaces, of at most {MAX_URL} characters")
    if "\\" in url:
        raise ValueError("the address has a backslash")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("the address begins with https://")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("the address has neither a user nor a fragment")
    host = (parts.hostname or "").lower()
    if not _is_host(host):
        raise ValueError("the address has no host that we can call")
    port = parts.port if parts.port is not None else _PORTS[parts.scheme]
    path = parts.path or "/"
    return Target(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path)


@dataclass(frozen=True, slots=True)
class _Rule:
    scheme: str
    host: str
    port: int

    def covers(self, target: Target) -> bool:
        if (self.scheme, self.port) != (target.scheme, target.port):
            return False
        if self.host.startswith("*."):
            return target.host.endswith(self.host[1:])
        return target.host == self.host


@dataclass(frozen=True, slots=True)
class Reach:
    """What an installation may call."""

    rules: tuple[_Rule, ...] = ()
    networks: tuple[Network, ...] = ()
    """Special ranges that may be reached all the same."""

    @classmethod
    def of(cls, hosts: str, networks: str = "") -> Self:
        """Read what an operator wrote, parted by commas or spaces.

        Args:
            hosts: `hooks.example.com`, `*.example.com` for all below it, `host:8443` for another
                port than 443, `http://host:8080` for a host without TLS.
            networks: `10.20.0.0/16`, `127.0.0.1`.

        Raises:
            ValueError: one of them is none; the message says which, as it is no secret.
        """
        return cls(
            tuple(_rule(word) for word in hosts.replace(",", " ").split()),
            tuple(_network(word) for word in networks.replace(",", " ").split()),
        )

    def allows(self, target: Target) -> bool:
        """Whether this host may be called at all, on this port."""
        return any(rule.covers(target) for rule in self.rules)

    def admits(self, address: Address) -> bool:
        """Whether a host may be at this address."""
        return all(
            _is_public(one) or any(one in network for network in self.networks)
            for one in _led_to(address)
        )


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _led_to(address: Address) -> list[Address]:
    """The addresses that packets to this one may end at, through a gateway or the kernel itself."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFFFFFF)]
    return [
        address,
        *([] if address.sixtofour is None else [address.sixtofour]),
        *(address.teredo or ()),
    ]


def _rule(word: str) -> _Rule:
    full = word if "://" in word else f"https://{word}"
    wild = full.partition("://")[2].startswith("*.")
    try:
        target = parse_url(full.replace("://*.", "://", 1) if wild else full)
    except ValueError as error:
        raise ValueError(f"{word!r} is not a host such as hooks.example.com") from error
    if target.path != "/":
        raise ValueError(f"{word!r} has a path: name the host alone")
    return _Rule(target.scheme, f"*.{target.host}" if wild else target.host, target.port)


def _network(word: str) -> Network:
    try:
        return ip_network(word)
    except ValueError as error:
        raise ValueError(f"{word!r} is not a network such as 10.20.0.0/16") from error


def _is_host(host: str) -> bool:
    if len(host) <= 253 and _NAME.fullmatch(host) is not None:
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host
