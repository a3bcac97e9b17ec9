"""Run in a process of its own: makes the database of a node's test, or publishes into it."""

from __future__ import annotations

import sys

import django

django.setup()

from django.core.management import call_command  # noqa: E402

from controlplane.access.domain.actors import system_actor  # noqa: E402
from controlplane.access.services.memberships import ensure_team  # noqa: E402
from controlplane.access.services.tokens import create_service_token  # noqa: E402
from controlplane.kernel.clock import utc_now  # noqa: E402
from controlplane.policies.services import publish_version  # noqa: E402
from controlplane.registry.selectors import get_service  # noqa: E402
from controlplane.registry.services.registration import (  # noqa: E402
    ensure_environment,
    register_service,
)

ACTOR = system_actor("test")


def create() -> str:
    """Make the tables, one service with a first version, and its token; return the token."""
    call_command("migrate", verbosity=0)
    now = utc_now()
    prod = ensure_environment(actor=ACTOR, slug="prod", name="Production", now=now)
    team = ensure_team(actor=ACTOR, slug="shop", name="Shop", now=now)
    register_service(actor=ACTOR, environment=prod, slug="checkout", team=team, tier=1, now=now)
    publish()
    return create_service_token(
        actor=ACTOR, environment="prod", service="checkout", label="test", now=now
    )[1]


def publish() -> str:
    """Publish one more version; return its number."""
    service = get_service("prod", "checkout")
    version = publish_version(
        actor=ACTOR,
        service=service,
        document={"inbound": {"deadline_ms": 1000 + service.versions.count()}},
        reason="a test",
        now=utc_now(),
    )
    return str(version.number)


if __name__ == "__main__":
    print({"create": create, "publish": publish}[sys.argv[1]]())
