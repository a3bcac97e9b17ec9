"""A real Alertmanager takes our alerts, passes them on, keeps them firing and lets them end."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx

from controlplane.kernel.clock import utc_now
from controlplane.notifications.domain.alerts import ChannelKind
from controlplane.notifications.models import Notice
from controlplane.notifications.services.channels import channel_to
from controlplane.notifications.services.sending import send_due_notices
from controlplane.notifications.upstream.post import Channel
from tests.notifications.builders import content, fire
from tests.ports import find_free_port
from tests.telemetry.prometheus_server import http_server, reply
from tests.waiting import HUNG_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
BINARY = (
    shutil.which("prometheus-alertmanager")
    or shutil.which("alertmanager")
    or shutil.which("prometheus-alertmanager", path=str(ROOT / ".tidegate/tools/bin"))
)
KINDS = (ChannelKind.ALERTMANAGER,)


@contextmanager
def alertmanager(folder: Path, receiver: str) -> Iterator[str]:
    assert BINARY, "needs Alertmanager: apt-get install -y prometheus-alertmanager"
    config = folder / "alertmanager.yml"
    config.write_text(
        "route: {receiver: team, group_by: ['...'], group_wait: 0s, group_interval: 1s}\n"
        f"receivers: [{{name: team, webhook_configs: [{{url: '{receiver}'}}]}}]\n"
    )
    port = find_free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                str(BINARY), f"--config.file={config}", f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/-/ready"), what="Alertmanager to become ready")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=HUNG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def channels_to(url: str) -> Iterator[dict[ChannelKind, Channel]]:
    """The channel that the environment would name, which no slow machine makes give up."""
    channel = channel_to(ChannelKind.ALERTMANAGER, url)
    channel._client.timeout = httpx.Timeout(HUNG_S)
    with closing(channel):
        yield {ChannelKind.ALERTMANAGER: channel}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=HUNG_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def shown_by(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=HUNG_S) as response:
        found: list[dict[str, Any]] = json.load(response)
    return found


def test_alerts_fire_once_stay_and_end_in_a_real_alertmanager(db: None, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    def receive(handler: BaseHTTPRequestHandler, body: str) -> None:
        heard.extend((a["status"], a["labels"]["service"]) for a in json.loads(body)["alerts"])
        reply(handler, 200, "", "text/plain")

    with (
        http_server(receive) as receiver,
        alertmanager(tmp_path, receiver) as url,
        channels_to(url) as channels,
    ):

        def tell(after_s: float = 0.0) -> int:
            at = utc_now() + timedelta(seconds=after_s)
            return send_due_notices(channels=channels, external_url="http://t.test", now=at)

        fire(utc_now(), content(utc_now(), reason="no such field"), channels=KINDS)
        assert tell() == 1
        wait_until(lambda: heard == [("firing", "checkout")], what="Alertmanager to pass it on")
        (shown,) = shown_by(url)
        first_end = shown["endsAt"]
        assert shown["labels"]["alertname"] == "TidegatePolicyRejected"
        assert shown["annotations"]["reason"] == "no such field"
        assert shown["generatorURL"] == "http://tidegate.test/convergence/7/"

        assert tell(after_s=61) == 1
        (shown,) = shown_by(url)
        assert shown["endsAt"] > first_end

        fire(utc_now(), channels=KINDS)
        assert tell(after_s=1) == 1
        wait_until(lambda: ("resolved", "checkout") in heard, what="the end to be passed on")

    assert heard == [("firing", "checkout"), ("resolved", "checkout")]
    assert Notice.objects.get().told == "resolved"


def test_what_alertmanager_refuses_is_kept_with_its_words(db: None, tmp_path: Path) -> None:
    with alertmanager(tmp_path, "http://127.0.0.1:1/") as url, channels_to(url) as channels:
        bad = content(utc_now())
        bad = type(bad)(labels={**bad.labels, "not a name": "x"}, starts_at=bad.starts_at)
        fire(utc_now(), bad, channels=KINDS)

        assert send_due_notices(channels=channels, external_url="", now=utc_now()) == 0

    assert "answered 400" in Notice.objects.get().last_error
