"""Finding the endpoint (`GET /products/{id}`) of a request, at the price of one match."""

import re
from collections.abc import Iterable

OTHER_ROUTE = "other"
OTHER_METHOD = "_OTHER"  # as OpenTelemetry names it
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)

_PARAMETER = re.compile(r"\{([^{}]*)\}")


class RouteTable:
    """Endpoint keys, compiled once; more literal templates win over less literal ones.

    `{id}` stands for one path segment, `{rest:path}` for the remainder of the path.
    """

    __slots__ = ("_exact", "_patterns")

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact: dict[tuple[str, str], str] = {}
        templates: dict[str, dict[str, str]] = {}
        for key in keys:
            method, route = split_key(key)
            if "{" in route:
                templates.setdefault(method, {})[route] = key
            else:
                self._exact[method, route] = key
        self._patterns = {method: _compiled(found) for method, found in templates.items()}

    def find(self, method: str, path: str) -> str | None:
        """Return the key of the endpoint that serves this path; None when there is none."""
        key = self._exact.get((method, path))
        if key is not None:
            return key
        compiled = self._patterns.get(method)
        if compiled is None:
            return None
        pattern, keys = compiled
        match = pattern.fullmatch(path)
        return keys[match.lastindex] if match is not None and match.lastindex else None


def split_key(key: str) -> tuple[str, str]:
    """Return the method and the route of `GET /products/{id}`."""
    method, _, route = key.partition(" ")
    return method, route.strip()


def _compiled(keys_by_route: dict[str, str]) -> tuple[re.Pattern[str], list[str]]:
    ordered = sorted(keys_by_route, key=_looseness)
    keys = ["", *(keys_by_route[route] for route in ordered)]
    # An empty group closes each alternative: the index of the last group names the route.
    pattern = re.compile("|".join(f"{_expression(route)}()" for route in ordered))
    return pattern, keys


def _looseness(route: str) -> tuple[int, int, str]:
    catch_all = sum(name.endswith(":path") for name in _PARAMETER.findall(route))
    return catch_all, len(_PARAMETER.findall(route)), route


def _expression(route: str) -> str:
    parts = _PARAMETER.split(route)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = re.escape(part)
        else:
            parts[index] = ".+" if part.endswith(":path") else "[^/]+"
    return "".join(parts)
