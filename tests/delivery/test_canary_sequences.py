"""What each instance sees of canaries, through any history, interleaving, restart and lag."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.services.loading import START, Position, read_changes
from controlplane.delivery.services.snapshot_file import News, read_snapshot_file
from controlplane.delivery.services.snapshot_log import SnapshotLog
from controlplane.kernel.errors import Conflict
from controlplane.policies.models import Canary, Override, Publication
from controlplane.policies.selectors.sources import read_sources
from controlplane.policies.services import (
    canaries,
    end_canary,
    promote_canary,
    publish_fleet_default,
    revert_override,
    widen_canary,
)
from controlplane.policies.services.canaries import close_expired_canaries
from controlplane.policies.services.sequences import raise_sequence
from controlplane.registry.models import Environment, Service
from tests.access.actors import ADMIN, OPERATOR
from tests.delivery.builders import Clock
from tests.policies.builders import deadline, open_on, publish_on, shed, start_on

INSTANCES = [f"checkout-{number}" for number in range(8)]


@dataclass
class Node:
    """One delivery process: the real store, loading and snapshot file, a swap at a time."""

    clock: Clock
    path: Path
    seen: dict[str, int] = field(default_factory=dict)

    store: SnapshotStore = field(init=False)
    log: SnapshotLog = field(init=False)
    after: Position = field(init=False)

    def __post_init__(self) -> None:
        self._start()

    def look(self) -> None:
        """Serve what is new; every instance polls before and after every single swap."""
        self.check()
        changes = read_changes(after=self.after, stamp=None)
        for published in changes.publications:
            self.log.add(News((published,)), confirmed_at_unix=self.clock())
            self.store.swap(compile_snapshot(published))
            self.check()
        self.after = changes.reached

    def restart(self) -> None:
        """Die, and start from the file alone; the database comes with the next look."""
        self.log.close()
        self._start()
        self.check()

    def check(self) -> None:
        """Poll as every instance: what it is told must not be older than what it was told."""
        self.store.advance()
        slot = self.store.find_slot("prod", "checkout")
        if slot is None:
            return
        for instance in INSTANCES:
            sequence = slot.lane(instance.encode()).snapshot.sequence
            assert sequence >= self.seen.get(instance, 0), f"{instance} went back"
            self.seen[instance] = sequence

    def answer(self, instance: str | None) -> tuple[int, str, Any]:
        """What a poll is told: sequence, etag and policy."""
        slot = self.store.find_slot("prod", "checkout")
        assert slot is not None
        lane = slot.lane(None if instance is None else instance.encode())
        return lane.snapshot.sequence, lane.step.etag, lane.policy

    def _start(self) -> None:
        self.store, self.after = SnapshotStore(self.clock), START
        self.log = SnapshotLog(self.path, self.clock)
        saved = read_snapshot_file(self.path)
        if saved is not None:
            self.log.remember(News(saved.publications, saved.tokens, saved.keys))
            for published in saved.publications:
                self.store.swap(compile_snapshot(published))


@dataclass
class World:
    """One service, its operators, a node that always follows and one that lags."""

    service: Service
    clock: Clock
    prompt: Node
    lagging: Node

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def check_policies(self) -> None:
        """Every instance of the prompt node has exactly the policy that the rows say."""
        sources = read_sources(self.service, now=self.now)
        everybody = sources.resolve_at(self.now).policy
        canary = sources.canary
        for instance in (*INSTANCES, None):
            is_in_it = (
                canary is not None
                and instance is not None
                and position(canary.salt, instance) < canary.ratio
            )
            expected = sources.resolve_canary_at(self.now).policy if is_in_it else everybody
            sequence, etag, policy = self.prompt.answer(instance)
            assert policy == expected
            row = Publication.objects.get(sequence=sequence)
            assert etag in {row.etag, *(step["etag"] for step in row.scheduled)}

    def open_canary(self) -> Canary | None:
        return Canary.objects.filter(closed_at=None).first()

    def do(self, act: str, amount: int) -> None:
        """One thing that happens; what the services refuse does not."""
        with contextlib.suppress(Conflict):
            getattr(self, f"_{act}")(amount)

    def _start(self, amount: int) -> None:
        start_on(self.service, self.now, shed(amount % 4), ratio=amount / 10, minutes=5 + amount)

    def _widen(self, amount: int) -> None:
        canary = self.open_canary()
        if canary is not None and amount / 10 > canary.ratio:
            widen_canary(
                actor=OPERATOR, canary=canary, ratio=amount / 10, reason="calm", now=self.now
            )

    def _promote(self, _amount: int) -> None:
        if (canary := self.open_canary()) is not None:
            promote_canary(actor=OPERATOR, canary=canary, reason="held", now=self.now)

    def _end(self, _amount: int) -> None:
        if (canary := self.open_canary()) is not None:
            end_canary(actor=OPERATOR, canary=canary, reason="burnt", now=self.now)

    def _sweep(self, _amount: int) -> None:
        close_expired_canaries(actor=ADMIN, now=self.now)

    def _version(self, amount: int) -> None:
        publish_on(self.service, self.now, deadline(1000 + amount))

    def _fleet_default(self, amount: int) -> None:
        publish_fleet_default(
            actor=ADMIN,
            environment=self.service.environment,
            document={"lifecycle": {"drain": {"timeout_s": 10 + amount}}},
            reason="x",
            now=self.now,
        )

    def _override(self, amount: int) -> None:
        open_on(self.service, self.now, deadline(2000 + amount), minutes=amount)

    def _revert(self, _amount: int) -> None:
        override = Override.objects.filter(closed_at=None, ends_at__gt=self.now).first()
        if override is not None:
            revert_override(actor=OPERATOR, override=override, reason="calm", now=self.now)

    def _wait(self, amount: int) -> None:
        self.clock.pass_s(90.0 * amount)

    def _catch_up(self, _amount: int) -> None:
        self.lagging.look()

    def _restart(self, amount: int) -> None:
        (self.prompt if amount % 2 else self.lagging).restart()


ACTS = st.sampled_from(
    ["start"] * 3
    + ["widen"] * 2
    + ["wait"] * 3
    + ["promote", "end", "sweep", "version", "fleet_default", "override", "revert"]
    + ["catch_up", "restart"]
)
Given = Callable[[], contextlib.AbstractContextManager[World]]


@pytest.fixture
def fresh_world(prod: Environment, checkout: Service, monkeypatch: pytest.MonkeyPatch) -> Given:
    """Makes a world whose rows and files are gone when it is left; the same salts in each."""

    @contextlib.contextmanager
    def make() -> Iterator[World]:
        clock, salts = Clock(), itertools.count()
        monkeypatch.setattr(canaries, "new_nonce", lambda: f"salt-{next(salts)}")
        with transaction.atomic(), tempfile.TemporaryDirectory() as folder:
            nodes = [Node(clock, Path(folder) / name / "snapshots.log") for name in "ab"]
            yield World(checkout, clock, *nodes)
            for node in nodes:
                node.log.close()
            transaction.set_rollback(True)

    return make


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(st.tuples(ACTS, st.integers(1, 10)), min_size=4, max_size=24))
def test_no_history_of_canaries_shows_an_instance_a_lower_sequence_or_a_wrong_policy(
    fresh_world: Given, history: list[tuple[str, int]]
) -> None:
    with fresh_world() as world:
        world.do("version", 1)
        for act, amount in history:
            world.do(act, amount)
            world.prompt.look()
            world.check_policies()
            world.lagging.check()
        world.lagging.look()


def test_an_instance_leaves_a_canary_that_ended_to_a_higher_sequence(fresh_world: Given) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=1.0)
        world.prompt.look()
        in_it = world.prompt.answer("checkout-1")

        world.do("end", 0)
        world.prompt.look()

        after = world.prompt.answer("checkout-1")
        assert after == world.prompt.answer(None)
        assert after[0] > in_it[0]
        world.check_policies()


def test_the_end_by_the_clock_keeps_the_sequence_and_has_the_etag_of_its_entry(
    fresh_world: Given,
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=1.0, minutes=10)
        world.prompt.look()
        sequence, _, _ = world.prompt.answer("checkout-1")
        (step,) = Publication.objects.get(sequence=sequence).scheduled

        world.clock.pass_s(600)
        world.prompt.check()

        everybody = world.prompt.answer(None)
        assert world.prompt.answer("checkout-1") == (sequence, step["etag"], everybody[2])
        assert sequence > everybody[0]


def test_after_the_end_by_the_clock_the_next_change_reaches_the_former_canary(
    fresh_world: Given,
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=1.0, minutes=10)
        world.prompt.look()
        world.clock.pass_s(600)

        open_on(world.service, world.now, shed(3))
        world.prompt.look()

        assert world.prompt.answer("checkout-1") == world.prompt.answer(None)
        world.check_policies()


def test_widening_takes_in_others_and_moves_nobody_out(fresh_world: Given) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        canary = start_on(world.service, world.now, shed(2), ratio=0.3)
        inside: list[set[str]] = []
        for ratio in (None, 0.6, 1.0):
            if ratio is not None:
                widen_canary(
                    actor=OPERATOR, canary=canary, ratio=ratio, reason="calm", now=world.now
                )
            world.prompt.look()
            everybody = world.prompt.answer(None)
            inside.append({each for each in INSTANCES if world.prompt.answer(each) != everybody})

        assert inside[0] < inside[1] < inside[2] == set(INSTANCES)


def test_a_node_that_skipped_the_end_of_a_canary_serves_nobody_a_lower_sequence(
    fresh_world: Given,
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=1.0)
        world.lagging.look()
        world.do("end", 0)
        publish_on(world.service, world.now + timedelta(seconds=1), deadline(1500))

        world.lagging.look()  # finds the end of the canary below everybody's newest

        assert world.lagging.answer("checkout-1") == world.lagging.answer(None)


def test_a_restart_between_the_two_publications_of_an_end_goes_back_for_nobody(
    fresh_world: Given,
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=1.0)
        world.prompt.look()
        world.do("end", 0)
        changes = read_changes(after=world.prompt.after, stamp=None)
        first = changes.publications[0]

        world.prompt.log.add(News((first,)), confirmed_at_unix=world.clock())
        world.prompt.store.swap(compile_snapshot(first))
        world.prompt.check()
        world.prompt.restart()
        world.prompt.look()

        assert world.prompt.answer("checkout-1") == world.prompt.answer(None)


@pytest.mark.parametrize("ratio", [1.0, 0.01], ids=["who enters", "who leaves"])
def test_a_canary_after_one_that_time_ended_takes_nobody_back(
    fresh_world: Given, ratio: float
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        start_on(world.service, world.now, shed(2), ratio=0.3, minutes=10)
        world.prompt.look()
        world.clock.pass_s(600)

        start_on(world.service, world.now, shed(1), ratio=ratio)
        world.prompt.look()

        world.check_policies()


def test_a_canary_that_a_restored_backup_does_not_know_ends_with_the_raised_sequence(
    fresh_world: Given,
) -> None:
    with fresh_world() as world:
        publish_on(world.service, world.now, deadline(1000))
        with transaction.atomic():
            start_on(world.service, world.now, shed(2), ratio=1.0)
            world.prompt.look()
            transaction.set_rollback(True)
        above = max(world.prompt.seen.values())

        raise_sequence(actor=ADMIN, above=above, reason="restored the backup", now=world.now)
        world.prompt.look()

        assert world.prompt.answer("checkout-1") == world.prompt.answer(None)
        world.check_policies()
