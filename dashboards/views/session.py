"""Signing in, and the theme."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from controlplane.access.domain.sign_ins import LONGEST_NAME
from controlplane.access.http.known_browsers import remember_browser
from controlplane.access.http.session_life import begin_session
from controlplane.kernel.clock import utc_now
from controlplane.kernel.errors import Unavailable
from dashboards.forms.sign_in import SignInForm
from dashboards.views import errors
from dashboards.views.places import FIRST_PAGE, safe_place
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
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Answer; without a database, which holds sessions and users, with a 503."""
        try:
            return super().dispatch(request, *args, **kwargs)
        except Unavailable as error:
            return self._not_now(error)
        except OperationalError:
            return errors.page_of(request, Unavailable("The database does not answer."))

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        """Begin the session, and know this browser again."""
        response = super().form_valid(form)
        begin_session(self.request.session, now=utc_now())
        remember_browser(form.get_user().get_username(), self.request, response)
        return response

    def get_redirect_url(self, request: HttpRequest | None = None) -> str:
        """Return where one wanted to go, if one can; empty when nothing was asked for."""
        data = self.request.POST if self.request.method == "POST" else self.request.GET
        target = data.get(self.redirect_field_name, "")
        return safe_place(self.request, target) if target else ""

    def get_success_url(self) -> str:
        """Return where to go once signed in: never back to here."""
        return self.get_redirect_url() or FIRST_PAGE

    def _not_now(self, error: Unavailable) -> HttpResponse:
        # An unbound form: reading the errors of a bound one would try the password again.
        name = self.request.POST.get("username", "")[:LONGEST_NAME]
        form = SignInForm(self.request, initial={"username": name})
        context = self.get_context_data(form=form, refusal=error.message)
        response = self.render_to_response(context, status=error.status)
        response["Retry-After"] = str(errors.retry_after_s(error))
        return response

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
