"""A client of the operator API that speaks JSON, as each role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.test import Client

from controlplane.access.domain.actors import system_actor
from controlplane.access.services.memberships import grant_role
from controlplane.access.services.tokens import create_operator_token
from controlplane.kernel.clock import utc_now

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

SEED = system_actor("seed")


@dataclass(frozen=True)
class ApiClient:
    """Sends requests under /api/v1 with an operator token."""

    token: str

    def get(self, path: str, **headers: str) -> Answer:
        return Client().get(f"/api/v1{path}", headers=self._headers(headers))

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return Client().post(
            f"/api/v1{path}",
            data=body if isinstance(body, bytes) else ({} if body is None else body),
            content_type="application/json",
            headers=self._headers(headers),
        )

    def patch(self, path: str, body: Any = None, **headers: str) -> Answer:
        return Client().patch(
            f"/api/v1{path}",
            data={} if body is None else body,
            content_type="application/json",
            headers=self._headers(headers),
        )

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        given = {name.replace("_", "-"): value for name, value in more.items()}
        return {"Authorization": f"Bearer {self.token}", **given}


def user_with(role: str | None, name: str) -> User:
    user = User.objects.create_user(name, password="tidegate-test")
    if role is not None:
        grant_role(actor=SEED, user=user, role=role, team=None, now=utc_now())
    return user


def client_with(role: str | None, name: str = "oncall") -> ApiClient:
    user = user_with(role, name)
    _, text = create_operator_token(actor=SEED, user=user, label="test", now=utc_now())
    return ApiClient(text)
