"""The database: Django's settings for it, from TIDEGATE_DATABASE_URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from controlplane.project.env import BadEnvironment

VARIABLE = "TIDEGATE_DATABASE_URL"

SESSION: Mapping[str, int] = {
    "statement_timeout": 15_000,  # milliseconds, as of the other timeouts
    "idle_in_transaction_session_timeout": 10_000,
    "tcp_keepalives_idle": 2,  # seconds, as the next
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 5_000,
}
"""How soon PostgreSQL ends a session of ours that is lost, with the locks that it holds.

Whoever publishes holds the lock on the sequence, and every other publication waits for it. A node
whose wire is cut can let go of nothing, and PostgreSQL, left to its kernel, would keep the lock for
two hours. Three probes without an answer end such a session after 5 s, and so does an answer that
nobody received for that long. A node that is frozen answers probes: a transaction in which nothing
is asked for 10 s ends for that. It must be longer than the longest that a transaction computes
between two statements (0.7 s for a fleet default of a thousand services), and shorter than the 15 s
for which another statement waits.
"""

CLIENT: Mapping[str, int] = {
    "connect_timeout": 2,  # seconds; libpq takes no less
    "tcp_user_timeout": 1500,  # milliseconds
    "keepalives_idle": 2,  # seconds, as the next
    "keepalives_interval": 1,
    "keepalives_count": 3,
}
"""How soon we give PostgreSQL up.

A network that swallows packets refuses nothing, and the kernel's own patience is a quarter of an
hour. What was sent and not received for 1.5 s ends the connection, and so do 5 s (2, and three
probes) without a sign of life while an answer is awaited.
"""

_IN_THE_URL = ("user", "password", "host", "hostaddr", "port", "dbname")
_OURS = ("client_encoding", "fallback_application_name", "replication")


def database_settings(url: str) -> dict[str, object]:
    """Return Django's DATABASES entry for a database URL.

    SQLite takes its write lock when a transaction begins, so that two writers queue instead of
    failing half-way, and uses a write-ahead log, so that readers never wait for a writer.
    PostgreSQL and we give each other up within seconds when the other, or the way there, is dead
    without a word: see `SESSION` and `CLIENT`.

    Raises:
        BadEnvironment: the URL does not parse, or has a parameter that libpq does not know.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite:///"),
            "OPTIONS": {
                "timeout": 10,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            },
        }
    if parts.fragment:
        raise BadEnvironment(f"{VARIABLE} has a #, which begins nothing here; write it as %23")
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    hosts, ports = _addresses(parts)
    asked = _parameters(parts.query)
    name = _decoded("the name", parts.path.removeprefix("/"))
    if not name and "service" not in asked:
        raise BadEnvironment(f"{VARIABLE} names no database: add /name to it")
    session = " ".join(f"-c {setting}={value}" for setting, value in SESSION.items())
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": _decoded("the user", user),
        "PASSWORD": _decoded("the password", password),
        "HOST": hosts,
        "PORT": ports,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            **CLIENT,
            **asked,
            # PostgreSQL takes the last of those with one name.
            "options": f"{session} {asked.get('options', '')}".strip(),
        },
    }


def _addresses(parts: SplitResult) -> tuple[str, str]:
    """Return the hosts and the ports, each separated by commas as libpq takes them."""
    hosts, ports = [], []
    for address in parts.netloc.rpartition("@")[2].split(","):
        found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::([0-9]*))?", address)
        port = found[3] or "" if found else ""
        if found is None or (port and not 1 <= int(port) <= 65535):
            # Not the address: with a sign that should be decoded it may be half a password.
            raise BadEnvironment(
                f"{VARIABLE} has an address that is not host:port, with a port of 1 to 65535 and "
                "an IPv6 address in brackets; a / in a password is written as %2F"
            )
        hosts.append(_decoded("the host", found[1] or found[2]))
        ports.append(port)
    return ",".join(hosts), ",".join(ports) if any(ports) else ""


def _parameters(query: str) -> dict[str, str | int]:
    """Return what stands behind the question mark, if libpq knows it."""
    # Only with PostgreSQL: a process on SQLite starts without its client.
    from psycopg.pq import Conninfo

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    parameters: dict[str, str | int] = {}
    for part in query.split("&") if query else ():
        encoded, equals, value = part.partition("=")
        name = _decoded("a parameter", encoded)
        if not equals or not re.fullmatch("[A-Za-z_]+", name):
            raise BadEnvironment(
                f"{VARIABLE} has a question mark that name=value does not follow; "
                "one that begins no parameters is written as %3F"
            )
        if name not in known or name in _OURS:
            raise BadEnvironment(
                f"{VARIABLE} has the parameter {name!r}, which libpq does not know or Tidegate "
                "sets itself"
            )
        if name in _IN_THE_URL:
            raise BadEnvironment(
                f"{VARIABLE} has the parameter {name!r}, which belongs before the question mark: "
                "postgresql://user:password@host:port/name"
            )
        if name in parameters:
            raise BadEnvironment(f"{VARIABLE} has the parameter {name!r} twice")
        parameters[name] = _value(name, _decoded(f"the parameter {name!r}", value))
    return parameters


def _value(name: str, value: str) -> str | int:
    if name not in (*CLIENT, "keepalives"):
        return value
    if not value.isdecimal():
        raise BadEnvironment(
            f"{VARIABLE} has the parameter {name!r} as {value!r}; expected a whole number"
        )
    return int(value)


def _decoded(what: str, text: str) -> str:
    # Not the text itself: it may be a password.
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise BadEnvironment(
            f"{VARIABLE} has a % in {what} that two hexadecimal digits do not follow; "
            "a % itself is written as %25"
        )
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise BadEnvironment(f"{VARIABLE} is not UTF-8 in {what}") from None
