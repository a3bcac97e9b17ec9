"""A real Prometheus on a free port, and an HTTP server that misbehaves as it is told."""

from __future__ import annotations

import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.ports import find_free_port
from tests.waiting import HUNG_S, wait_until

Answer = Callable[[BaseHTTPRequestHandler, str], None]


@contextmanager
def http_server(answer: Answer) -> Iterator[str]:
    """Serve `answer(handler, body)` on a free loopback port; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, "")

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            answer(self, self.rfile.read(length).decode())

        def log_message(self, *_args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(handler: BaseHTTPRequestHandler, status: int, body: str, kind: str) -> None:
    data = body.encode()
    handler.send_response(status)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[str]:
    """Run Prometheus that scrapes `targets` (host:port -> service) each second; yields its URL."""
    binary = shutil.which("prometheus")
    assert binary, "these tests need Prometheus: apt-get install prometheus"
    groups = "".join(
        f"      - targets: ['{address}']\n"
        f"        labels: {{environment: prod, service: {service}, instance: {service}-1}}\n"
        for address, service in targets.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        "scrape_configs:\n  - job_name: fleet\n    static_configs:\n" + groups
    )
    port = find_free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_ready(url), what="Prometheus to become ready")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=HUNG_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/-/ready", timeout=HUNG_S) as response:
            return bool(response.status == 200)
    except OSError:
        return False
