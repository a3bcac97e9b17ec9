"""What the hot path is compared with: how each is started, and what a poll of it looks like."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.machine import SERVER_CORE
from benchmarks.harness.processes import Server, free_port, running

HOW_TO_GET = {
    "nginx": "apt-get install nginx-light",
    "etcd": "apt-get install etcd-server",
    "wrk": "apt-get install wrk",
}
_NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 20000; multi_accept on; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/json;
  keepalive_timeout 75; keepalive_requests 1000000000; open_file_cache max=4096 inactive=1h;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/files; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Missing:
    """A program that this machine does not have."""

    name: str

    def __str__(self) -> str:
        return f"{self.name}: not installed ({HOW_TO_GET[self.name]})"


def find_missing(*names: str) -> list[Missing]:
    """Return those of these programs that are not installed here."""
    return [Missing(name) for name in names if find_program(name) is None]


def find_program(name: str) -> str | None:
    """Return the path of a program, also where only root's search path would find it."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def bare_server(body: bytes, *, waiters: bool = False) -> Iterator[Server]:
    """Run benchmarks.harness.bare with this body."""
    port = free_port()
    with tempfile.NamedTemporaryFile(prefix="tidegate-bench-body-") as file:
        file.write(body)
        file.flush()
        argv = [sys.executable, "-m", "benchmarks.harness.bare", "--port", str(port),
                "--body", file.name, *(["--waiters"] if waiters else [])]  # fmt: skip
        with running("bare", argv, port=port, core=SERVER_CORE) as server:
            yield server


@contextlib.contextmanager
def drf_server(env: Mapping[str, str]) -> Iterator[Server]:
    """Run the DRF view on the database of an installation, in the server that suits it best.

    That is granian: under uvicorn each request gets a thread and a connection of its own.
    """
    port = free_port()
    argv = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port),
        "--workers", "1", "--blocking-threads", "1", "--log-level", "error",
        "benchmarks.harness.drf:application",
    ]  # fmt: skip
    with running("drf", argv, port=port, core=SERVER_CORE, env=env) as server:
        yield server


@contextlib.contextmanager
def nginx_server(paths: list[str], body: bytes) -> Iterator[Server]:
    """Run one nginx worker that serves `body` as a static file at each of `paths`."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-nginx-") as folder:
        Path(folder).chmod(0o755)
        first = Path(folder, "files", paths[0].lstrip("/"))
        first.parent.mkdir(parents=True)
        first.write_bytes(body)
        for path in paths[1:]:
            Path(folder, "files", path.lstrip("/")).hardlink_to(first)
        config = Path(folder, "nginx.conf")
        config.write_text(_NGINX.format(folder=folder, port=port))
        argv = [find_program("nginx") or "nginx", "-p", folder, "-c", str(config)]
        with running("nginx", argv, port=port, core=SERVER_CORE) as server:
            yield server


@contextlib.contextmanager
def etcd_server() -> Iterator[Server]:
    """Run one etcd node with its data in a folder that goes away."""
    port, peer_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-etcd-") as folder:
        url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        argv = [
            find_program("etcd") or "etcd", "--data-dir", folder, "--listen-client-urls", url,
            "--advertise-client-urls", url, "--listen-peer-urls", peer_url,
            "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"default={peer_url}",
            "--logger", "zap", "--log-level", "error",
        ]  # fmt: skip
        with running("etcd", argv, port=port, core=SERVER_CORE, ready_path="/health") as server:
            yield server


def etcd_put(port: int, key: str, value: bytes) -> int:
    """Store a value; return the revision of the store."""
    answer = etcd_call(port, "/v3/kv/put", {"key": coded(key.encode()), "value": coded(value)})
    return int(answer["header"]["revision"])


def etcd_call(port: int, path: str, body: Mapping[str, object]) -> dict[str, dict[str, str]]:
    """Call etcd's JSON gateway."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, dict[str, str]] = json.load(response)
        return answer


def coded(value: bytes) -> str:
    """Return bytes as the JSON gateway wants them."""
    return base64.b64encode(value).decode()


def get(path: str, port: int, **headers: str) -> bytes:
    """Return a GET request as bytes."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post_json(path: str, port: int, body: Mapping[str, object]) -> bytes:
    """Return a POST request with a JSON body as bytes."""
    text = json.dumps(body, separators=(",", ":"))
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\n\r\n{text}"
    ).encode()
