"""Where calls may go: hosts by name and port, addresses by range."""

from ipaddress import ip_address

import pytest

from governance.outbound.reach import Reach, parse_url

FORBIDDEN = (
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    # The same through a gateway, or through the kernel.
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
)


@pytest.mark.parametrize("address", FORBIDDEN)
def test_special_ranges_are_out_of_reach(address: str) -> None:
    assert not Reach.of("hooks.example.com").admits(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_public_addresses_are_within_reach(address: str) -> None:
    assert Reach().admits(ip_address(address))


def test_a_range_that_was_named_is_within_reach_and_no_other() -> None:
    reach = Reach.of("", "10.20.0.0/16, 127.0.0.1 fd00::/8")
    for address in ("10.20.3.4", "127.0.0.1", "fd12::1", "::ffff:10.20.0.1"):
        assert reach.admits(ip_address(address)), address
    for address in ("10.21.0.1", "127.0.0.2", "169.254.169.254", "fe80::1"):
        assert not reach.admits(ip_address(address)), address


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.com/a?b=c", True),
        ("https://HOOKS.example.com/", True),
        ("https://hooks.example.com:443/", True),
        ("https://hooks.example.com:444/", False),
        ("http://hooks.example.com/", False),
        ("http://hooks.example.com:443/", False),
        ("https://evil-hooks.example.com/", False),
        ("https://hooks.example.com.evil.net/", False),
        ("https://a.example.org/", True),
        ("https://a.b.example.org/", True),
        ("https://example.org/", False),
        ("https://evilexample.org/", False),
        ("https://internal:8443/", True),
        ("https://internal/", False),
        ("http://plain:8080/", True),
        ("https://plain:8080/", False),
        ("https://[2606:2800::1]/", True),
    ],
)
def test_a_host_is_allowed_by_scheme_name_and_port(url: str, allowed: bool) -> None:
    reach = Reach.of(
        "hooks.example.com, *.example.org internal:8443 http://plain:8080 [2606:2800::1]"
    )
    assert reach.allows(parse_url(url)) is allowed


def test_nothing_is_allowed_unless_it_was_named() -> None:
    assert not Reach.of("").allows(parse_url("https://hooks.example.com/"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "https:///path",
        "https://user@hooks.example.com/",
        "https://user:word@hooks.example.com/",
        "https://hooks.example.com\\@evil.net/",
        "https://hooks.example.com#@evil.net/",
        "https://hooks.example.com:0x1bb/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com/ ",
        "https://hooks.example.com/\r\nHost: evil.net",
        "https://hooks.example.com/\x00",
        "https://hööks.example.com/",
        "https://hooks..example.com/",
        "https://-.example.com/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://" + "a" * 2000 + ".com/",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse_url(url)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize("hosts", ["https://a.example/path", "ftp://a", "*", "*.", "a b@c", "a:x"])
def test_an_operator_is_told_what_is_wrong(hosts: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host|has a path"):
        Reach.of(hosts)


def test_an_operator_is_told_which_network_is_none() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is not a network"):
        Reach.of("", "10.0.0.1/8")


def test_the_host_header_names_the_port_only_where_it_is_odd() -> None:
    for url, authority in (
        ("https://a.example/", "a.example"),
        ("https://a.example:8443/", "a.example:8443"),
        ("http://[::1]:80/", "[::1]"),
        ("https://[::1]:8443/", "[::1]:8443"),
    ):
        assert parse_url(url).authority == authority
