"""A storm: publications one after the other, while parts of the cluster are taken away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.survival.cluster import NODES, SERVICES, Cluster
from tests.survival.instances import Instance, Way
from tests.survival.network import CLIENTS
from tests.survival.sdk_clients import Balancer, SdkInstance

WAYS = (Way.LONG_POLL, Way.STREAM, Way.SHORT_POLL, Way.LONG_POLL, Way.STREAM)
SDK_INSTANCES = 4
PUBLISHERS = 2  # divides the number of services, so that none has two
PUBLISHED_WITHIN_S = 90.0
SETTLED_WITHIN_S = 20.0
FIRST_NUMBER = 3000  # publication n sets deadline_ms to this and n


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that goes wrong: a part is killed, or its wire cut, and mended after a while."""

    verb: str
    part: str
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.verb} {self.part} for {self.lasts_s:.1f} s"


@dataclass(slots=True)
class Published:
    """One publication that the operator API acknowledged."""

    service: str
    number: int
    at: float


@dataclass(slots=True)
class Outcome:
    """What came of a storm."""

    instances: list[Instance]
    sdk_instances: list[SdkInstance]
    published: list[Published]
    newest: dict[str, tuple[int, int]]  # sequence and number in force, by service
    events: list[str] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)  # of what nodes read
    took_s: float = 0.0
    settled_s: float = 0.0

    def gaps(self) -> list[float]:
        """Return every time that an instance stood without an answer, longest first."""
        found = [gap for instance in self.instances for _, gap in instance.seen.gaps]
        return sorted(found, reverse=True)

    def not_in_force(self) -> dict[str, tuple[int, int]]:
        """Return services on which something else than the last acknowledged is in force.

        With each the number acknowledged and the number in force.
        """
        last = {published.service: published.number for published in self.published}
        return {
            service: (number, self.newest[service][1])
            for service, number in last.items()
            if self.newest[service][1] != number
        }

    def propagation(self) -> tuple[list[float], list[float]]:
        """Return how long publications took to each of their instances, shortest first.

        First those that nothing stood in the way of, in seconds from the acknowledgement; then
        those during which the database, or a wire to it, was away, from when that was mended.
        An instance that holds a later publication has passed the one before. What reached an
        instance never is in neither.
        """
        undisturbed: list[float] = []
        mended: list[float] = []
        for at, when in self._arrivals():
            ends = [end for begin, end in self.outages if begin <= when and end >= at]
            if not ends:
                undisturbed.append(max(0.0, when - at))
            elif max(ends) < when:  # else the outage was none of its node's
                mended.append(when - max(ends))
        return sorted(undisturbed), sorted(mended)

    def unreached(self) -> int:
        """Return how many times an instance never held a publication, or a later one."""
        sent = sum(
            published.service == instance.service
            for instance in self.instances
            for published in self.published
        )
        return sent - sum(1 for _ in self._arrivals())

    def _arrivals(self) -> Iterator[tuple[float, float]]:
        """Yield when each publication was acknowledged, and when each of its instances held it."""
        for instance in self.instances:
            held = iter(instance.seen.held)
            present = next(held, None)
            for published in self.published:
                if published.service == instance.service:
                    while present is not None and present[2] < published.number:
                        present = next(held, None)
                    if present is not None:
                        yield published.at, present[0]

    def report(self) -> dict[str, Any]:
        """Return the figures of the run."""
        gaps = self.gaps()
        undisturbed, mended = self.propagation()
        return {
            "publications": len(self.published),
            "instances": len(self.instances),
            "sdk_instances": len(self.sdk_instances),
            "events": len(self.events),
            "storm_s": round(self.took_s, 1),
            "settled_s": round(self.settled_s, 2),
            "longest_gap_s": round(gaps[0], 3) if gaps else 0.0,
            "gaps_over_0.5_s": sum(gap > 0.5 for gap in gaps),
            "propagation_s": _quantiles(undisturbed),
            "propagation_after_outages_s": _quantiles(mended),
            "unreached": self.unreached(),
            "answers_with_age": sum(instance.seen.stale for instance in self.instances),
            "nodes_lost": sum(instance.seen.broken for instance in self.instances),
        }


