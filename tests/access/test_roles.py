from __future__ import annotations

import pytest

from controlplane.access.domain.actors import Actor, Grant, system_actor
from controlplane.access.domain.roles import Role
from controlplane.kernel.errors import Forbidden
from tests.access.actors import ADMIN, NOBODY, OPERATOR, VIEWER, actor_with

OPERATOR_ACTIONS = [
    "override.open",
    "override.extend",
    "override.revert",
    "version.publish",
    "canary.start",
    "canary.widen",
    "canary.promote",
    "canary.end",
]
ADMIN_ACTIONS = ["fleet_default.publish", "registry.change", "token.manage", "role.grant"]


@pytest.mark.parametrize("action", ["service.read", "policy.read", "anything.read"])
def test_every_role_may_read_everything(action: str) -> None:
    of_another_team = actor_with(Role.VIEWER, "search-team")

    assert all(actor.may(action, "payments-team") for actor in (VIEWER, OPERATOR, ADMIN))
    assert of_another_team.may(action, "payments-team")
    assert not NOBODY.may(action, "payments-team")


@pytest.mark.parametrize("action", OPERATOR_ACTIONS)
def test_an_operator_may_change_policies_and_a_viewer_may_not(action: str) -> None:
    assert OPERATOR.may(action, "payments-team")
    assert ADMIN.may(action, "payments-team")
    assert not VIEWER.may(action, "payments-team")
    assert not VIEWER.may_somewhere(action)


@pytest.mark.parametrize("action", ADMIN_ACTIONS)
def test_only_an_admin_may_administer(action: str) -> None:
    assert ADMIN.may(action)
    assert not OPERATOR.may(action)
    assert not VIEWER.may(action)


def test_a_role_on_one_team_reaches_no_other_and_not_the_fleet() -> None:
    actor = actor_with(Role.ADMIN, "payments-team")

    assert actor.may("version.publish", "payments-team")
    assert not actor.may("version.publish", "search-team")
    assert not actor.may("fleet_default.publish")
    assert actor.may_somewhere("fleet_default.publish")


def test_a_refusal_names_the_action_the_place_and_the_roles_held() -> None:
    actor = Actor("ann", "user", (Grant(Role.VIEWER), Grant(Role.OPERATOR, "search-team")))

    with pytest.raises(Forbidden) as caught:
        actor.require("override.open", "payments-team")

    assert str(caught.value) == (
        "ann may not do override.open for team payments-team; "
        "roles held: viewer of every team, operator of search-team"
    )


def test_the_system_may_do_everything() -> None:
    assert system_actor("tidying").may("fleet_default.publish")


def test_an_unknown_action_is_nobodys() -> None:
    assert not ADMIN.may("override.opne", "payments-team")
