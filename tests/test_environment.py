"""The environment is typed, and a wrong value is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.project.env import (
    VARIABLES,
    BadEnvironment,
    configuration_page,
    read_environment,
    secret_key,
)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TIDEGATE_REDIS_URL", "http://x", "TIDEGATE_REDIS_URL must start with one of: redis"),
        ("TIDEGATE_DATABASE_URL", "mysql://x", "sqlite, postgresql"),
        ("TIDEGATE_RATE_WINDOW_S", "soon", "TIDEGATE_RATE_WINDOW_S is 'soon'; expected a number"),
        ("TIDEGATE_RATE_WINDOW_S", "20", "at least four times TIDEGATE_SCRAPE_INTERVAL_S (15 s)"),
        ("TIDEGATE_OVERRIDE_MAX_S", "1", "expected 60 to"),
        ("TIDEGATE_COLLECT_INTERVAL_S", "2.5", "expected a whole number"),
        ("TIDEGATE_DEMO", "yes", "expected 0 or 1"),
        ("TIDEGATE_PUBLIC_URL", "tidegate.test", "TIDEGATE_PUBLIC_URL must start with one of"),
        ("TIDEGATE_ALERTMANAGER_URL", "alerts:9093", "must be an http:// or https:// address"),
        ("TIDEGATE_ALERT_WEBHOOK_URL", "http://", "or empty for none"),
        ("TIDEGATE_REDIS_URL", "redis://[::1", "TIDEGATE_REDIS_URL cannot be read as a URL"),
        ("TIDEGATE_ALERT_WEBHOOK_URL", "http://[::1", "cannot be read as a URL"),
    ],
)
def test_a_wrong_variable_is_named_with_what_would_be_right(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(BadEnvironment) as caught:
        read_environment({name: value})

    assert message in str(caught.value)


def test_a_wrong_variable_stops_a_process_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "controlplane.delivery.serve"],
        cwd=Path(__file__).parents[1],
        env=os.environ | {
            "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.dev",
            "TIDEGATE_MAX_PARKED_POLLS": "many",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr == "TIDEGATE_MAX_PARKED_POLLS is 'many'; expected a number\n"


def test_defaults_are_the_embedded_ones() -> None:
    found = read_environment({})

    assert found.database_url.startswith("sqlite:///")
    assert found.override_max_s == 8 * 3600
    assert found.demo is False


def test_every_documented_variable_is_read() -> None:
    source = Path(__file__).parents[1].joinpath("controlplane/project").rglob("*.py")
    text = "".join(path.read_text() for path in source)

    assert [v.name for v in VARIABLES if text.count(f'"{v.name}"') < 2] == []


def test_a_secret_key_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret_key"

    first = secret_key(path, create=True)

    assert secret_key(path, create=True) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_production_refuses_to_invent_a_secret_key(tmp_path: Path) -> None:
    with pytest.raises(BadEnvironment, match="does not exist"):
        secret_key(tmp_path / "missing", create=False)


def test_the_configuration_page_is_current() -> None:
    page = Path(__file__).parents[1] / "docs/configuration.md"

    assert page.read_text() == configuration_page(), (
        "run: python -m controlplane.project.env > docs/configuration.md"
    )