class Storm:
    """Runs one storm on a cluster; all of it on one event loop among the clients."""

    def __init__(self, cluster: Cluster, dice: random.Random, *, publications: int) -> None:
        self._cluster = cluster
        self._dice = dice
        self._publications = publications
        self._published: list[Published] = []
        self._on: dict[str, asyncio.Task[None]] = {}
        self._started_at = 0.0
        self._outages: list[tuple[float, float]] = []
        self.said: list[str] = []

    def run(self, events: Sequence[Event]) -> Outcome:
        """Let it pass; returns when everything is mended and every instance has settled."""
        return self._cluster.network.call(CLIENTS, lambda: asyncio.run(self._pass(events)))

    async def _pass(self, events: Sequence[Event]) -> Outcome:
        self._started_at = _now()
        urls = [self._cluster.urls[name] for name in NODES]
        instances = [
            Instance(
                f"{service}-{way_number}", service, self._cluster.tokens[service], urls, way,
                random.Random(self._dice.random()),
            )
            for service in SERVICES
            for way_number, way in enumerate(WAYS, start=1)
        ]  # fmt: skip
        balancer = Balancer(urls)
        await balancer.start()
        sdk_instances = [
            SdkInstance(
                balancer.url, service, self._cluster.tokens[service], f"{service}-sdk",
                self._cluster.directory / "sdk",
            )
            for service in SERVICES[:SDK_INSTANCES]
        ]  # fmt: skip
        everybody: list[Instance | SdkInstance] = [*instances, *sdk_instances]
        following = [asyncio.create_task(each.run()) for each in everybody]
        try:
            async with asyncio.TaskGroup() as group:
                for publisher in range(PUBLISHERS):
                    group.create_task(self._publish_all(publisher))
                group.create_task(self._rage(events))
            over_at = _now()
            newest = {service: await self._find_in_force(service) for service in SERVICES}
            settled_s = await self._settle(everybody, newest)
        finally:
            for task in following:
                task.cancel()
            results = await asyncio.gather(*following, return_exceptions=True)
            balancer.stop()
        broken = [result for result in results if not isinstance(result, asyncio.CancelledError)]
        assert not broken, f"instances ended: {broken}"
        return Outcome(
            instances=instances,
            sdk_instances=sdk_instances,
            published=self._published,
            newest=newest,
            events=self.said,
            outages=self._outages,
            took_s=over_at - self._started_at,
            settled_s=settled_s,
        )

    async def _settle(
        self, instances: Sequence[Instance | SdkInstance], newest: dict[str, tuple[int, int]]
    ) -> float:
        """Return how long it took until every instance held the newest; gives up after 20 s."""
        began_at = _now()
        while _now() - began_at < SETTLED_WITHIN_S:
            if all(instance.sequence >= newest[instance.service][0] for instance in instances):
                break
            await asyncio.sleep(0.05)
        return _now() - began_at

    async def _publish_all(self, publisher: int) -> None:
        """Publish one after the other to the services that are this publisher's."""
        numbers = range(FIRST_NUMBER + 1, FIRST_NUMBER + self._publications + 1)
        for number in numbers[publisher::PUBLISHERS]:
            service = SERVICES[number % len(SERVICES)]
            await self._publish_until_done(service, number)
            self._published.append(Published(service, number, _now()))
            await asyncio.sleep(self._dice.uniform(0.05, 0.2))

    async def _publish_until_done(self, service: str, number: int) -> None:
        began_at = _now()
        problem = await self._publish(service, number)
        while problem:
            assert _now() - began_at < PUBLISHED_WITHIN_S, f"{number} is not published: {problem}"
            await asyncio.sleep(0.2)
            problem = await self._publish(service, number)

    async def _publish(self, service: str, number: int) -> str:
        """Publish once; return why it is not in force, "" when it is, whatever the answer was."""
        body = {"document": {"inbound": {"deadline_ms": number}}, "reason": f"publication {number}"}
        try:
            async with self._operator() as client:
                answer = await client.post(
                    f"/services/{service}/versions", params={"environment": "prod"}, json=body
                )
                if answer.status_code == 201:
                    return ""
                # The one before may have committed without being able to say so.
                is_in_force = (await self._in_force(service))[1] == number
                return "" if is_in_force else f"{answer.status_code} {answer.text[:500]}"
        except (httpx.TransportError, json.JSONDecodeError, KeyError) as error:
            return repr(error)

    async def _find_in_force(self, service: str) -> tuple[int, int]:
        """As `_in_force`, from an operator node that may only just have its database back."""
        async with asyncio.timeout(SETTLED_WITHIN_S):
            while True:
                with contextlib.suppress(httpx.TransportError, json.JSONDecodeError, KeyError):
                    return await self._in_force(service)
                await asyncio.sleep(0.2)

    async def _in_force(self, service: str) -> tuple[int, int]:
        async with self._operator() as client:
            answer = await client.get(f"/services/{service}/policy", params={"environment": "prod"})
            document = answer.json()
        return document["sequence"], document["policy"]["inbound"]["deadline_ms"]

    def _operator(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"{self._cluster.urls['operator']}/api/v1",
            headers={"Authorization": f"Bearer {self._cluster.operator_token}"},
            timeout=8.0,
            verify=False,  # nothing here speaks TLS, and reading certificates takes 30 ms
        )

    async def _rage(self, events: Sequence[Event]) -> None:
        for event in events:
            await self._until_possible(event)
            task = asyncio.create_task(self._happen(event))
            self._on[event.part] = task
            # Less than most of them last: they overlap.
            await asyncio.sleep(self._dice.uniform(0.3, 2.0))
        await asyncio.gather(*self._on.values())
        for name in NODES:
            await self._until_ready(name)
        await self._until_ready("operator")

    async def _until_possible(self, event: Event) -> None:
        """Wait until the part is whole and, before a node goes, until the other one serves."""
        before = self._on.get(event.part)
        if before is not None:
            await before
        if event.verb == "kill" and event.part in NODES:
            (other,) = set(NODES) - {event.part}
            if other in self._on:
                await self._on[other]
            await self._until_ready(other)

    async def _until_ready(self, name: str) -> None:
        began_at = _now()
        while not await asyncio.to_thread(self._cluster.is_ready, name):
            assert _now() - began_at < 60, f"{name} is not ready\n{self._cluster.logs()}"
            await asyncio.sleep(0.1)

    async def _happen(self, event: Event) -> None:
        self.said.append(f"{_now() - self._started_at:5.1f} s: {event}")
        cluster, network = self._cluster, self._cluster.network
        begin, end = (
            (cluster.kill, cluster.start) if event.verb == "kill" else (network.cut, network.mend)
        )
        began_at = _now()
        await asyncio.to_thread(begin, event.part)
        await asyncio.sleep(event.lasts_s)
        await asyncio.to_thread(end, event.part)
        if event.part == "postgres" or (event.verb == "cut" and event.part in NODES):
            self._outages.append((began_at, _now()))


def make_events(dice: random.Random, rounds: int) -> list[Event]:
    """Return every kind of event `rounds` times, in a random order and of random lengths."""
    parts = [*NODES, "operator", "valkey", "postgres"]
    kinds = [(verb, part) for verb in ("kill", "cut") for part in parts] * rounds
    dice.shuffle(kinds)
    return [Event(verb, part, dice.uniform(0.5, 4.0)) for verb, part in kinds]


def _quantiles(times: Sequence[float]) -> dict[str, float]:
    """Return the nearest ranks of sorted times."""
    if not times:
        return {}
    ranks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    last = len(times) - 1
    return {
        name: round(times[min(last, int(len(times) * rank))], 3) for name, rank in ranks.items()
    }


def _now() -> float:
    return asyncio.get_running_loop().time()
