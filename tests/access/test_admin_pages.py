from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth.models import User
from django.test import Client

from controlplane.access.models import AuditEntry, Membership, ServiceToken, Team
from controlplane.access.services import audit
from controlplane.access.services.audit import verify_chain
from controlplane.access.services.memberships import grant_role
from controlplane.access.services.tokens import create_service_token
from controlplane.kernel.clock import utc_now
from controlplane.registry.models import Dependency, Endpoint, Environment, Service
from tests.access.actors import ADMIN
from tests.policies.builders import open_on

LISTS = [
    "access/team", "access/membership", "access/servicetoken", "access/auditentry", "auth/user",
    "registry/environment", "registry/service", "registry/endpoint", "registry/dependency",
    "registry/instance", "policies/policyversion", "policies/override", "policies/publication",
]  # fmt: skip


def browser_of(role: str, *, is_staff: bool = False) -> Client:
    user = User.objects.create_user(role, password="tidegate-test", is_staff=is_staff)
    grant_role(actor=ADMIN, user=user, role=role, team=None, now=utc_now())
    if is_staff:
        User.objects.filter(pk=user.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(user)
    return browser


@pytest.fixture
def admin(db: None) -> Client:
    return browser_of("admin")


def new_entries(after: int) -> list[tuple[str, str]]:
    entries = AuditEntry.objects.filter(number__gt=after).order_by("number")
    return list(entries.values_list("action", "actor"))


@pytest.mark.parametrize("path", LISTS)
def test_every_list_opens_for_an_admin(admin: Client, checkout: Service, path: str) -> None:
    open_on(checkout, utc_now())

    assert admin.get(f"/admin/{path}/").status_code == 200


def test_adding_changing_and_removing_write_one_entry_each(
    admin: Client, checkout: Service, now: datetime
) -> None:
    start = AuditEntry.objects.count()
    form = {"service": checkout.pk, "method": "GET", "route": "/cart", "criticality": "critical"}

    admin.post("/admin/registry/endpoint/add/", form)
    endpoint = Endpoint.objects.get()
    path = f"/admin/registry/endpoint/{endpoint.pk}"
    admin.post(f"{path}/change/", {**form, "criticality": "sheddable"})
    changed = AuditEntry.objects.order_by("-number")[0]
    admin.post(f"{path}/delete/", {"post": "yes"})

    assert new_entries(start) == [
        ("endpoint.registered", "admin"),
        ("endpoint.changed", "admin"),
        ("endpoint.removed", "admin"),
    ]
    assert changed.data == {
        "changes": {"criticality": {"before": "critical", "after": "sheddable"}}
    }
    assert (changed.environment, changed.service) == ("prod", "checkout")
    assert verify_chain().holds


def test_a_service_and_a_dependency_are_registered_on_their_pages(
    admin: Client, checkout: Service, prod: Environment, team: Team
) -> None:
    form = {
        "environment": prod.pk, "slug": "payments", "team": team.pk, "tier": 1,
        "description": "", "runbook_url": "", "dialect": "native",
    }  # fmt: skip

    admin.post("/admin/registry/service/add/", form)
    payments = Service.objects.get(slug="payments")
    admin.post(
        "/admin/registry/dependency/add/",
        {"service": checkout.pk, "name": "payments", "target": payments.pk},
    )

    assert payments.registered_at is not None
    assert Dependency.objects.get().target == payments


def test_removing_several_at_once_writes_an_entry_for_each(
    admin: Client, checkout: Service
) -> None:
    for route in ("/a", "/b", "/c"):
        Endpoint.objects.create(service=checkout, method="GET", route=route)
    start = AuditEntry.objects.count()

    admin.post(
        "/admin/registry/endpoint/",
        {
            "action": "delete_selected",
            "_selected_action": [row.pk for row in Endpoint.objects.all()],
            "post": "yes",
        },
    )

    assert Endpoint.objects.count() == 0
    assert [action for action, _ in new_entries(start)] == ["endpoint.removed"] * 3


def test_what_cannot_be_audited_is_not_changed(
    admin: Client, checkout: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(**_: object) -> None:
        raise RuntimeError("the audit log does not answer")

    monkeypatch.setattr(audit, "record", failing)

    with pytest.raises(RuntimeError, match="audit log"):
        admin.post("/admin/access/team/add/", {"slug": "search-team", "name": "Search"})

    assert not Team.objects.filter(slug="search-team").exists()


def test_a_slug_that_publications_name_cannot_be_changed(admin: Client, checkout: Service) -> None:
    admin.post(
        f"/admin/registry/service/{checkout.pk}/change/",
        {
            "slug": "renamed", "team": checkout.team.pk, "tier": 2, "description": "",
            "runbook_url": "", "dialect": "native",
        },
    )  # fmt: skip

    checkout.refresh_from_db()
    assert (checkout.slug, checkout.tier) == ("checkout", 2)


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_staff_without_the_admin_role_may_look_and_not_change(
    checkout: Service, team: Team, role: str
) -> None:
    browser = browser_of(role, is_staff=True)
    start = AuditEntry.objects.count()

    assert browser.get("/admin/registry/service/").status_code == 200
    for path in ("access/team/add", f"registry/service/{checkout.pk}/delete"):
        assert browser.post(f"/admin/{path}/", {"slug": "x", "post": "yes"}).status_code == 403
    change = browser.post(f"/admin/access/team/{team.pk}/change/", {"slug": "x", "name": "x"})
    assert change.status_code == 403
    assert new_entries(start) == []


def test_who_is_not_staff_is_sent_to_sign_in(checkout: Service) -> None:
    assert browser_of("operator").get("/admin/registry/service/").status_code == 302


@pytest.mark.parametrize(
    "path", ["policies/override", "policies/policyversion", "access/auditentry"]
)
def test_policies_and_the_audit_log_are_not_changed_on_admin_pages(
    admin: Client, checkout: Service, path: str
) -> None:
    assert admin.get(f"/admin/{path}/add/").status_code == 403


def test_granting_a_role_on_its_page_is_audited(admin: Client, team: Team) -> None:
    user = User.objects.create_user("ann")
    start = AuditEntry.objects.count()

    admin.post(
        "/admin/access/membership/add/", {"user": user.pk, "team": team.pk, "role": "operator"}
    )

    assert Membership.objects.get(user=user).role == "operator"
    assert new_entries(start) == [("role.granted", "admin")]


def test_the_admin_pages_open_and_close_with_the_fleet_wide_admin_role(admin: Client) -> None:
    user = User.objects.create_user("ann")
    start = AuditEntry.objects.count()

    def may_enter() -> bool:
        return bool(User.objects.get(pk=user.pk).is_staff)

    admin.post("/admin/access/membership/add/", {"user": user.pk, "team": "", "role": "admin"})
    assert may_enter()
    path = f"/admin/access/membership/{Membership.objects.get(user=user).pk}"
    admin.post(f"{path}/change/", {"role": "viewer"})
    assert not may_enter()
    admin.post(f"{path}/change/", {"role": "admin"})
    assert may_enter()
    admin.post(f"{path}/delete/", {"post": "yes"})

    assert not may_enter()
    assert not Membership.objects.filter(user=user).exists()
    assert [action for action, _ in new_entries(start)] == ["role.granted"] * 3 + ["role.revoked"]


def test_nobody_moves_a_row_to_a_team_they_may_not_change(
    checkout: Service, prod: Environment, now: datetime
) -> None:
    search = Service.objects.create(
        environment=prod,
        slug="search",
        team=Team.objects.create(slug="search", name="Search"),
        registered_at=now,
    )
    endpoint = Endpoint.objects.create(service=checkout, method="GET", route="/cart")
    ann = User.objects.create_user("ann", is_staff=True)
    grant_role(actor=ADMIN, user=ann, role="admin", team=checkout.team, now=now)
    browser = Client()
    browser.force_login(ann)
    path = f"/admin/registry/endpoint/{endpoint.pk}/change/"
    form = {"method": "GET", "route": "/cart", "criticality": "sheddable"}

    moved = browser.post(path, {**form, "service": search.pk})
    changed = browser.post(path, {**form, "service": checkout.pk})

    endpoint.refresh_from_db()
    assert (moved.status_code, changed.status_code) == (403, 302)
    assert (endpoint.service, endpoint.criticality) == (checkout, "sheddable")


def test_a_new_password_is_audited_and_not_shown(admin: Client) -> None:
    user = User.objects.create_user("ann")
    start = AuditEntry.objects.count()
    secret = "correct horse battery"

    admin.post(
        f"/admin/auth/user/{user.pk}/password/",
        {"password1": secret, "password2": secret, "usable_password": "true"},
    )

    user.refresh_from_db()
    assert user.check_password(secret)
    assert new_entries(start) == [("user.changed", "admin")]
    assert secret not in str(AuditEntry.objects.values())


def test_tokens_are_revoked_on_their_page_and_their_hash_is_not_shown(
    admin: Client, now: datetime
) -> None:
    token, _ = create_service_token(
        actor=ADMIN, environment="prod", service="checkout", label="x", now=now
    )

    page = admin.get(f"/admin/access/servicetoken/{token.pk}/change/").content.decode()
    admin.post("/admin/access/servicetoken/", {"action": "revoke", "_selected_action": [token.pk]})

    assert token.token_hash not in page
    assert ServiceToken.objects.get().revoked_at is not None
    assert AuditEntry.objects.order_by("-number")[0].action == "token.revoked"
