"""Two real delivery nodes without Valkey: what they sign, and when tokens and keys end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from controlplane.delivery.domain.jws import BadSignature, canonical_jwk, verify
from tests.ports import find_free_port
from tests.scenarios.stack import ROOT
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario

CHECKOUT = "/config/v1/prod/checkout"
NOBODY = 1  # a port on which no Valkey listens

PUBLISH = """
from controlplane.access.domain.actors import system_actor
from controlplane.kernel.clock import utc_now
from controlplane.policies.services import publish_fleet_default
from controlplane.registry.services.registration import ensure_environment
actor, now = system_actor("test"), utc_now()
prod = ensure_environment(actor=actor, slug="prod", name="Production", now=now)
publish_fleet_default(actor=actor, environment=prod, document={}, reason="first", now=now)
"""
REVOKE = """
from controlplane.access.domain.actors import system_actor
from controlplane.access.selectors import find_token
from controlplane.access.services.tokens import revoke_token
from controlplane.kernel.clock import utc_now
token = find_token("{text}", now=utc_now())
revoke_token(actor=system_actor("test"), token=token, now=utc_now())
"""


@dataclass(slots=True)
class Installation:
    """A database, a secret, and the commands that use both."""

    folder: Path

    def variables(self, node: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TIDEGATE_") and name != "DJANGO_SETTINGS_MODULE"
        }
        return {
            **kept,
            "TIDEGATE_STATE_DIR": str(self.folder / node),
            "TIDEGATE_DATABASE_URL": f"sqlite:///{self.folder / 'shared' / 'db.sqlite3'}",
            "TIDEGATE_REDIS_URL": f"redis://127.0.0.1:{NOBODY}/0",
            "TIDEGATE_SIGNING_SECRET_FILE": str(self.folder / "signing_secret"),
        }

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self.variables("operator"), capture_output=True, text=True,
            timeout=HUNG_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(slots=True)
class Node:
    """One delivery process."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, token: str, **headers: str) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(
            self.url + CHECKOUT,
            headers={"Authorization": f"Bearer {token}", **given},
            timeout=2 * HUNG_S,
        )

    def jwks(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = httpx.get(f"{self.url}/config/v1/keys").json()["keys"]
        return listed

    def signer_of(self, answer: httpx.Response) -> str:
        """The key that signed an answer, checked against this node's own list."""
        trusted = {key["kid"]: key["x"] for key in self.jwks()}
        return verify(answer.headers["tidegate-signature"], answer.content, trusted)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    here = Installation(tmp_path_factory.mktemp("trust"))
    (here.folder / "shared").mkdir()
    here.manage("migrate", "--verbosity", "0")
    here.manage("shell", "-c", PUBLISH)
    return here


@contextmanager
def running_node(installation: Installation, name: str) -> Iterator[Node]:
    port = find_free_port()
    log = installation.folder / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "controlplane.delivery.serve", "--port", str(port)],
            cwd=ROOT, env=installation.variables(name), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )  # fmt: skip
    node = Node(f"http://127.0.0.1:{port}", process, log)
    try:
        wait_until(node.is_ready, what=f"{name} to be ready")
        yield node
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(HUNG_S)


@pytest.fixture(scope="module")
def nodes(installation: Installation) -> Iterator[list[Node]]:
    with running_node(installation, "node-a") as first, running_node(installation, "node-b") as two:
        yield [first, two]


@pytest.fixture
def token(installation: Installation, nodes: list[Node]) -> str:
    text = installation.manage("create_token", "service", "prod", "checkout").strip()
    wait_until(lambda: all(node.get(text).status_code == 200 for node in nodes))
    return text


class Parked(threading.Thread):
    """One request that waits; `answer` is what it got in the end."""

    def __init__(self, node: Node, token: str, **headers: str) -> None:
        super().__init__(daemon=True)
        self._ask: Callable[[], httpx.Response] = lambda: node.get(token, **headers)
        self.answer: httpx.Response | None = None

    def run(self) -> None:
        self.answer = self._ask()


