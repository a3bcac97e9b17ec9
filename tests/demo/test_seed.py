"""The seed: everything the demo needs, made once, and never where its passwords would be a hole."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings as DjangoSettings

from controlplane.access.domain.actors import system_actor
from controlplane.access.models import AuditEntry
from controlplane.access.selectors import actor_for_user, find_token
from controlplane.kernel.errors import Forbidden
from controlplane.policies.selectors import current_version, effective_policy
from controlplane.policies.services import publish_version
from controlplane.registry.selectors import get_service, list_services
from demo.edge import EDGE
from demo.fleet import FLEET
from demo.seed import PASSWORD, seed_demo

pytestmark = pytest.mark.django_db

SHAPES = (EDGE, *FLEET)


@pytest.fixture
def seeded(tmp_path: Path, now: datetime) -> Path:
    seed_demo(state_dir=tmp_path, now=now, shapes=SHAPES)
    return tmp_path


def test_the_fleet_is_registered_with_its_endpoints_and_dependencies(seeded: Path) -> None:
    services = {service.slug: service for service in list_services("prod")}

    assert services.keys() == {shape.name for shape in SHAPES}
    for shape in SHAPES:
        service = services[shape.name]
        assert service.team.slug == shape.team
        assert {str(endpoint) for endpoint in service.endpoints.all()} == {
            f"{endpoint.method} {endpoint.route}" for endpoint in shape.endpoints
        }
        assert {edge.name for edge in service.dependencies.all()} == set(shape.calls)


def test_the_logins_have_their_roles(seeded: Path) -> None:
    held = {}
    for name in ("viewer", "oncall", "admin"):
        user = authenticate(username=name, password=PASSWORD)
        assert isinstance(user, User)
        held[name] = [str(grant.role) for grant in actor_for_user(user).grants]

    assert held == {"viewer": ["viewer"], "oncall": ["operator"], "admin": ["admin"]}


def test_each_token_file_opens_what_it_is_named_for(seeded: Path, now: datetime) -> None:
    for shape in SHAPES:
        path = seeded / "tokens" / shape.name
        token = find_token(path.read_text(), now=now)
        assert token is not None
        assert (token.environment, token.service) == ("prod", shape.name)
        assert path.stat().st_mode & 0o777 == 0o600
    operator = find_token((seeded / "tokens/operator").read_text(), now=now)
    assert operator is not None
    assert operator.user is not None
    assert operator.user.get_username() == "oncall"


def test_a_second_seed_changes_nothing(seeded: Path, now: datetime) -> None:
    entries = AuditEntry.objects.count()
    token = (seeded / "tokens/checkout").read_text()

    seed_demo(state_dir=seeded, now=now + timedelta(hours=1), shapes=SHAPES)

    assert AuditEntry.objects.count() == entries
    assert (seeded / "tokens/checkout").read_text() == token


def test_a_policy_that_somebody_changed_stays_changed(seeded: Path, now: datetime) -> None:
    checkout = get_service("prod", "checkout")
    publish_version(
        actor=system_actor("somebody"),
        service=checkout,
        document={"inbound": {"deadline_ms": 1234}},
        reason="mine",
        now=now,
    )

    seed_demo(state_dir=seeded, now=now + timedelta(hours=1), shapes=SHAPES)

    version = current_version(checkout)
    assert version is not None
    assert version.number == 2


def test_a_lost_token_file_is_replaced_by_a_new_token(seeded: Path, now: datetime) -> None:
    (seeded / "tokens/checkout").write_text("tgs_not-a-token-that-was-ever-made-here-0000")

    seed_demo(state_dir=seeded, now=now, shapes=SHAPES)

    assert find_token((seeded / "tokens/checkout").read_text(), now=now) is not None


def test_checkout_waits_for_a_storm(seeded: Path, now: datetime) -> None:
    policy = effective_policy(get_service("prod", "checkout"), now).policy

    retry = policy["outbound"]["dependencies"]["payments"]["retry"]
    assert retry["max_attempts"] == 4
    assert retry["budget"]["ratio"] == 1.0
    # Otherwise a budget of 10% would not bind, and Tune could not end the storm by it.
    assert retry["budget"]["min_per_s"] == 0


def test_settings_that_are_not_for_a_demo_refuse_the_seed(
    tmp_path: Path, now: datetime, settings: DjangoSettings
) -> None:
    settings.TIDEGATE_ALLOW_DEMO = False

    with pytest.raises(Forbidden, match="the demo's logins are public"):
        seed_demo(state_dir=tmp_path, now=now, shapes=SHAPES)
    with pytest.raises(CommandError, match="the demo's logins are public"):
        call_command("seed_demo")

    assert not User.objects.exists()
