"""Signing in, and the theme."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from dashboards.views.scope import THEME_COOKIE, THEMES, theme_of

YEAR_S = 365 * 24 * 3600
DEMO_LOGINS = (
    ("viewer", "looks, changes nothing"),
    ("oncall", "tunes policies and reverts"),
    ("admin", "does everything"),
)
DEMO_PASSWORD = "tidegate-demo"  # noqa: S105 (public by design; only the demo seed creates it)


class SignIn(LoginView):
    """The sign-in page. In the demo it shows the logins that its seed created."""

    template_name = "registration/login.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the theme, and the demo's logins when this is the demo."""
        is_demo = settings.TIDEGATE.demo and getattr(settings, "TIDEGATE_ALLOW_DEMO", False)
        return {
            **super().get_context_data(**kwargs),
            "theme": theme_of(self.request),
            "demo_logins": DEMO_LOGINS if is_demo else (),
            "demo_password": DEMO_PASSWORD,
        }


@require_POST
def set_theme(request: HttpRequest) -> HttpResponse:
    """Remember the theme in a cookie and go back to the page it was chosen on."""
    target = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(target, allowed_hosts=None):
        target = "/"
    response = HttpResponseRedirect(target)
    theme = request.POST.get("theme", "")
    if theme in THEMES:
        response.set_cookie(
            THEME_COOKIE,
            theme,
            max_age=YEAR_S,
            samesite="Lax",
            httponly=True,
            secure=request.is_secure(),
        )
    return response
