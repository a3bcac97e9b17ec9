"""The address somebody asks from, also through proxies."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """Return the address of whoever asks.

    `X-Forwarded-For` is read from its end, and only as far as those who wrote it are trusted: a
    stranger may send whatever they like in front of what a proxy adds.

    Args:
        peer: who is connected; empty over a Unix socket.
        forwarded_for: the header, of several the values joined by commas; empty for none.
        trusted: the networks of our own proxies.
    """
    address = _plain(peer) or peer
    for entry in reversed(forwarded_for.split(",")):
        if not _is_in(address, trusted):
            break
        before = _plain(entry)
        if not before:
            break  # written by a proxy of ours, and not an address: the proxy is all that is known
        address = before
    return address


def network_of(address: str) -> str:
    """Return what stands for one customer of a provider: an IPv4 address, or an IPv6 /64."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return str(ip_network((known.packed[:8] + bytes(8), 64)))
    return address


def _plain(text: str) -> str:
    """Return the address alone, without port, brackets and zone; empty when it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        known = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    return str(getattr(known, "ipv4_mapped", None) or known)


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)
