"""Finding the endpoint (`GET /products/{id}`) of a request, at the price of one match."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

OTHER_ROUTE = "other"
OTHER_METHOD = "_OTHER"  # as OpenTelemetry names it
METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY")
)

_PARAMETER = re.compile(r"\{([^{}]*)\}")

_ENDS = frozenset(("/", ""))  # of a path that is spelled in another way

# The keys for a path without and with a slash at its end; usually one key stands for both.
_Keys = tuple[str, str]


class RouteTable:
    """Endpoint keys, compiled once; more literal templates win over less literal ones.

    `{id}` stands for one path segment, `{rest:path}` for the remainder of the path. Every spelling
    of a path finds its key (`normal_path`). `HEAD` finds the key of `GET`, unless there is one for
    `HEAD` of the same shape.
    """

    __slots__ = ("_exact", "_patterns")

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact: dict[tuple[str, str], str] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], list[_Keys]]] = {}
        for method, keys_by_shape in _by_method(keys).items():
            templates: dict[str, _Keys] = {}
            for shape, found in keys_by_shape.items():
                if _PARAMETER.search(shape):
                    templates[shape] = found
                else:
                    self._exact[method, shape], self._exact[method, f"{shape}/"] = found
            if templates:
                self._patterns[method] = _compiled(templates)

    def find(self, method: str, path: str) -> str | None:
        """Return the key of the endpoint that serves this path; None when there is none.

        Args:
            path: percent-decoded, once, as servers hand it to an application.
        """
        key = self._exact.get((method, path))
        if key is not None:
            return key
        normal = path
        # The question of `normal_path`, asked here as well: a call costs more than the answer.
        if "//" in path or "/." in path or path[-1:] in _ENDS:
            normal = normal_path(path)
            key = self._exact.get((method, normal))
            if key is not None:
                return key
        compiled = self._patterns.get(method)
        if compiled is None:
            return None
        pattern, keys = compiled
        match = pattern.fullmatch(normal)
        if match is None or not match.lastindex:
            return None
        return keys[match.lastindex][normal is not path and path.endswith("/")]


def split_key(key: str) -> tuple[str, str]:
    """Return the method and the route of `GET /products/{id}`."""
    method, _, route = key.partition(" ")
    return method, route.strip()


def normal_path(path: str) -> str:
    """Return the path that a decoded path is another spelling of (RFC 3986 6.2.2, 6.2.3).

    Without `.` and `..`, empty segments and a slash at its end.
    """
    if "//" not in path and "/." not in path and path[-1:] not in _ENDS:
        return path
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


def shape_of(route: str) -> str:
    """Return what makes a route the same as another: all but the names of its parameters."""
    return normal_path(unquote(_PARAMETER.sub(_nameless, route)))


def _nameless(parameter: re.Match[str]) -> str:
    return "{:path}" if parameter[1].endswith(":path") else "{}"


def _by_method(keys: Iterable[str]) -> dict[str, dict[str, _Keys]]:
    found: dict[str, dict[str, dict[bool, str]]] = {"GET": {}, "HEAD": {}}
    for key in sorted(keys):
        method, route = split_key(key)
        spelled = found.setdefault(method, {}).setdefault(shape_of(route), {})
        spelled.setdefault(route.endswith("/"), key)
    for shape, spelled in found["GET"].items():
        found["HEAD"].setdefault(shape, spelled)
    return {
        method: {shape: _both(spelled) for shape, spelled in shapes.items()}
        for method, shapes in found.items()
    }


def _both(spelled: dict[bool, str]) -> _Keys:
    usual = next(iter(spelled.values()))
    return spelled.get(False, usual), spelled.get(True, usual)


def _compiled(keys_by_shape: dict[str, _Keys]) -> tuple[re.Pattern[str], list[_Keys]]:
    ordered = sorted(keys_by_shape, key=_looseness)
    keys = [("", ""), *(keys_by_shape[shape] for shape in ordered)]
    # An empty group closes each alternative: the index of the last group names the route.
    # A parameter may hold any character, also the end of a line.
    pattern = re.compile("|".join(f"{_expression(shape)}()" for shape in ordered), re.DOTALL)
    return pattern, keys


def _looseness(shape: str) -> tuple[int, int, str]:
    catch_all = sum(name.endswith(":path") for name in _PARAMETER.findall(shape))
    return catch_all, len(_PARAMETER.findall(shape)), shape


def _expression(shape: str) -> str:
    parts = _PARAMETER.split(shape)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = re.escape(part)
        else:
            parts[index] = ".+" if part.endswith(":path") else "[^/]+"
    return "".join(parts)
