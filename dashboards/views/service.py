"""Service: why one service fails, and what its policy does about it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from controlplane.kernel.clock import utc_now
from dashboards.presenters.canary import present_canary
from dashboards.presenters.changes import present_recent
from dashboards.presenters.dependencies import present_dependencies
from dashboards.presenters.instances import present_instances, present_objectives
from dashboards.presenters.limits import present_limits, present_tenants
from dashboards.presenters.rejections import present_rejections
from dashboards.presenters.service import present_endpoints, present_header
from dashboards.presenters.service_charts import ServiceCharts, present_charts
from dashboards.views.scope import Scope, draw, page, region


@require_safe
@page
def service(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """The page: every region of it, each drawn as its own URL draws it."""
    now = utc_now()
    ask = {"environment": scope.environment, "service_slug": service_slug}
    return draw(
        request,
        scope,
        "services/service.html",
        nav="service",
        rejections=present_rejections(environment=scope.environment, service=service_slug, now=now),
        header=present_header(**ask, actor=scope.actor, now=now),
        panel=present_canary(**ask, actor=scope.actor, now=now),
        charts=_charts(request, scope, service_slug),
        endpoints=present_endpoints(**ask, now=now),
        dependencies=present_dependencies(**ask, now=now),
        limits=present_limits(**ask, now=now),
        tenants=present_tenants(**ask, now=now),
        instances=present_instances(**ask, now=now),
        objectives=present_objectives(**ask, now=now),
        recent=present_recent(**ask, actor=scope.actor, now=now),
    )


@require_safe
@region
def header_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: name, state, overrides, shed level."""
    header = present_header(
        environment=scope.environment, service_slug=service_slug, actor=scope.actor, now=utc_now()
    )
    return draw(request, scope, "services/_header.html", header=header)


@require_safe
@region
def charts_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: RED charts and attempts."""
    return draw(
        request, scope, "services/_charts.html", charts=_charts(request, scope, service_slug)
    )


@require_safe
@region
def endpoints_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: endpoints."""
    shown = present_endpoints(
        environment=scope.environment, service_slug=service_slug, now=utc_now()
    )
    return draw(request, scope, "services/_endpoints.html", endpoints=shown)


@require_safe
@region
def dependencies_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: dependencies and breakers."""
    shown = present_dependencies(
        environment=scope.environment, service_slug=service_slug, now=utc_now()
    )
    return draw(request, scope, "services/_dependencies.html", dependencies=shown)


@require_safe
@region
def limits_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: limits in use."""
    shown = present_limits(environment=scope.environment, service_slug=service_slug, now=utc_now())
    return draw(request, scope, "services/_limits.html", limits=shown)


@require_safe
@region
def tenants_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: tenants."""
    shown = present_tenants(environment=scope.environment, service_slug=service_slug, now=utc_now())
    return draw(request, scope, "services/_tenants.html", tenants=shown)


@require_safe
@region
def instances_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: instances and what each enforces."""
    shown = present_instances(
        environment=scope.environment, service_slug=service_slug, now=utc_now()
    )
    return draw(request, scope, "services/_instances.html", instances=shown)


@require_safe
@region
def objectives_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: objectives and budgets."""
    shown = present_objectives(
        environment=scope.environment, service_slug=service_slug, now=utc_now()
    )
    return draw(request, scope, "services/_objectives.html", objectives=shown)


@require_safe
@region
def recent_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: the last changes of this service."""
    shown = present_recent(
        environment=scope.environment, service_slug=service_slug, actor=scope.actor, now=utc_now()
    )
    return draw(request, scope, "services/_recent.html", recent=shown)


def _charts(request: HttpRequest, scope: Scope, service_slug: str) -> ServiceCharts:
    return present_charts(
        environment=scope.environment,
        service_slug=service_slug,
        asked_range=request.GET.get("range", ""),
        endpoint=request.GET.get("endpoint", ""),
        now=utc_now(),
    )
