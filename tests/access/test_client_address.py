from __future__ import annotations

from ipaddress import ip_network

import pytest

from controlplane.access.domain.addresses import client_address, network_of

OURS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "1.1.1.1, 198.51.100.1, 10.0.0.3", "198.51.100.1"),
        ("10.0.0.2", "10.0.0.7, 10.0.0.3", "10.0.0.7"),
        ("10.0.0.2", "", "10.0.0.2"),
        ("10.0.0.2", "198.51.100.1, nonsense", "10.0.0.2"),
        ("10.0.0.2", "198.51.100.1:51234", "198.51.100.1"),
        ("fd00::2", "[2001:db8::9]:443", "2001:db8::9"),
        ("::ffff:10.0.0.2", "::ffff:198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
    ids=[
        "direct", "a stranger's header", "one proxy", "forged in front", "two proxies",
        "all ours", "a proxy without the header", "no address", "with a port", "IPv6 with a port",
        "IPv4 in IPv6", "a Unix socket",
    ],
)  # fmt: skip
def test_the_address_is_the_last_one_that_a_trusted_proxy_wrote(
    peer: str, forwarded_for: str, expected: str
) -> None:
    assert client_address(peer, forwarded_for, OURS) == expected


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert client_address("10.0.0.2", "198.51.100.1", ()) == "10.0.0.2"


def test_one_customer_is_an_ipv4_address_or_an_ipv6_64() -> None:
    assert network_of("198.51.100.1") == "198.51.100.1"
    assert network_of("2001:db8:1:2::9") == network_of("2001:db8:1:2:ffff::1")
    assert network_of("2001:db8:1:2::9") != network_of("2001:db8:1:3::9")
    assert network_of("") == ""
