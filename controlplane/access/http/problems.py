"""Errors as RFC 9457 problem details of the operator API."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, JsonResponse
from rest_framework import exceptions

from controlplane.access.http.parsing import MalformedBody, too_large
from controlplane.kernel.errors import (
    Forbidden,
    InvalidInput,
    NotFound,
    Problem,
    TidegateError,
    Unauthorized,
    Unavailable,
)
from controlplane.kernel.jsondoc import format_path
from controlplane.kernel.logs import current_request_id

CONTENT_TYPE = "application/problem+json"
logger = structlog.get_logger(__name__)


def exception_handler(error: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """Answer any error of an API view as a problem document; the unexpected is logged and a 500.

    JSON whatever was negotiated: a description asked for as YAML is still refused as JSON.
    """
    if isinstance(error, RequestDataTooBig):
        error = too_large()
    known = known_error(error)
    if known is not None:
        return _answer(problem_document(known), known.status, _headers_of(known))
    if isinstance(error, exceptions.APIException):
        return _answer(_document_of_drf(error), error.status_code, _headers_of_drf(error))
    logger.exception("request.failed", view=type(context.get("view")).__name__)
    unexpected = TidegateError("an unexpected error; the log has it under the request ID")
    return _answer(problem_document(unexpected), 500, {})


def known_error(error: Exception) -> TidegateError | None:
    """Return the error as one of ours, if it has a counterpart; None otherwise."""
    if isinstance(error, TidegateError):
        return error
    if isinstance(error, exceptions.ValidationError):
        problems = tuple(_problems_of(error.detail, ()))
        field = next((problem.path for problem in problems if problem.path), None)
        message = "; ".join(str(problem) for problem in problems)
        return InvalidInput(message, field=field, problems=problems)
    if isinstance(error, Http404):
        return NotFound("nothing is at this address")
    if isinstance(error, PermissionDenied):
        return Forbidden(str(error) or "you may not do this")
    if isinstance(error, OperationalError):
        logger.warning("database.unavailable", error=str(error))
        return Unavailable("the database does not answer now; nothing was changed")
    return None


def problem_document(error: TidegateError) -> dict[str, Any]:
    """Return the RFC 9457 document of an error."""
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
    }
    if error.field:
        document["field"] = error.field
    if isinstance(error, InvalidInput) and error.problems:
        document["problems"] = [
            {"path": problem.path, "message": problem.message} for problem in error.problems
        ]
    if current_request_id():
        document["request_id"] = current_request_id()
    return document


def _answer(document: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> JsonResponse:
    return JsonResponse(document, status=status, headers=headers, content_type=CONTENT_TYPE)


def _headers_of(error: TidegateError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="tidegate"'
    return headers


def _document_of_drf(error: exceptions.APIException) -> dict[str, Any]:
    code = getattr(error.detail, "code", None) or error.default_code
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": str(error.detail),
        "code": str(code).replace("_", "-"),
    }
    if isinstance(error, MalformedBody):
        if error.path:
            document["field"] = error.path
        document["problems"] = [{"path": error.path, "message": str(error.detail)}]
    if current_request_id():
        document["request_id"] = current_request_id()
    return document


def _headers_of_drf(error: exceptions.APIException) -> dict[str, str]:
    headers = {"Cache-Control": "no-store"}
    challenge = getattr(error, "auth_header", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    wait_s = getattr(error, "wait", None)
    if wait_s:
        headers["Retry-After"] = str(math.ceil(wait_s))
    return headers


def _problems_of(detail: object, parts: tuple[str, ...]) -> Iterator[Problem]:
    if isinstance(detail, Mapping):
        for key, inner in detail.items():
            here = parts if key == "non_field_errors" else (*parts, str(key))
            yield from _problems_of(inner, here)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            nested = isinstance(inner, Mapping | list)
            yield from _problems_of(inner, (*parts, str(index)) if nested else parts)
    else:
        yield Problem(format_path(parts), str(detail))
