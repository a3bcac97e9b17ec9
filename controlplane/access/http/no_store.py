"""What Tidegate answers is of this moment and for this person: nothing keeps it unless told to."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin


class NoStoreMiddleware(MiddlewareMixin):
    """Answers `Cache-Control: no-store` where a view says nothing else.

    Refusals, redirects and API answers go through it as well as pages. Static files stand before
    it, and say themselves for how long they may be kept.
    """

    def process_response(self, _request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Return the response with the header."""
        response.headers.setdefault("Cache-Control", "no-store")
        return response
