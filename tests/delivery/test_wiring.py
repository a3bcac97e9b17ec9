"""How the delivery plane is put together, and what it says about itself."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from controlplane.delivery.build import build
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.services.instruments import PLANE
from controlplane.delivery.tasks import prune_silent_instances
from controlplane.kernel.instruments import REGISTRY
from tests.delivery.builders import answer, make_plane
from tests.waiting import HUNG_S

ROOT = Path(__file__).resolve().parents[2]


HOT = ("app", "plane", "asgi", "wire", "store", "reports", "auth", "longpoll", "streams", "xds")
CLIENTS = ("django", "rest_framework", "celery", "redis", "sqlite3")


@pytest.fixture(scope="module")
def brought_in() -> dict[str, list[str]]:
    """What each module of the hot path was the first to import, in one fresh process."""
    script = (
        "import importlib, json, sys\n"
        "found, seen = {}, set()\n"
        f"for module in {HOT}:\n"
        "    importlib.import_module(f'controlplane.delivery.hotpath.{module}')\n"
        f"    found[module] = [name for name in {CLIENTS} if name in {{*sys.modules}} - seen]\n"
        "    seen.update(found[module])\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=HUNG_S,
    )  # fmt: skip
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", HOT)
def test_the_hot_path_imports_neither_django_nor_a_client_of_anything(
    brought_in: dict[str, list[str]], module: str
) -> None:
    assert brought_in[module] == []


def test_build_reads_nothing_and_is_not_ready() -> None:
    plane, feed = build()

    assert isinstance(plane, DeliveryPlane)
    assert plane.is_ready is False
    assert feed.confirmed_at_unix == 0.0


def test_polls_parked_connections_and_age_are_exported() -> None:
    plane = make_plane()
    PLANE.watch(plane.delivery, plane.reports, lambda: 1.0)
    for headers in ({}, {"If-None-Match": '"7-0-9f3c"'}, {"If-None-Match": '"7-0-9f3c"'}):
        answer(plane, headers=headers)
    answer(plane, token=None)

    text = generate_latest(REGISTRY).decode()

    assert 'tidegate_delivery_polls_total{status="200"} 1.0' in text
    assert 'tidegate_delivery_polls_total{status="304"} 2.0' in text
    assert 'tidegate_delivery_polls_total{status="401"} 1.0' in text
    assert "tidegate_delivery_parked_connections 0.0" in text
    assert "\ntidegate_delivery_feed_age_seconds " in text


def test_there_is_no_age_before_the_first_confirmation() -> None:
    plane = make_plane()
    PLANE.watch(plane.delivery, plane.reports, lambda: 0.0)

    assert "\ntidegate_delivery_feed_age_seconds " not in generate_latest(REGISTRY).decode()


def test_stopping_a_feed_that_never_ran_is_quick_and_harmless() -> None:
    _, feed = build()

    asyncio.run(feed.stop())


def test_the_tidying_task_is_named_and_bounded(db: None) -> None:
    assert prune_silent_instances.name == "delivery.prune_silent_instances"
    assert prune_silent_instances.time_limit == 30
    assert prune_silent_instances() == 0