def test_every_node_signs_with_the_one_key_and_a_changed_body_is_refused(
    nodes: list[Node], token: str
) -> None:
    wait_until(lambda: all(node.jwks() for node in nodes), what="the first key")
    answers = [node.get(token, Accept_Encoding="gzip") for node in nodes]

    assert [answer.headers["content-encoding"] for answer in answers] == ["gzip", "gzip"]
    # Each verifies with the list of the other: they share one key.
    kids = {node.signer_of(answer) for node, answer in zip(nodes, reversed(answers), strict=True)}
    assert len(kids) == 1
    trusted = {key["kid"]: key["x"] for key in nodes[0].jwks()}
    with pytest.raises(BadSignature):
        verify(answers[0].headers["tidegate-signature"], answers[0].content + b" ", trusted)


def test_a_revoked_token_ends_polls_and_streams_on_every_node(
    installation: Installation, nodes: list[Node], token: str
) -> None:
    tag = nodes[0].get(token).headers["etag"]
    polls = [Parked(node, token, If_None_Match=tag, Prefer="wait=60") for node in nodes]
    streams = [Parked(node, token, Accept="text/event-stream") for node in nodes]
    for each in [*polls, *streams]:
        each.start()

    installation.manage("shell", "-c", REVOKE.format(text=token))

    wait_until(lambda: all(n.get(token).status_code == 401 for n in nodes))
    for each in [*polls, *streams]:
        each.join(HUNG_S)
    assert [poll.answer and poll.answer.status_code for poll in polls] == [401, 401]
    for stream in streams:
        assert stream.answer is not None
        assert stream.answer.text.rstrip().splitlines()[-1].startswith('data: {"reason": "revoked"')


def test_a_rotated_token_and_its_successor_both_work_on_every_node(
    installation: Installation, nodes: list[Node], token: str
) -> None:
    made = installation.manage("rotate_token", "prod", "checkout", "--id", newest_id(installation))

    successor = made.strip()
    wait_until(lambda: all(n.get(successor).status_code == 200 for n in nodes))
    assert [node.get(token).status_code for node in nodes] == [200, 200]


def test_an_announced_and_a_withdrawn_key_reach_every_node(
    installation: Installation, nodes: list[Node], token: str
) -> None:
    first = nodes[0].signer_of(nodes[0].get(token))

    installation.manage("signing_keys", "rotate", "--reason", "a test", "--lead-s", "3600")
    wait_until(lambda: all(n.jwks()[-1]["status"] == "next" for n in nodes))
    second = nodes[1].jwks()[-1]
    before = [node.signer_of(node.get(token)) for node in nodes]
    installation.manage("signing_keys", "withdraw", first, "--reason", "a test")

    def sign_with(kid: str) -> bool:
        return all(
            node.jwks()[-1]["status"] == "active" and node.signer_of(node.get(token)) == kid
            for node in nodes
        )

    assert before == [first, first]
    (endorsement,) = second["endorsements"]
    known = {first: x_of(installation, first)}
    assert verify(endorsement["signature"], canonical_jwk(second["x"]), known) == first
    wait_until(lambda: sign_with(second["kid"]))
    assert all(first not in {key["kid"] for key in node.jwks()} for node in nodes)


def test_a_node_that_starts_without_the_database_signs_and_names_its_keys(
    installation: Installation, token: str
) -> None:
    with running_node(installation, "node-c") as node:
        wait_until(lambda: node.get(token).status_code == 200)
        before = node.signer_of(node.get(token))
    shared, away = installation.folder / "shared", installation.folder / "away"
    shared.rename(away)
    try:
        with running_node(installation, "node-c") as node:
            answer = node.get(token)
            assert node.signer_of(answer) == before
            assert "age" in answer.headers
    finally:
        away.rename(shared)


def newest_id(installation: Installation) -> str:
    code = (
        "from controlplane.access.selectors import list_service_token_rows as rows;"
        "print(rows(limit=1)[0].pk)"
    )
    return installation.manage("shell", "-c", code).split()[-1]


def x_of(installation: Installation, kid: str) -> str:
    lines = installation.manage("signing_keys", "list").splitlines()
    return next(line.split()[-1] for line in lines if kid in line)
