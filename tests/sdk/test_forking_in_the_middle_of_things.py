"""Forks while other threads hold locks or fork themselves: no child hangs, nothing stays locked."""

from __future__ import annotations

import pytest

from tests.sdk.forking import run_forking
from tests.sdk.real_plane import RealPlane

WHILE_HELD = """
import logging, os, sys, threading, time
import httpx
import tidegate
from tests.sdk.patience import be_patient
from tests.waiting import HUNG_S
from tidegate.clock import ServerClock

be_patient()
logging.getLogger("tidegate").setLevel(logging.ERROR)
held = threading.Semaphore(0)

def clock():
    # The SDK looks at its clocks under its locks: a thread that stops there keeps them.
    if threading.current_thread().name == "holder":
        held.release()
        threading.Event().wait()
    return time.monotonic()

def answer(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]

client = tidegate.SyncPolicyClient(sys.argv[1], "prod", "checkout", "tgs_x", instance_id="web")
client.start(first_answer_s=HUNG_S)
assert client.sequence == 7, client.sequence
guarded = tidegate.TidegateWsgiMiddleware(answer, client, clock=clock, serve_health=True)
payments = httpx.Client(transport=tidegate.SyncTidegateTransport(
    client, "payments", httpx.MockTransport(lambda request: httpx.Response(200)), clock=clock
))
defaults = client.policy.outbound.defaults
breaker = tidegate.Breaker(defaults.breaker, clock)
budget = tidegate.RetryBudget(defaults.retry.budget, clock)
server_clock = ServerClock(wall=clock, elapsed=time.monotonic)
date = "Mon, 02 Nov 2026 12:00:00 GMT"

def get(path):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    return b"".join(guarded(environ, lambda status, headers, *error: None))

uses = [
    lambda: get("/"),
    lambda: payments.get("http://payments/"),
    lambda: breaker.state,
    lambda: budget.record_request(),
    lambda: server_clock.observe(date, sent_s=0.0),
]
for use in uses:
    threading.Thread(target=use, name="holder", daemon=True).start()
    assert held.acquire(timeout=HUNG_S)

child = os.fork()
if child == 0:
    assert client.sequence == 7 and client.is_running
    for use in uses:
        use()
    other = tidegate.sync_http_client(client, "ledger")
    assert get("/livez") == b"ok\\n"
    client.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os._exit(0)
"""


def test_a_child_is_free_of_every_lock_that_a_thread_of_its_parent_held(plane: RealPlane) -> None:
    run_forking(WHILE_HELD, plane.url)


WHILE_BUSY = """
import os, sys, threading
from dataclasses import replace
import tidegate
from tests.waiting import HUNG_S

inside, release = threading.Semaphore(0), threading.Event()
defaults = tidegate.SAFE_DEFAULTS  # 200 places, 50 in the queue; and the rate is not in the way
rate = replace(defaults.inbound.rate, per_s=1e6, burst=1e6)
policy = replace(defaults, inbound=replace(defaults.inbound, rate=rate))

def answer(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/slow":
        inside.release()
        release.wait()
    if environ["PATH_INFO"] == "/fork" and os.fork() == 0:
        in_child()
    return [b"served"]

guarded = tidegate.TidegateWsgiMiddleware(answer, tidegate.FixedPolicy(policy))

def get(path):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    status = []
    body = guarded(environ, lambda line, headers, *error: status.append(line))
    list(body)
    return status[0]

def in_child():
    assert guarded.guard.lifecycle.inflight == 1  # the one that forked
    assert [get("/") for _ in range(3)] == ["200 OK"] * 3
    assert guarded.guard.lifecycle.inflight == 1
    os.write(1, b"child served\\n")

for _ in range(199):
    threading.Thread(target=get, args=("/slow",), daemon=True).start()
    assert inside.acquire(timeout=HUNG_S)
parent = os.getpid()
assert get("/fork") == "200 OK"
if os.getpid() != parent:
    assert guarded.guard.lifecycle.inflight == 0
    assert guarded.drain(sleep=lambda seconds: None)
    os._exit(0)
assert guarded.guard.lifecycle.inflight == 199
assert os.wait()[1] == 0
os._exit(0)
"""


def test_requests_that_go_on_in_the_parent_take_no_place_in_the_child() -> None:
    assert run_forking(WHILE_BUSY) == "child served\n"


