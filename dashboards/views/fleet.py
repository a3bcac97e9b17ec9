"""Fleet: is anything failing, and where."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.http import require_safe

from controlplane.kernel.clock import utc_now
from controlplane.registry.selectors import list_service_headings
from dashboards.presenters.fleet import Fleet, present_fleet
from dashboards.presenters.rejections import present_rejections
from dashboards.templatetags.links import link_to
from dashboards.views.scope import Scope, draw, page, region


@require_safe
@page
def fleet(request: HttpRequest, scope: Scope) -> HttpResponse:
    """The page."""
    rejections = present_rejections(environment=scope.environment, service="", now=utc_now())
    return draw(
        request,
        scope,
        "fleet/fleet.html",
        fleet=_fleet(request, scope),
        rejections=rejections,
        nav="fleet",
    )


@require_safe
@region
def fleet_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: summary and table. A search puts its words into the page's URL."""
    shown = _fleet(request, scope)
    response = draw(request, scope, "fleet/_fleet.html", fleet=shown)
    if request.headers.get("HX-Trigger-Name") == "q":
        sort = "" if shown.sort == "attention" else shown.sort
        response["HX-Replace-Url"] = link_to(scope, "fleet", sort=sort, q=shown.query)
    return response


@require_safe
@page
def search(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Go to the service of that name, or to the fleet filtered by it."""
    query = request.GET.get("q", "").strip()
    names = {service.slug for service in list_service_headings(scope.environment)}
    if query.casefold() in names:
        return HttpResponseRedirect(link_to(scope, "service", query.casefold()))
    return HttpResponseRedirect(link_to(scope, "fleet", q=query))


def _fleet(request: HttpRequest, scope: Scope) -> Fleet:
    asked = request.GET.get("page", "")
    return present_fleet(
        environment=scope.environment,
        query=request.GET.get("q", "")[:100],
        sort=request.GET.get("sort", ""),
        hold=request.GET.get("hold", "")[:8000],
        page=int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 1,
        now=utc_now(),
    )
