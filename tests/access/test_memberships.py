from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import CommandError, call_command

from controlplane.access.domain.actors import Grant
from controlplane.access.domain.roles import Role
from controlplane.access.models import AuditEntry, Membership, Team
from controlplane.access.selectors import actor_for_user
from controlplane.access.services.memberships import ensure_team, grant_role, revoke_role
from controlplane.kernel.errors import Forbidden, InvalidInput, NotFound
from tests.access.actors import ADMIN, OPERATOR, actor_with


@pytest.fixture
def ann(db: None) -> User:
    return User.objects.create_user("ann")


def test_a_granted_role_is_what_the_user_acts_with(ann: User, team: Team, now: datetime) -> None:
    grant_role(actor=ADMIN, user=ann, role="operator", team=team, now=now)
    grant_role(actor=ADMIN, user=ann, role="viewer", team=None, now=now)

    actor = actor_for_user(ann, "night-42")

    assert set(actor.grants) == {Grant(Role.OPERATOR, team.slug), Grant(Role.VIEWER, None)}
    assert (actor.name, actor.request_id) == ("ann", "night-42")


def test_granting_again_replaces_and_repeating_does_nothing(ann: User, now: datetime) -> None:
    for role in ("viewer", "operator", "operator"):
        grant_role(actor=ADMIN, user=ann, role=role, team=None, now=now)

    assert Membership.objects.get().role == "operator"
    assert AuditEntry.objects.filter(action="role.granted").count() == 2


def test_a_fleet_wide_admin_may_enter_the_admin_pages_until_revoked(
    ann: User, now: datetime
) -> None:
    grant_role(actor=ADMIN, user=ann, role="admin", team=None, now=now)
    ann.refresh_from_db()
    assert ann.is_staff

    revoke_role(actor=ADMIN, user=ann, team=None, now=now)
    ann.refresh_from_db()
    assert not ann.is_staff
    assert actor_for_user(ann).grants == ()


def test_an_admin_of_one_team_grants_roles_on_that_team_only(
    ann: User, team: Team, now: datetime
) -> None:
    lead = actor_with(Role.ADMIN, team.slug)

    grant_role(actor=lead, user=ann, role="operator", team=team, now=now)

    with pytest.raises(Forbidden):
        grant_role(actor=lead, user=ann, role="operator", team=None, now=now)
    with pytest.raises(Forbidden):
        grant_role(actor=OPERATOR, user=ann, role="viewer", team=team, now=now)


def test_a_role_that_does_not_exist_is_refused(ann: User, now: datetime) -> None:
    with pytest.raises(InvalidInput, match="viewer, operator, admin"):
        grant_role(actor=ADMIN, user=ann, role="root", team=None, now=now)


def test_revoking_what_was_never_granted_is_not_found(ann: User, now: datetime) -> None:
    with pytest.raises(NotFound):
        revoke_role(actor=ADMIN, user=ann, team=None, now=now)


def test_somebody_inactive_or_not_signed_in_has_no_roles(ann: User, now: datetime) -> None:
    grant_role(actor=ADMIN, user=ann, role="admin", team=None, now=now)
    ann.is_active = False

    assert actor_for_user(ann).grants == ()
    assert actor_for_user(AnonymousUser()).grants == ()


def test_a_superuser_is_an_admin_of_every_team(db: None) -> None:
    root = User.objects.create_superuser("root")

    assert actor_for_user(root).may("role.grant")


def test_ensuring_a_team_audits_only_what_changed(db: None, now: datetime) -> None:
    for name in ("Search", "Search", "Search and browse"):
        ensure_team(actor=ADMIN, slug="search-team", name=name, now=now)

    assert Team.objects.get().name == "Search and browse"
    actions = AuditEntry.objects.order_by("number").values_list("action", flat=True)
    assert list(actions) == ["team.created", "team.renamed"]


def test_a_bad_team_slug_is_refused(db: None, now: datetime) -> None:
    with pytest.raises(InvalidInput, match="lower-case letters"):
        ensure_team(actor=ADMIN, slug="Search Team", name="Search", now=now)


def test_the_command_grants_and_takes_away(ann: User, team: Team) -> None:
    call_command("grant_role", "ann", "operator", "--team", team.slug)
    assert actor_for_user(ann).may("override.open", team.slug)

    call_command("grant_role", "ann", "none", "--team", team.slug)
    assert not actor_for_user(ann).may("override.open", team.slug)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bob", "viewer"], "there is no user 'bob'"),
        (["ann", "viewer", "--team", "nope"], "there is no team 'nope'"),
        (["ann", "none"], "has no role on every team"),
    ],
)
def test_the_command_says_what_is_wrong(ann: User, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("grant_role", *arguments)


def test_the_token_command_prints_a_token_once(
    ann: User, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("create_token", "operator", "ann", "--label", "ci")
    call_command("create_token", "service", "prod", "checkout")

    operator, service = capsys.readouterr().out.split()
    assert operator.startswith("tgo_")
    assert service.startswith("tgs_")
    with pytest.raises(CommandError, match="there is no user"):
        call_command("create_token", "operator", "bob")


@pytest.mark.parametrize("days", ["0", "-1", "99999999"])
def test_the_token_command_says_how_long_a_token_may_last(days: str) -> None:
    with pytest.raises(CommandError, match=f"--expires-in-days must be 1 to 36500, not {days}"):
        call_command("create_token", "service", "prod", "checkout", f"--expires-in-days={days}")
