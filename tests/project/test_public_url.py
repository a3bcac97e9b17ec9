"""Where people open Tidegate is where its forms may come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.project.env import BadEnvironment, read_environment


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("https://tidegate.example", "https://tidegate.example", "tidegate.example"),
        ("https://Tidegate.Example:443/", "https://tidegate.example", "tidegate.example"),
        ("http://tidegate.example:80", "http://tidegate.example", "tidegate.example"),
        ("https://ops.example:8443/tidegate/", "https://ops.example:8443", "ops.example"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]"),
    ],
)
def test_the_origin_is_as_browsers_write_it(url: str, origin: str, host: str) -> None:
    found = read_environment({"TIDEGATE_PUBLIC_URL": url})

    assert (found.public_origin, found.public_host) == (origin, host)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "TIDEGATE_PUBLIC_URL is empty"),
        ("  ", "TIDEGATE_PUBLIC_URL is empty"),
        ("tidegate.example:8443", "TIDEGATE_PUBLIC_URL must start with one of: http, https"),
        ("//tidegate.example", "TIDEGATE_PUBLIC_URL must start with one of: http, https"),
        ("https://", "TIDEGATE_PUBLIC_URL must be a scheme, a name"),
        ("https://tidegate.example:99999", "TIDEGATE_PUBLIC_URL must be a scheme, a name"),
        ("https://ann:secret@tidegate.example", "TIDEGATE_PUBLIC_URL must be a scheme, a name"),
        ("https://tidegate.example/?a=b", "TIDEGATE_PUBLIC_URL must be a scheme, a name"),
    ],
)
def test_an_address_that_nobody_can_open_stops_the_boot(url: str, sentence: str) -> None:
    with pytest.raises(BadEnvironment) as caught:
        read_environment({"TIDEGATE_PUBLIC_URL": url})

    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33"])
def test_trusted_proxies_are_addresses_or_networks(text: str) -> None:
    with pytest.raises(BadEnvironment, match="TIDEGATE_TRUSTED_PROXIES"):
        read_environment({"TIDEGATE_TRUSTED_PROXIES": text})


def test_settings_answer_to_the_public_name_and_trust_its_origin() -> None:
    script = (
        "import json; from controlplane.project.settings import base;"
        "print(json.dumps([base.ALLOWED_HOSTS, base.CSRF_TRUSTED_ORIGINS]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | {
            "TIDEGATE_PUBLIC_URL": "https://tidegate.example:8443",
            "TIDEGATE_ALLOWED_HOSTS": "internal",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )  # fmt: skip

    assert json.loads(done.stdout) == [
        ["internal", "tidegate.example"],
        ["https://tidegate.example:8443"],
    ]
