"""Convergence: who enforces what, who drifts, and how each publication spreads."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from django_htmx.http import HttpResponseStopPolling

from controlplane.kernel.clock import utc_now
from dashboards.presenters.drift import present_drift
from dashboards.presenters.publication import PublicationView, present_publication
from dashboards.presenters.publications import Publications, present_publications
from dashboards.presenters.rejections import present_rejections
from dashboards.views.scope import Scope, draw, page, region


@require_safe
@page
def convergence(request: HttpRequest, scope: Scope) -> HttpResponse:
    """The page."""
    return draw(
        request,
        scope,
        "convergence/convergence.html",
        nav="convergence",
        drift=present_drift(environment=scope.environment, now=utc_now()),
        publications=_publications(request, scope),
    )


@require_safe
@region
def drift_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: figures of the fleet, and services that drift."""
    shown = present_drift(environment=scope.environment, now=utc_now())
    return draw(request, scope, "convergence/_drift.html", drift=shown)


@require_safe
@region
def rejections_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: who rejects what it should enforce; of one service when the URL names one."""
    shown = present_rejections(
        environment=scope.environment,
        service=request.GET.get("service", "").strip()[:63],
        now=utc_now(),
    )
    return draw(request, scope, "convergence/_rejections.html", rejections=shown)


@require_safe
@region
def publications_region(request: HttpRequest, scope: Scope) -> HttpResponse:
    """Region: one page of publications."""
    shown = _publications(request, scope)
    return draw(request, scope, "convergence/_publications.html", publications=shown)


@require_safe
@page
def publication(request: HttpRequest, scope: Scope, sequence: int) -> HttpResponse:
    """One publication with every instance."""
    shown = _publication(request, scope, sequence)
    return draw(
        request, scope, "convergence/publication.html", publication=shown, nav="convergence"
    )


@require_safe
@region
def publication_region(request: HttpRequest, scope: Scope, sequence: int) -> HttpResponse:
    """Region: one publication. Answers 286 once nothing of it will change: polling stops."""
    shown = _publication(request, scope, sequence)
    response = draw(request, scope, "convergence/_publication.html", publication=shown)
    return HttpResponseStopPolling(response.content) if shown.is_final else response


def _publications(request: HttpRequest, scope: Scope) -> Publications:
    return present_publications(
        environment=scope.environment,
        service=request.GET.get("service", "").strip()[:63],
        before=_number(request.GET.get("before", "")),
        now=utc_now(),
    )


def _publication(request: HttpRequest, scope: Scope, sequence: int) -> PublicationView:
    return present_publication(
        environment=scope.environment,
        sequence=sequence,
        page=_number(request.GET.get("page", "")) or 1,
        now=utc_now(),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None
