"""The canary of one service: who is in it, and the forms that widen, promote and end it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST, require_safe

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import Conflict, InvalidInput, PreconditionFailed, TidegateError
from controlplane.policies.selectors import (
    get_canary,
    latest_canary_publication,
    latest_publication,
)
from controlplane.policies.services import end_canary, promote_canary, widen_canary
from dashboards.forms.canary import read_ratio, read_seen_ratio
from dashboards.forms.reasons import read_reason, reason_problem
from dashboards.presenters.canary import CanaryPanel, present_canary
from dashboards.templatetags.links import link_to
from dashboards.views.once import Done, once
from dashboards.views.scope import Scope, draw, page, region

NO_PERCENT = "Choose how many instances it should reach."


@require_safe
@page
def canary(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """The page."""
    return _draw(request, scope, service_slug)


@require_safe
@region
def canary_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: the canary in force, on the Service page."""
    return draw(request, scope, "services/_canary.html", panel=_panel(scope, service_slug))


@require_safe
@region
def members_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: the instances in the canary, on its page."""
    return draw(request, scope, "canary/_members.html", panel=_panel(scope, service_slug))


@require_POST
@page
def widen(request: HttpRequest, scope: Scope, canary_id: int) -> HttpResponse:
    """Let the canary reach more instances, and follow that."""
    ratio = read_ratio(request.POST.get("percent", ""))
    reason = read_reason(request.POST)
    errors = {} if ratio else {"percent": NO_PERCENT}
    if problem := reason_problem(reason):
        errors["reason"] = problem

    def act() -> None:
        widen_canary(
            actor=scope.actor,
            canary=get_canary(canary_id),
            ratio=ratio or 0.0,
            reason=reason,
            now=utc_now(),
            expected_ratio=read_seen_ratio(request.POST),
        )

    return _answer(
        request, scope, canary_id, act, errors, action="canary.widen", is_for_canary=True
    )


@require_POST
@page
def promote(request: HttpRequest, scope: Scope, canary_id: int) -> HttpResponse:
    """Make the canary the next version for every instance, and follow that."""
    reason = read_reason(request.POST)
    problem = reason_problem(reason)

    def act() -> None:
        promote_canary(
            actor=scope.actor,
            canary=get_canary(canary_id),
            reason=reason,
            now=utc_now(),
            expected_ratio=read_seen_ratio(request.POST),
        )

    errors = {"reason": problem} if problem else {}
    return _answer(request, scope, canary_id, act, errors, action="canary.promote")


@require_POST
@page
def end(request: HttpRequest, scope: Scope, canary_id: int) -> HttpResponse:
    """Take the canary back from every instance, and follow that. Works without a reason."""
    found = get_canary(canary_id)
    default = f"Ended by hand: {found.reason}"[:500]

    def act() -> None:
        end_canary(
            actor=scope.actor,
            canary=found,
            reason=read_reason(request.POST, default=default),
            now=utc_now(),
        )

    return _answer(request, scope, canary_id, act, {}, action="canary.end")


def _answer(
    request: HttpRequest,
    scope: Scope,
    canary_id: int,
    act: Callable[[], None],
    errors: dict[str, str],
    *,
    action: str,
    is_for_canary: bool = False,
) -> HttpResponse:
    service = get_canary(canary_id).service
    newest = latest_canary_publication if is_for_canary else latest_publication

    def write() -> Done:
        act()
        publication = newest(service.environment.slug, service.slug)
        if publication is None:
            return Done(link_to(scope, "changes", service=service.slug))
        return Done(link_to(scope, "change", publication.sequence))

    scope.actor.require(action, service.team.slug)
    status = 422
    if not errors:
        try:
            return once(request, write, now=utc_now())
        except (InvalidInput, Conflict, PreconditionFailed) as error:
            errors, status = {"form": _sentence(error)}, error.status
    return _draw(request, scope, service.slug, errors=errors, status=status)


def _draw(
    request: HttpRequest,
    scope: Scope,
    service_slug: str,
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    return draw(
        request,
        scope,
        "canary/canary.html",
        status=status,
        nav="service",
        panel=_panel(scope, service_slug),
        errors=errors or {},
        reason=read_reason(request.POST),
        percent=request.POST.get("percent", ""),
    )


def _panel(scope: Scope, service_slug: str) -> CanaryPanel:
    return present_canary(
        environment=scope.environment, service_slug=service_slug, actor=scope.actor, now=utc_now()
    )


def _sentence(error: TidegateError) -> str:
    problems = getattr(error, "problems", ())
    return "; ".join(str(problem) for problem in problems) or error.message
