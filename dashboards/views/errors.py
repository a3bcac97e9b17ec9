"""Error pages: what happened, and what to do next. They read nothing, so they cannot fail too."""

from __future__ import annotations

from http import HTTPStatus

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import REASON_BAD_ORIGIN
from django.template.loader import render_to_string

from controlplane.access.http.problems import CONTENT_TYPE, problem_document
from controlplane.kernel.errors import InvalidInput, TidegateError, Unavailable

TITLES = {
    400: "That request makes no sense",
    403: "You may not do this",
    404: "Nothing here by that name",
    409: "It has changed meanwhile",
    500: "Something broke in Tidegate",
    503: "Not available just now",
}
MAX_ORIGIN_SHOWN = 200  # characters
WRONG_HOST = (
    "Tidegate does not answer to the host name in this address. "
    "Whoever runs it can add the name to TIDEGATE_ALLOWED_HOSTS."
)


def page_of(request: HttpRequest, error: TidegateError) -> HttpResponse:
    """Return the page for one of our own errors, with its status and its sentence."""
    response = _page(request, error.status, error.title, error.message)
    if isinstance(error, Unavailable):
        response["Retry-After"] = str(retry_after_s(error))
    return response


def retry_after_s(error: Unavailable) -> int:
    """Return the whole seconds to wait before another try, at least one."""
    return max(1, round(error.retry_after_s))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400. Scripts that call the API get it as JSON."""
    if isinstance(exception, TidegateError):
        if not request.path.startswith("/api/"):
            return page_of(request, exception)
        return JsonResponse(
            problem_document(exception), status=exception.status, content_type=CONTENT_TYPE
        )
    is_host = isinstance(exception, DisallowedHost)
    message = WRONG_HOST if is_host else "The server could not read it."
    if not request.path.startswith("/api/"):
        return _page(request, 400, TITLES[400], message)
    document = problem_document(InvalidInput(message, field="Host" if is_host else None))
    return JsonResponse(
        document | {"title": TITLES[400], "status": 400},
        status=400,
        content_type=CONTENT_TYPE,
    )


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    return _page(
        request, 403, TITLES[403], "Your role allows looking, not this. Ask an admin of the team."
    )


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form that may not be from our own page: nothing was changed. Says why."""
    origin = request.headers.get("Origin", "")
    if origin and reason == REASON_BAD_ORIGIN % origin:
        return _page(
            request,
            403,
            "Tidegate does not know that address",
            f"Your browser says that this form is from {origin[:MAX_ORIGIN_SHOWN]}, which is not "
            "where Tidegate believes to be. Nothing was changed. Whoever runs it sets "
            "TIDEGATE_PUBLIC_URL to the address that people open, with its scheme and port.",
        )
    return _page(
        request,
        403,
        "That form has gone stale",
        "Its security token is missing or too old, most often because you signed in again in "
        "another tab. Nothing was changed: go back, reload the page and send it again.",
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404."""
    return _page(
        request, 404, TITLES[404], "The address may be mistyped, or the service was retired."
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """500."""
    return _page(
        request,
        500,
        TITLES[500],
        "The services you run are not affected: each keeps enforcing its last policy. "
        "Quote the request ID when you report this.",
    )


def unavailable(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """503."""
    return page_of(request, Unavailable("Tidegate is busy or a part of it does not answer."))


def _page(request: HttpRequest, status: int, title: str, message: str) -> HttpResponse:
    template = f"errors/{status}.html" if status in (403, 404, 500, 503) else "errors/error.html"
    theme = request.COOKIES.get("tidegate_theme", "system")
    html = render_to_string(
        template,
        {
            "status": status,
            "phrase": HTTPStatus(status).phrase,
            "title": title,
            "message": message,
            "theme": theme if theme in ("dark", "light") else "system",
            "request_id": getattr(request, "request_id", "")
            or request.headers.get("X-Request-ID", "")[:128],
        },
        # A 403 offers to sign out, which needs the session; the others must not depend on it.
        request=request if status == HTTPStatus.FORBIDDEN else None,
    )
    return HttpResponse(html, status=status)
