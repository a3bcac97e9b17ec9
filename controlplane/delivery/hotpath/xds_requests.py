"""What an Envoy asks for: of the 77 KB that it is made of, the few fields that matter."""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from controlplane.delivery.adapters.xds_node import BadNode, EnvoyNode, read_node
from controlplane.delivery.hotpath.headers import MAX_SDK_CHARACTERS
from controlplane.delivery.hotpath.problems import Refusal

MAX_NAMES_BYTES = 4096
"""How long the list of resource names may be: those of one token are two."""

_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_NODE_ID = re.compile(r"[A-Za-z0-9._:~\-]{1,128}")


class _Version(msgspec.Struct):
    major_number: int = 0
    minor_number: int = 0
    patch: int = 0


class _Build(msgspec.Struct):
    version: _Version | None = None


class _Metadata(msgspec.Struct):
    tidegate: msgspec.Raw = msgspec.Raw(b"null")


class _Node(msgspec.Struct):
    id: str
    metadata: _Metadata | None = None
    user_agent_name: str = "envoy"
    user_agent_build_version: _Build | None = None


class _Request(msgspec.Struct):
    """A DiscoveryRequest as far as it matters; the rest is passed over, not even built.

    What may hold many values stays raw until its length is known to be bounded.
    """

    node: _Node
    version_info: str = ""
    type_url: str = ""
    resource_names: msgspec.Raw = msgspec.Raw(b"[]")


_REQUEST = msgspec.json.Decoder(_Request)
_NAMES = msgspec.json.Decoder(list[str])


@dataclass(frozen=True, slots=True)
class Discovery:
    """What of a discovery request matters. `names` are sorted, each there once."""

    node_id: bytes
    node: EnvoyNode
    sdk: str
    version_info: str | None
    names: tuple[str, ...]


def read_discovery(body: bytes, type_url: str) -> Discovery:
    """Read a DiscoveryRequest for resources of one type.

    Raises:
        Refusal: 400, it is none, or for another type; the field says where.
    """
    try:
        sent = _REQUEST.decode(body)
    except msgspec.ValidationError as problem:
        raise _malformed(str(problem)) from None
    except (ValueError, RecursionError):
        raise Refusal(400, "bad-body", "the body is no JSON") from None
    if sent.type_url not in ("", type_url):
        raise _bad("type_url", f"expected {type_url} at this address")
    if not _NODE_ID.fullmatch(sent.node.id):
        raise _bad("node.id", "expected 1 to 128 letters, digits or one of . _ : ~ -")
    metadata = sent.node.metadata
    try:
        shape = EnvoyNode() if metadata is None else read_node(memoryview(metadata.tidegate))
    except BadNode as problem:
        raise _bad(problem.field, str(problem)) from None
    return Discovery(
        node_id=sent.node.id.encode(),
        node=shape,
        sdk=_agent(sent.node),
        version_info=sent.version_info or None,
        names=_names(sent.resource_names),
    )


def _names(listed: msgspec.Raw) -> tuple[str, ...]:
    content = memoryview(listed)
    if len(content) > MAX_NAMES_BYTES:
        raise _bad("resource_names", f"holds more than {MAX_NAMES_BYTES} bytes")
    try:
        return tuple(sorted(set(_NAMES.decode(content))))
    except msgspec.ValidationError as problem:
        raise _malformed(str(problem), above="resource_names") from None
    except ValueError:
        raise Refusal(400, "bad-body", "the body is no JSON") from None


def _agent(node: _Node) -> str:
    """Such as envoy/1.40.0: printable ASCII, as what a log, a page and any database can hold."""
    build = node.user_agent_build_version
    version = (build and build.version) or _Version()
    numbers = f"{version.major_number}.{version.minor_number}.{version.patch}"
    return _UNPRINTABLE.sub("", f"{node.user_agent_name}/{numbers}"[:MAX_SDK_CHARACTERS])


def _malformed(problem: str, above: str = "") -> Refusal:
    message, _, where = problem.partition(" - at `$")
    where = f"{above}{where.rstrip('`')}".lstrip(".")
    missing = _MISSING.fullmatch(message)
    if missing is None:
        return _bad(where, message)
    return _bad(f"{where}.{missing[1]}".lstrip("."), "is missing")


def _bad(field: str, problem: str) -> Refusal:
    return Refusal(400, "bad-discovery-request", problem, field=field or None)
