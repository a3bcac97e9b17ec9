"""The admin pages have no doors of their own: people sign in, and change passwords, in one place.

Django's own would be neither counted nor audited, and would hash as many passwords as are sent.
"""

from __future__ import annotations

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse


def sign_in_to_admin(request: HttpRequest) -> HttpResponse:
    """Lead to the sign-in page, and from there to where one wanted to go."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied  # signing in again as oneself would only come back here
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))


def change_password_in_admin(request: HttpRequest) -> HttpResponse:
    """Lead to the page where everybody changes their password."""
    return HttpResponseRedirect(reverse("account-password"))
