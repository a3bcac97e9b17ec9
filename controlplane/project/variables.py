"""Every variable that `project.env` reads, for people: the generated configuration page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable, for the generated configuration page."""

    name: str
    default: str
    unit: str
    help: str


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "TIDEGATE_STATE_DIR",
        ".tidegate",
        "path",
        "Secrets, embedded data, logs, and what delivery serves; one for each process of delivery.",
    ),
    Variable(
        "TIDEGATE_DATABASE_URL",
        "sqlite:///<state dir>/db.sqlite3",
        "URL",
        "`sqlite:///path` or `postgresql://user:password@host:port/name?sslmode=verify-full`; see "
        "below.",
    ),
    Variable(
        "TIDEGATE_REDIS_URL",
        "redis://127.0.0.1:8001/0",
        "URL",
        "Valkey or Redis: broker, shared cache and change hints.",
    ),
    Variable(
        "TIDEGATE_PROMETHEUS_URL",
        "http://127.0.0.1:8002",
        "URL",
        "Any Prometheus-compatible API: Prometheus, Thanos, Mimir, VictoriaMetrics.",
    ),
    Variable(
        "TIDEGATE_ALLOWED_HOSTS",
        "localhost,127.0.0.1,[::1]",
        "comma-separated names",
        "Host names that the pages and the operator API answer to.",
    ),
    Variable(
        "TIDEGATE_SECRET_KEY_FILE",
        "<state dir>/secret_key",
        "path",
        "Signs sessions. Made on first run by the dev settings; required by production.",
    ),
    Variable(
        "TIDEGATE_SIGNING_SECRET_FILE",
        "the file of TIDEGATE_SECRET_KEY_FILE",
        "path",
        "Seals the private parts of signing keys in the database; at least 50 characters, the same "
        "for every node.",
    ),
    Variable("TIDEGATE_DEMO", "0", "0 or 1", "1 shows the demo logins on the sign-in page."),
    Variable(
        "TIDEGATE_RATE_WINDOW_S",
        "60",
        "seconds",
        "Window of rates on pages; at least four scrape intervals.",
    ),
    Variable(
        "TIDEGATE_SCRAPE_INTERVAL_S",
        "15",
        "seconds",
        "How often Prometheus scrapes the fleet.",
    ),
    Variable("TIDEGATE_COLLECT_INTERVAL_S", "5", "seconds", "How often the fleet is read."),
    Variable(
        "TIDEGATE_OVERRIDE_DEFAULT_S", "3600", "seconds", "How long an override lasts by default."
    ),
    Variable("TIDEGATE_OVERRIDE_MAX_S", "28800", "seconds", "The longest an override may last."),
    Variable(
        "TIDEGATE_MAX_PARKED_POLLS",
        "10000",
        "connections",
        "Long-polls one delivery process holds at once; beyond it answers 503.",
    ),
    Variable(
        "TIDEGATE_OPERATOR_CONCURRENCY",
        "32",
        "requests",
        "Operator requests one web process works on at once; beyond it answers 503.",
    ),
    Variable(
        "TIDEGATE_PUBLIC_URL",
        "http://127.0.0.1:8000",
        "URL",
        "Where people open Tidegate, as it stands in their browsers: scheme, name and port. Alerts "
        "link there, and forms sent from there are trusted, so behind a proxy it has to be set.",
    ),
    Variable(
        "TIDEGATE_TRUSTED_PROXIES",
        "",
        "comma-separated addresses or networks",
        "Proxies of yours that append to `X-Forwarded-For`, such as `10.0.0.0/8`. Nobody else's is "
        "believed; behind a proxy that is not named here, everybody counts as one address.",
    ),
    Variable(
        "TIDEGATE_SIGN_IN_WINDOW_S",
        "300",
        "seconds",
        "The window in which wrong passwords are counted.",
    ),
    Variable(
        "TIDEGATE_SIGN_IN_PER_NAME_AND_ADDRESS",
        "5",
        "attempts in a window",
        "Wrong passwords for one name from one address; then 429 until the window ends.",
    ),
    Variable(
        "TIDEGATE_SIGN_IN_PER_ADDRESS",
        "30",
        "attempts in a window",
        "Wrong passwords from one address, whatever the names.",
    ),
    Variable(
        "TIDEGATE_SIGN_IN_PER_NAME",
        "100",
        "attempts in a window",
        "Wrong passwords for one name from everywhere. Browsers that have signed in as that name "
        "before are counted by themselves.",
    ),
    Variable(
        "TIDEGATE_PASSWORDS_AT_ONCE",
        "1",
        "passwords",
        "Passwords that one web process hashes at a time; each takes a processor.",
    ),
    Variable(
        "TIDEGATE_PASSWORDS_WAITING",
        "8",
        "passwords",
        "Passwords that wait for their turn, at most 5 s; beyond it the answer is 503.",
    ),
    Variable(
        "TIDEGATE_SESSION_IDLE_S",
        "43200",
        "seconds",
        "A session ends when nobody opened a page or sent a form for so long; what a page "
        "refreshes by itself does not count.",
    ),
    Variable(
        "TIDEGATE_SESSION_MAX_S", "604800", "seconds", "A session ends so long after the sign-in."
    ),
    Variable(
        "TIDEGATE_ALERTMANAGER_URL",
        "",
        "URL",
        "Alertmanager (API v2) that is told of rejected policies; empty for none.",
    ),
    Variable(
        "TIDEGATE_ALERT_WEBHOOK_URL",
        "",
        "URL",
        "Told the same, in the form of Alertmanager's webhooks; empty for none.",
    ),
)
