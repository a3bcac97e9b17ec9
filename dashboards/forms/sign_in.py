"""The sign-in form: a name and a password, which the service checks."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest

from controlplane.access.http.addresses import address_of
from controlplane.access.http.known_browsers import browser_known_as
from controlplane.access.services.sign_ins import sign_in
from controlplane.kernel.clock import utc_now


class SignInForm(AuthenticationForm):
    """Django's form, whose password goes through limits, queue and audit log."""

    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        """Check name and password together.

        Raises:
            ValidationError: they do not belong together.
            TooManySignIns: a limit is reached.
            Unavailable: too many passwords are being checked.
        """
        name = self.cleaned_data.get("username")
        password = self.cleaned_data.get("password")
        if name is not None and password:
            self.user_cache = sign_in(
                name=name,
                password=password,
                address=address_of(self.request),
                browser=browser_known_as(name, self.request),
                now=utc_now(),
            )
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        return self.cleaned_data
