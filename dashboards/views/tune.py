"""Tune: change one number safely, for a while, with a reason."""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.http import require_http_methods, require_POST

from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import (
    Conflict,
    InvalidInput,
    PreconditionFailed,
    Problem,
    TidegateError,
)
from controlplane.policies.domain.fields import field_for
from controlplane.policies.domain.patches import patched_document
from controlplane.policies.selectors import (
    current_version,
    latest_canary_publication,
    latest_publication,
)
from controlplane.policies.services import (
    open_override,
    publish_version,
    publishing,
    start_canary,
)
from controlplane.registry.selectors import get_service
from dashboards.forms.canary import read_ratio
from dashboards.forms.tune import (
    CANARY,
    DEFAULT_LASTS,
    EVERYBODY,
    LASTS,
    Submission,
    check_apply,
    is_not_removable,
    read_submission,
)
from dashboards.presenters.preview import Kind, Preview, present_preview
from dashboards.presenters.rejections import present_rejections
from dashboards.presenters.tune import present_in_force_values, present_tune
from dashboards.presenters.values import problem_text
from dashboards.templatetags.links import link_to
from dashboards.views.large_form import takes_large_form
from dashboards.views.once import Done, once
from dashboards.views.scope import Scope, draw, page, region

NOT_REMOVABLE = (
    "The fleet default sets this, and a version can replace it but not take it away: enter the "
    "value you want, or open an override."
)
LONGEST_PREFILL = 40  # characters of one value in a link


