"""Pages whose form may have more fields than Django takes by default."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from controlplane.kernel.errors import InvalidInput
from dashboards.forms.large import read_large_form
from dashboards.views import errors
from dashboards.views.scope import View


def takes_large_form(view: View) -> View:
    """Let `view` be posted a form of thousands of fields.

    The middleware that checks the token would read the form first, within Django's own bound, so
    it leaves this view to the same check, made here once the form is read.
    """
    checked = csrf_protect(view)

    @wraps(view)
    def read_first(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if request.method == "POST":
            try:
                form = read_large_form(request)
            except InvalidInput as error:
                return errors.page_of(request, error)
            if form is not None:
                request.POST = form  # type: ignore[assignment]  # immutable for the type alone
        return checked(request, **kwargs)

    return csrf_exempt(read_first)
