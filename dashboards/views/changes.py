"""Changes: what is in force, what happened, and each change followed until it has landed."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseStopPolling

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import Conflict
from controlplane.policies.selectors import get_override, latest_publication
from controlplane.policies.services import extend_override, revert_override
from dashboards.forms.overrides import read_extension
from dashboards.forms.reasons import read_reason
from dashboards.presenters.changes import (
    History,
    InForce,
    present_filters,
    present_history,
    present_in_force,
)
from dashboards.presenters.spread import present_change, present_spread
from dashboards.templatetags.links import link_to
from dashboards.views.once import Done, once
from dashboards.views.scope import Scope, draw, page, region


@require_safe
@page
def changes(request: HttpRequest, scope: Scope) -> HttpResponse:
    """The page."""
    return draw(
        request,
        scope,
        "changes/changes.html",
        nav="changes",
        in_force=_in_force(request, scope),
        history=_history(request, scope),
        filters=present_filters(scope.environment),
    )


@require_safe
@region
def in_force_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: overrides in force."""
    return draw(request, scope, "changes/_in_force.html", in_force=_in_force(request, scope))


@require_safe
@region
def history_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: one page of past changes."""
    return draw(request, scope, "changes/_history.html", history=_history(request, scope))


@require_safe
@page
def change(request: HttpRequest, scope: Scope, sequence: int) -> HttpResponse:
    """One change: what, who, why, how far, and how to take it back."""
    shown = present_change(
        environment=scope.environment, sequence=sequence, actor=scope.actor, now=utc_now()
    )
    return draw(request, scope, "changes/change.html", change=shown, nav="changes")


@require_safe
@region
def spread_region(request: HttpRequest, scope: Scope, sequence: int) -> HttpResponse:
    """Region: convergence. Answers 286 once it is final, so that polling stops."""
    spread = present_spread(environment=scope.environment, sequence=sequence, now=utc_now())
    response = draw(request, scope, "changes/_spread.html", spread=spread)
    if spread.is_final:
        return HttpResponseStopPolling(response.content)
    return response


@require_POST
@page
def revert(request: HttpRequest, scope: Scope, override_id: int) -> HttpResponse:
    """End an override now, and follow that change."""
    override, now = get_override(override_id), utc_now()
    service = override.service

    def act() -> Done:
        revert_override(
            actor=scope.actor,
            override=override,
            reason=read_reason(request.POST, default=f"Reverted by hand: {override.reason}"[:500]),
            now=now,
        )
        publication = latest_publication(service.environment.slug, service.slug)
        if publication is None:
            return Done(link_to(scope, "changes"))
        return Done(link_to(scope, "change", publication.sequence))

    scope.actor.require("override.revert", service.team.slug)
    return once(request, act, now=now)


@require_POST
@page
def extend(request: HttpRequest, scope: Scope, override_id: int) -> HttpResponse:
    """Give an override more time, and go back to where it was asked for."""
    override, now = get_override(override_id), utc_now()
    by, slug = read_extension(request.POST), override.service.slug

    def act() -> Done:
        extended = extend_override(
            actor=scope.actor,
            override=override,
            by=by,
            reason=read_reason(request.POST, default="Extended by hand"),
            now=now,
        )
        ends = f"{extended.ends_at:%H:%M:%S}"
        return Done(link_to(scope, "changes"), f"The override on {slug} now ends at {ends} UTC.")

    scope.actor.require("override.extend", override.service.team.slug)
    try:
        return once(request, act, now=now)
    except Conflict as error:
        messages.error(request, error.message)
    return HttpResponseRedirect(link_to(scope, "changes"))


def _in_force(request: HttpRequest, scope: Scope) -> InForce:
    return present_in_force(
        environment=scope.environment,
        service=request.GET.get("service", "")[:63],
        actor=scope.actor,
        now=utc_now(),
    )


def _history(request: HttpRequest, scope: Scope) -> History:
    before = request.GET.get("before", "")
    return present_history(
        environment=scope.environment,
        service=request.GET.get("service", "")[:63],
        kind=request.GET.get("kind", ""),
        who=request.GET.get("who", "").strip()[:200],
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 18 else None,
        actor=scope.actor,
        now=utc_now(),
    )
