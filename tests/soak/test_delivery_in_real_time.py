"""How long a slow disk holds up a publication, and a dead Prometheus whoever asks it."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from controlplane.delivery.services.remembering import SnapshotMemory
from controlplane.delivery.services.snapshot_file import News
from controlplane.delivery.services.snapshot_log import SnapshotLog
from controlplane.telemetry.domain.promql import select
from controlplane.telemetry.sources.port import SourceUnavailable
from controlplane.telemetry.sources.prometheus import READ_S, PrometheusSource
from tests.delivery.builders import NOW, published
from tests.ports import find_free_port
from tests.soak.figures import Figures
from tests.telemetry.prometheus_server import http_server
from tests.waiting import HUNG_S

pytestmark = pytest.mark.soak


async def test_a_slow_disk_delays_a_publication_by_50_ms_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    memory, is_free = SnapshotMemory(tmp_path / "snapshots.log"), threading.Event()
    times: list[float] = []

    def stuck(log: SnapshotLog, records: bytes) -> None:
        assert is_free.wait(HUNG_S)

    await memory.add(News((published(7),)), confirmed_at_unix=NOW.timestamp())
    monkeypatch.setattr(SnapshotLog, "_append", stuck)
    try:
        for sequence in range(8, 12):
            began_s = time.monotonic()
            await memory.add(News((published(sequence),)), confirmed_at_unix=NOW.timestamp())
            times.append(time.monotonic() - began_s)
    finally:
        is_free.set()
        await memory.close()

    assert min(times) >= 0.045
    figures.check("a publication that a stuck disk holds up", max(times), "s", at_most=0.5)


def test_a_refused_connection_is_said_quickly(figures: Figures) -> None:
    with closing(PrometheusSource(f"http://127.0.0.1:{find_free_port()}")) as source:
        began_s = time.monotonic()
        with pytest.raises(SourceUnavailable, match="Connection refused"):
            source.instant(select("up"), 1.0)
        took_s = time.monotonic() - began_s

    figures.check("a Prometheus that refuses connections is given up", took_s, "s", at_most=3.0)


def test_a_hung_prometheus_is_given_up_after_one_read_timeout(figures: Figures) -> None:
    let_go = threading.Event()

    def hang(_handler: BaseHTTPRequestHandler, _form: str) -> None:
        let_go.wait(HUNG_S)

    with http_server(hang) as url, closing(PrometheusSource(url)) as source:
        began_s = time.monotonic()
        try:
            with pytest.raises(SourceUnavailable, match="did not answer within 4 s"):
                source.instant(select("up"), 1.0)
        finally:
            let_go.set()
        took_s = time.monotonic() - began_s

    figures.check("a Prometheus that hangs is given up", took_s, "s", at_most=READ_S + 2.7)