AT_ONCE = """
import logging, os, sys, threading, time

to_fork = set()  # the threads that are about to fork, or wait for their turn

def wait_for_the_others():
    give_up_s = time.monotonic() + HUNG_S
    while not all(is_waiting(other) for other in to_fork - {threading.get_ident()}):
        assert time.monotonic() < give_up_s
        time.sleep(0.001)

def is_waiting(thread):
    frame = sys._current_frames().get(thread)
    return frame is None or frame.f_code is type(sync_client._forks).before.__code__

# Registered first, so it runs last before the fork: while it waits, the other threads come along.
os.register_at_fork(before=wait_for_the_others)
import tidegate
from tests.sdk.patience import be_patient
from tests.waiting import HUNG_S
from tidegate import sync_client

be_patient()
logging.getLogger("tidegate").setLevel(logging.ERROR)
client = tidegate.SyncPolicyClient(sys.argv[1], "prod", "checkout", "tgs_x", instance_id="web")
client.start(first_answer_s=HUNG_S)
statuses = []

def is_free():
    # Subscribing waits until no policy is being switched.
    done = threading.Event()
    threading.Thread(
        target=lambda: (client.subscribe(lambda policy: None), done.set()), daemon=True
    ).start()
    return done.wait(HUNG_S)

def fork():
    together.wait(HUNG_S)
    child = os.fork()
    if child == 0:
        os._exit(0 if client.is_running and is_free() else 1)
    to_fork.remove(threading.get_ident())
    statuses.append(os.waitpid(child, 0)[1])

threads = [threading.Thread(target=fork) for _ in range(3)]
together = threading.Barrier(
    3, action=lambda: to_fork.update(thread.ident for thread in threads)
)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert statuses == [0, 0, 0], statuses
assert is_free(), "it is held for ever"
client.stop()
"""


def test_threads_that_fork_at_once_leave_nothing_held(plane: RealPlane) -> None:
    run_forking(AT_ONCE, plane.url)


BEHIND_PYTHONS_BACK = """
import ctypes, http.client, logging, os, sys, threading, time
from pathlib import Path
from urllib.parse import urlsplit
import tidegate
from tests.sdk.patience import be_patient
from tests.waiting import HUNG_S, wait_until

be_patient()
url, touched, *given = sys.argv[1:]
logging.getLogger("tidegate").setLevel(logging.ERROR)
client = tidegate.SyncPolicyClient(
    url, "prod", "checkout", "tgs_x", instance_id=given[0] if given else None,
    transport="long_poll", wait_s=60.0,
)
if touched != "start of a parent that has none":
    client.start(first_answer_s=HUNG_S)
of_parent = client.instance_id

def is_idle(thread):
    task = Path(f"/proc/self/task/{thread.native_id}")
    sleeps = (task / "stat").read_text().rpartition(")")[2].split()[0] == "S"
    waits_to_run = "futex" in (task / "wchan").read_text()
    frame = sys._current_frames()[thread.ident]
    return sleeps and not waits_to_run and frame.f_code.co_name == "select"

# Python itself is broken in a child when a thread ran, or waited to run, at such a fork: let the
# client come to rest, in a poll that is held.
for thread in threading.enumerate():
    if thread.name == "tidegate":
        plane = http.client.HTTPConnection(urlsplit(url).netloc, timeout=HUNG_S)
        plane.request("GET", "/a-poll-is-held")
        assert plane.getresponse().status == 204
        plane.close()
        looks = [False]
        wait_until(lambda: looks.append(is_idle(thread)) or all(looks[-5:]), what="rest")

touch = {
    "is_running": lambda: client.is_running,
    "instance_id": lambda: client.instance_id,
    "start": client.start,
    "nothing": lambda: None,
    "start of a parent that has none": lambda: client.start(first_answer_s=HUNG_S),
}[touched]

# As uWSGI forks: with the GIL held, and without a call of what was registered with Python.
child = ctypes.PyDLL(None).fork()
if child == 0:
    if touched == "nothing":
        ctypes.pythonapi.PyOS_AfterFork_Child()  # as with py-call-osafterfork
    threads = [threading.Thread(target=touch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    changed = threading.Event()
    client.subscribe(lambda policy: policy.inbound.shedding.level == 2 and changed.set())
    assert changed.wait(HUNG_S), "the policy never came"
    assert client.is_running
    assert client.instance_id != of_parent, client.instance_id
    if given:
        assert client.instance_id == f"{given[0]}-{os.getpid()}", client.instance_id
    os.write(1, f"{client.instance_id}\\n".encode())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.stop()
"""


@pytest.mark.parametrize("given", [[], ["web"]], ids=["default", "given"])
@pytest.mark.parametrize(
    "touched",
    ["is_running", "instance_id", "start", "start of a parent that has none", "nothing"],
)
def test_a_fork_that_python_hears_of_late_or_never_is_noticed_all_the_same(
    plane: RealPlane, touched: str, given: list[str]
) -> None:
    followers = 1 if touched.endswith("none") else 2
    plane.on_note = lambda: publish_when_all_follow(plane, followers)

    instance = run_forking(BEHIND_PYTHONS_BACK, plane.url, touched, *given).strip()

    assert plane.instances[instance] in ('"7-0-aa"', '"8-0-aa"')
    assert len(plane.instances) == followers


def publish_when_all_follow(plane: RealPlane, followers: int) -> None:
    if list(plane.instances.values()).count('"7-0-aa"') == followers:
        plane.publish(8, shed_level=2)
