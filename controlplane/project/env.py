"""The typed environment: every variable Tidegate reads, with its unit and default.

A wrong value stops the process at boot with a sentence that names the variable.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from controlplane.access.domain.addresses import Network
from controlplane.access.domain.sign_ins import Limits
from controlplane.project.variables import VARIABLES as VARIABLES


class BadEnvironment(SystemExit):
    """A variable of the environment has a value Tidegate cannot use.

    It ends the process that nobody catches it in: with its text, and without a traceback, which
    would only show where settings are read.
    """


@dataclass(frozen=True, slots=True)
class Tidegate:
    """What the environment says, typed. Read once at boot; settings hold it as `TIDEGATE`."""

    state_dir: Path
    secret_key_file: Path
    signing_secret_file: Path
    database_url: str
    redis_url: str
    prometheus_url: str
    allowed_hosts: tuple[str, ...]
    demo: bool
    rate_window_s: int
    scrape_interval_s: float
    collect_interval_s: int
    override_default_s: int
    override_max_s: int
    max_parked_polls: int
    operator_concurrency: int
    public_url: str
    trusted_proxies: tuple[Network, ...]
    sign_in_limits: Limits
    passwords_at_once: int
    passwords_waiting: int
    session_idle_s: int
    session_max_s: int
    alertmanager_url: str
    alert_webhook_url: str

    @property
    def snapshot_file(self) -> Path:
        """Where delivery keeps its last snapshots."""
        return self.state_dir / "snapshots.log"

    @property
    def public_host(self) -> str:
        """The host name of TIDEGATE_PUBLIC_URL, as a `Host` header has it without the port."""
        name = urlsplit(self.public_url).hostname or ""
        return f"[{name}]" if ":" in name else name

    @property
    def public_origin(self) -> str:
        """The origin of TIDEGATE_PUBLIC_URL, as browsers write it: no default port, no path."""
        parts = urlsplit(self.public_url)
        is_usual = parts.port in (None, {"http": 80, "https": 443}[parts.scheme])
        port = "" if is_usual else f":{parts.port}"
        return f"{parts.scheme}://{self.public_host}{port}"


def read_environment(values: Mapping[str, str] | None = None) -> Tidegate:
    """Return the typed environment.

    Raises:
        BadEnvironment: a variable does not parse or is out of range; the text names it.
    """
    env = os.environ if values is None else values
    state_dir = Path(env.get("TIDEGATE_STATE_DIR", ".tidegate")).resolve()
    scrape_interval_s = _number(env, "TIDEGATE_SCRAPE_INTERVAL_S", 15, 0.1, 300)
    rate_window_s = _integer(env, "TIDEGATE_RATE_WINDOW_S", 60, 1, 3600)
    if rate_window_s < 4 * scrape_interval_s:
        raise BadEnvironment(
            f"TIDEGATE_RATE_WINDOW_S is {rate_window_s} s, which must be at least four times "
            f"TIDEGATE_SCRAPE_INTERVAL_S ({scrape_interval_s:g} s)"
        )
    secret_key_file = Path(env.get("TIDEGATE_SECRET_KEY_FILE") or state_dir / "secret_key")
    return Tidegate(
        state_dir=state_dir,
        secret_key_file=secret_key_file,
        signing_secret_file=Path(env.get("TIDEGATE_SIGNING_SECRET_FILE") or secret_key_file),
        database_url=_url(
            env,
            "TIDEGATE_DATABASE_URL",
            f"sqlite:///{state_dir / 'db.sqlite3'}",
            ("sqlite", "postgresql"),
        ),
        redis_url=_url(
            env, "TIDEGATE_REDIS_URL", "redis://127.0.0.1:8001/0", ("redis", "rediss", "unix")
        ),
        prometheus_url=_url(
            env, "TIDEGATE_PROMETHEUS_URL", "http://127.0.0.1:8002", ("http", "https")
        ),
        allowed_hosts=tuple(
            name.strip()
            for name in env.get("TIDEGATE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
            if name.strip()
        ),
        demo=_switch(env, "TIDEGATE_DEMO"),
        rate_window_s=rate_window_s,
        scrape_interval_s=scrape_interval_s,
        collect_interval_s=_integer(env, "TIDEGATE_COLLECT_INTERVAL_S", 5, 1, 300),
        override_default_s=_integer(env, "TIDEGATE_OVERRIDE_DEFAULT_S", 3600, 5, 7 * 86400),
        override_max_s=_integer(env, "TIDEGATE_OVERRIDE_MAX_S", 8 * 3600, 60, 7 * 86400),
        max_parked_polls=_integer(env, "TIDEGATE_MAX_PARKED_POLLS", 10_000, 1, 1_000_000),
        operator_concurrency=_integer(env, "TIDEGATE_OPERATOR_CONCURRENCY", 32, 1, 10_000),
        public_url=_public_url(env),
        trusted_proxies=_networks(env, "TIDEGATE_TRUSTED_PROXIES"),
        sign_in_limits=Limits(
            window_s=_integer(env, "TIDEGATE_SIGN_IN_WINDOW_S", 300, 10, 3600),
            per_name_and_address=_integer(env, "TIDEGATE_SIGN_IN_PER_NAME_AND_ADDRESS", 5, 1, 1000),
            per_address=_integer(env, "TIDEGATE_SIGN_IN_PER_ADDRESS", 30, 1, 100_000),
            per_name=_integer(env, "TIDEGATE_SIGN_IN_PER_NAME", 100, 1, 100_000),
        ),
        passwords_at_once=_integer(env, "TIDEGATE_PASSWORDS_AT_ONCE", 1, 1, 64),
        passwords_waiting=_integer(env, "TIDEGATE_PASSWORDS_WAITING", 8, 0, 1000),
        session_idle_s=_integer(env, "TIDEGATE_SESSION_IDLE_S", 12 * 3600, 60, 7 * 86400),
        session_max_s=_integer(env, "TIDEGATE_SESSION_MAX_S", 7 * 86400, 60, 30 * 86400),
        alertmanager_url=_optional_url(env, "TIDEGATE_ALERTMANAGER_URL"),
        alert_webhook_url=_optional_url(env, "TIDEGATE_ALERT_WEBHOOK_URL"),
    )


def secret_key(path: Path, *, create: bool, variable: str = "TIDEGATE_SECRET_KEY_FILE") -> str:
    """Return a secret from its file, which `variable` names; make the file first if `create`.

    Raises:
        BadEnvironment: the file is missing (and may not be made), or is too short.
    """
    if create and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass  # another process made it between the check and the open: use that one
        else:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(64))
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        raise BadEnvironment(
            f"{variable} names {path}, which does not exist; "
            "make it with 64 random characters, readable by this user only"
        ) from None
    if len(key) < 50:
        raise BadEnvironment(f"{path} holds {len(key)} characters; at least 50 are needed")
    return key


def _url(env: Mapping[str, str], name: str, default: str, schemes: tuple[str, ...]) -> str:
    value = env.get(name) or default
    if _split(name, value).scheme not in schemes:
        raise BadEnvironment(f"{name} must start with one of: {', '.join(schemes)}")
    return value


def _public_url(env: Mapping[str, str]) -> str:
    name = "TIDEGATE_PUBLIC_URL"
    if name in env and not env[name].strip():
        raise BadEnvironment(
            f"{name} is empty; it is the address that people open, such as "
            "https://tidegate.example:8443, or leave it out"
        )
    value = _url(env, name, "http://127.0.0.1:8000", ("http", "https")).strip().rstrip("/")
    parts = _split(name, value)
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if not (has_port and parts.hostname) or parts.username or parts.query or parts.fragment:
        raise BadEnvironment(
            f"{name} must be a scheme, a name and, if it is not the usual one, a port, such as "
            "https://tidegate.example:8443"
        )
    return value


def _networks(env: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return tuple(
            ip_network(text.strip()) for text in env.get(name, "").split(",") if text.strip()
        )
    except ValueError as problem:
        raise BadEnvironment(
            f"{name}: {problem}; expected addresses or networks, such as 10.0.0.5,192.168.0.0/16"
        ) from None


def _optional_url(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    parts = _split(name, value)
    if value and not (parts.scheme in ("http", "https") and parts.hostname):
        raise BadEnvironment(f"{name} must be an http:// or https:// address, or empty for none")
    return value


def _split(name: str, value: str) -> SplitResult:
    try:
        return urlsplit(value)
    except ValueError:  # whose text holds what may be a password
        raise BadEnvironment(
            f"{name} cannot be read as a URL; brackets stand around an IPv6 address only"
        ) from None


def _number(
    env: Mapping[str, str], name: str, default: float, minimum: float, maximum: float
) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise BadEnvironment(f"{name} is {text!r}; expected a number") from None
    if not minimum <= value <= maximum:
        raise BadEnvironment(f"{name} is {text}; expected {minimum:g} to {maximum:g}")
    return value


def _integer(env: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    value = _number(env, name, default, minimum, maximum)
    if value != int(value):
        raise BadEnvironment(f"{name} is {value}; expected a whole number")
    return int(value)


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "0")
    if text not in ("0", "1", ""):
        raise BadEnvironment(f"{name} is {text!r}; expected 0 or 1")
    return text == "1"


def configuration_page() -> str:
    """Return docs/configuration.md: every variable with its default, unit and meaning."""
    rows = "\n".join(
        f"| `{item.name}` | `{item.default}` | {item.unit} | {item.help} |" for item in VARIABLES
    )
    return (
        "# Configuration\n\n"
        "Everything is an environment variable, read and checked once at boot: a wrong value stops "
        "the process with a sentence that names it.\nThis page is generated: "
        "`python -m controlplane.project.env > docs/configuration.md`.\n\n"
        "`DJANGO_SETTINGS_MODULE` says for whom. `controlplane.project.settings.dev`, the default, "
        "is for one machine: what secrets are missing it makes, and it may show the demo.\n"
        "`controlplane.project.settings.production` is for everything else, delivery nodes too: it "
        "does not start without its secrets, has no demo, and wants pages behind TLS "
        "(a proxy that sets `X-Forwarded-Proto`).\n\n"
        "| variable | default | unit | meaning |\n| --- | --- | --- | --- |\n" + rows + "\n\n"
        "## The database's URL\n\n"
        "For PostgreSQL, as its own client library, libpq, reads it:\n\n"
        "- In the user, the password, the name, the host and the values of parameters, a character "
        "that means something in a URL is written as `%` and two hexadecimal digits: `@` is `%40`, "
        "`/` is `%2F`, `:` is `%3A`, `?` is `%3F`, `#` is `%23`, and `%` itself is `%25`. A "
        "directory of Unix sockets is a host: `postgresql://tidegate@%2Fvar%2Frun%2Fpostgresql/"
        "tidegate`.\n"
        "- Several hosts are separated by commas, and tried in turn: "
        "`postgresql://tidegate@db-1:5432,db-2:5432/tidegate?target_session_attrs=read-write`.\n"
        "- Parameters are those of libpq, but for what stands before them: `sslmode`, "
        "`sslrootcert`, `sslcert`, `sslkey`, `application_name`, `target_session_attrs`, "
        "`passfile` and more. Any other stops the process, and so does one that is given twice. "
        "What Tidegate sets itself (`connect_timeout`, "
        "`tcp_user_timeout`, the `keepalives`) is replaced; `options` are added to Tidegate's, and "
        "the last one of a name counts. Without `sslmode` libpq speaks TLS if the server does, and "
        "verifies nothing.\n"
    )


if __name__ == "__main__":
    print(configuration_page(), end="")
