"""Forms with more fields than Django takes by default, as the Tune form of a large service has."""

from __future__ import annotations

from urllib.parse import parse_qsl

from django.http import HttpRequest, QueryDict

from controlplane.kernel.errors import InvalidInput

MOST_FIELDS = 20_000
FORM = "application/x-www-form-urlencoded"


def read_large_form(request: HttpRequest) -> QueryDict | None:
    """Read the fields of a posted form; None when its encoding is not the one that forms have.

    The bytes stay bounded by DATA_UPLOAD_MAX_MEMORY_SIZE, as for every other form.

    Raises:
        InvalidInput: it has more than `MOST_FIELDS` fields.
    """
    if request.content_type != FORM:
        return None
    data = QueryDict(mutable=True)
    text = request.body.decode("utf-8", "replace")
    if text.count("&") >= MOST_FIELDS:
        raise InvalidInput(f"A form may not have more than {MOST_FIELDS:,} fields.")
    for name, value in parse_qsl(text, keep_blank_values=True):
        data.appendlist(name, value)
    return data
