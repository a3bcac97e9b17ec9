"""Rolling back: an older version again, under a new number, after a look at what it changes."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import (
    Conflict,
    InvalidInput,
    PreconditionFailed,
    TidegateError,
)
from controlplane.policies.selectors import get_fleet_default, get_version, latest_publication
from controlplane.policies.services import publish_fleet_default, publish_version
from controlplane.registry.selectors import get_environment, get_service
from dashboards.forms.reasons import read_number, read_reason, reason_problem
from dashboards.presenters.rollback import (
    Rollback,
    present_fleet_default_rollback,
    present_rollback,
)
from dashboards.templatetags.links import link_to
from dashboards.views.once import Done, once
from dashboards.views.scope import Scope, draw, page


@require_http_methods(["GET", "HEAD", "POST"])
@page
def rollback(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Ask, then publish an older version of one service again."""
    service = get_service(scope.environment, service_slug)
    scope.actor.require("version.publish", service.team.slug)
    to = read_number(request.GET.get("to") or request.POST.get("to"), "to")

    def publish(reason: str, expected: int) -> None:
        publish_version(
            actor=scope.actor,
            service=service,
            document=get_version(service, to).document,
            reason=reason,
            now=utc_now(),
            expected_number=expected,
        )

    shown = present_rollback(
        environment=scope.environment,
        service_slug=service_slug,
        to=to,
        back_url=link_to(scope, "service", service_slug),
        now=utc_now(),
    )
    return _answer(request, scope, shown, publish)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def fleet_default_rollback(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Ask, then publish an older fleet default again."""
    scope.actor.require("fleet_default.publish")
    to = read_number(request.GET.get("to") or request.POST.get("to"), "to")

    def publish(reason: str, expected: int) -> None:
        environment = get_environment(scope.environment)
        publish_fleet_default(
            actor=scope.actor,
            environment=environment,
            document=get_fleet_default(environment, to).document,
            reason=reason,
            now=utc_now(),
            expected_number=expected,
        )

    shown = present_fleet_default_rollback(
        environment=scope.environment, to=to, back_url=link_to(scope, "changes")
    )
    return _answer(request, scope, shown, publish)


def _answer(request: HttpRequest, scope: Scope, shown: Rollback, publish: Any) -> HttpResponse:
    if request.method != "POST":
        return _draw(request, scope, shown)
    reason = read_reason(request.POST)
    problem = reason_problem(reason)
    if problem:
        return _draw(request, scope, shown, reason=reason, error=problem, status=422)

    def act() -> Done:
        publish(reason, read_number(request.POST.get("current"), "current"))
        publication = latest_publication(scope.environment, shown.service)
        if publication is None:
            return Done(link_to(scope, "changes"))
        return Done(link_to(scope, "change", publication.sequence))

    try:
        return once(request, act, now=utc_now())
    except (Conflict, InvalidInput, PreconditionFailed) as error:
        return _draw(
            request, scope, shown, reason=reason, error=_sentence(error), status=error.status
        )


def _draw(
    request: HttpRequest,
    scope: Scope,
    shown: Rollback,
    *,
    reason: str = "",
    error: str = "",
    status: int = 200,
) -> HttpResponse:
    return draw(
        request, scope, "changes/rollback.html", status=status,
        rollback=shown, reason=reason, error=error, nav="changes",
    )  # fmt: skip


def _sentence(error: TidegateError) -> str:
    problems = getattr(error, "problems", ())
    return "; ".join(str(problem) for problem in problems) or error.message