@takes_large_form
@require_http_methods(["GET", "HEAD", "POST"])
@page
def tune(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """The form; a POST applies it and goes on to the page that follows the change."""
    if request.method == "POST":
        return _apply(request, scope, service_slug)
    prefilled = {
        path: str(value)[:LONGEST_PREFILL]
        for path, value in request.GET.items()
        if field_for(path) is not None
    }
    reach = CANARY if request.GET.get("reach") == CANARY else EVERYBODY
    blank = Submission(texts=prefilled, was={}, patch={}, changed=(), errors={}, reach=reach)
    if prefilled:
        blank = _as_submitted(blank, scope, service_slug)
    return _draw(request, scope, service_slug, blank, {}, section=request.GET.get("section", ""))


@takes_large_form
@require_POST
@region
def preview_region(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    """Region: what the form as it stands would change. Stores nothing."""
    submission = read_submission(request.POST)
    return draw(
        request, scope, "tune/_preview.html", preview=_preview(scope, service_slug, submission)
    )


def _apply(request: HttpRequest, scope: Scope, service_slug: str) -> HttpResponse:
    service = get_service(scope.environment, service_slug)
    submission = read_submission(request.POST)
    scope.actor.require(_action(submission), service.team.slug)
    section = request.POST.get("section", "")
    errors, status = {**submission.errors, **check_apply(submission)}, 422
    if not errors:
        try:
            return once(request, lambda: _write(scope, service_slug, submission), now=utc_now())
        except (InvalidInput, Conflict, PreconditionFailed) as error:
            errors, status = _problems(error, submission), error.status
    return _draw(request, scope, service_slug, submission, errors, section=section, status=status)


def _action(submission: Submission) -> str:
    if submission.is_canary:
        return "canary.start"
    return "version.publish" if submission.is_permanent else "override.open"


def _write(scope: Scope, service_slug: str, submission: Submission) -> Done:
    with publishing():  # of two at the same moment, the second one sees what the first one did
        _refuse_overtaken(scope, service_slug, submission)
        _change(scope, service_slug, submission)
        newest = latest_canary_publication if submission.is_canary else latest_publication
        publication = newest(scope.environment, service_slug)
    if publication is None:
        return Done(link_to(scope, "changes", service=service_slug))
    return Done(link_to(scope, "change", publication.sequence))


def _change(scope: Scope, service_slug: str, submission: Submission) -> None:
    now, service = utc_now(), get_service(scope.environment, service_slug)
    version = current_version(service)
    document = patched_document({} if version is None else version.document, submission.patch)
    if submission.is_canary and submission.lasts is not None:
        start_canary(
            actor=scope.actor,
            service=service,
            document=document,
            ratio=read_ratio(submission.percent) or 0.0,
            lasts=submission.lasts,
            reason=submission.reason,
            now=now,
            expected_number=submission.version_number,
        )
    elif submission.is_permanent:
        publish_version(
            actor=scope.actor,
            service=service,
            document=document,
            reason=submission.reason,
            now=now,
            expected_number=submission.version_number,
        )
    elif submission.lasts is not None:
        open_override(
            actor=scope.actor,
            service=service,
            patch=submission.patch,
            lasts=submission.lasts,
            reason=submission.reason,
            now=now,
        )


def _refuse_overtaken(scope: Scope, service_slug: str, submission: Submission) -> None:
    """Leave alone what somebody changed since this form was opened; a new tenant was not set."""
    in_force = present_in_force_values(
        scope.environment, service_slug, submission.changed, utc_now()
    )
    problems: list[Problem] = []
    for path in submission.changed:
        now, layer = in_force.get(path, ("", "nobody"))
        if now != submission.was.get(path, ""):
            typed = submission.texts.get(path, "").strip()
            problems.append(Problem(path, _overtaken(now, layer, is_asked_for=now == typed)))
        elif layer.startswith("fleet default") and is_not_removable(submission, path):
            problems.append(Problem(path, NOT_REMOVABLE))
    if problems:
        raise InvalidInput("this cannot be applied as it stands", problems=problems)


def _overtaken(now: str, layer: str, *, is_asked_for: bool) -> str:
    changed = f"set by {layer} since you opened the page."
    if is_asked_for:
        return f"This is {now or 'not set'} already, {changed}"
    return f"This is {now or 'not set'} now, {changed} Check it and apply again."


def _problems(error: TidegateError, submission: Submission) -> dict[str, str]:
    problems = getattr(error, "problems", ())
    found = {each.path or "form": problem_text(each, submission.patch) for each in problems}
    return found or {error.field or "form": error.message}


def _as_submitted(blank: Submission, scope: Scope, service_slug: str) -> Submission:
    """A link with values in it, read as if somebody had typed them."""
    in_force = present_in_force_values(
        scope.environment, service_slug, tuple(blank.texts), utc_now()
    )
    data = QueryDict(mutable=True)
    for path, text in blank.texts.items():
        data[path] = text
        data[f"was:{path}"] = in_force.get(path, ("", ""))[0]
    return replace(read_submission(data), lasts_choice=DEFAULT_LASTS, reach=blank.reach)


def _kind(submission: Submission) -> Kind:
    if submission.is_canary:
        return "canary"
    return "version" if submission.is_permanent else "override"


def _preview(scope: Scope, service_slug: str, submission: Submission) -> Preview:
    return present_preview(
        environment=scope.environment,
        service_slug=service_slug,
        patch=submission.patch,
        changed=submission.changed,
        kind=_kind(submission),
        shape_errors=submission.errors,
        now=utc_now(),
    )


def _draw(
    request: HttpRequest,
    scope: Scope,
    service_slug: str,
    submission: Submission,
    errors: dict[str, str],
    *,
    section: str,
    status: int = 200,
) -> HttpResponse:
    shown = present_tune(
        environment=scope.environment,
        service_slug=service_slug,
        section=section,
        texts=submission.texts,
        errors=errors,
        actor=scope.actor,
        now=utc_now(),
    )
    return draw(
        request,
        scope,
        "tune/tune.html",
        status=status,
        nav="service",
        tune=shown,
        rejections=present_rejections(
            environment=scope.environment, service=service_slug, now=utc_now()
        ),
        preview=_preview(scope, service_slug, submission),
        submission=submission,
        lasts=LASTS,
    )
