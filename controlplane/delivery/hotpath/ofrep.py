"""`/ofrep/v1/`: features and shed level for OpenFeature's OFREP providers, from memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.delivery.adapters.ofrep import ErrorCode, Source, find_flag, list_flags
from controlplane.delivery.hotpath.adapting import (
    check_loaded,
    check_method,
    is_current,
    read_held,
    reading_policy,
    with_age,
)
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.headers import Report, read_condition, read_fields, read_report
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.problems import Answer, Headers, Refusal
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.requests import Request, decode_body
from controlplane.delivery.hotpath.store import ServiceKey, Slot

PREFIX = "/ofrep/v1/"
FLAGS = "/ofrep/v1/evaluate/flags"
CONFIGURATION = "/ofrep/v1/configuration"
INSTANCE_ATTRIBUTE = "tidegateInstance"
MAX_BODY_BYTES = 64 * 1024
MAX_KEY_SHOWN = 100
MIN_POLLING_INTERVAL_MS = 1000

_REVISION = b'.ofrep1"'
"""Ends every ETag here: raised when the same policy is put into other words."""

_EVALUATED = b"ofrep "
"""Stands before the tag in what is remembered of an instance that only evaluates flags."""

_CODES = {
    "bad-body": ErrorCode.PARSE_ERROR,
    "flag-not-found": ErrorCode.FLAG_NOT_FOUND,
    "not-published": ErrorCode.FLAG_NOT_FOUND,
    "unknown-environment": ErrorCode.FLAG_NOT_FOUND,
}

_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")


class BadEvaluation(Exception):
    """A request that cannot be evaluated: a 400 with an error code of OpenFeature."""

    def __init__(self, code: ErrorCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclass(slots=True)
class Evaluation:
    """A request that may be answered: by which lane, and on whose behalf."""

    slot: Slot
    lane: Lane
    report: Report | None

    @property
    def source(self) -> Source:
        """The publication that flags are evaluated from."""
        snapshot = self.lane.snapshot
        return Source(snapshot.sequence, snapshot.version, snapshot.cohort or "stable")


class OfrepAdapter:
    """Evaluates flags for the service that the presented token is for.

    The instance decides the cohort; it is the header Tidegate-Instance or the attribute
    `tidegateInstance` of the evaluation context. Nothing else in the context changes a value.
    """

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, gate: Gate, reports: ReportBuffer) -> None:
        self._gate = gate
        self._reports = reports
        self._bulk: dict[tuple[ServiceKey, str], tuple[bytes, Answer]] = {}

    def answer(self, request: Request) -> Answer:
        """Return the answer of the protocol, also when it is an error."""
        key = _flag_key(request.path)
        try:
            return self._answer(request, key)
        except BadEvaluation as bad:
            return _failure(400, bad.code, bad.details, key)
        except Refusal as refusal:
            code = _CODES.get(refusal.code, ErrorCode.GENERAL)
            return _failure(refusal.status, code, refusal.detail, key, refusal.headers)

    def _answer(self, request: Request, key: str | None) -> Answer:
        if request.path == CONFIGURATION:
            return self._configuration(request)
        if key is None and request.path != FLAGS:
            raise Refusal(404, "not-found", f"expected POST {FLAGS}, or {FLAGS}/{{key}}")
        check_method(request, "POST")
        evaluation = self._read(request)
        return self._bulk_answer(request, evaluation) if key is None else self._one(evaluation, key)

    def _read(self, request: Request) -> Evaluation:
        fields = read_fields(request.headers)
        slot = self._enter(request, fields)
        instance = _instance(fields, _context(request))
        report = None
        if instance is not None:
            agent = fields.get(b"user-agent", b"")
            report = _report({b"tidegate-instance": instance, b"user-agent": agent})
        return Evaluation(slot, slot.lane(instance), report)

    def _enter(self, request: Request, fields: Mapping[bytes, bytes]) -> Slot:
        check_loaded(self._gate)
        authorization = fields.get(b"authorization")
        api_key = request.header(b"x-api-key")
        if authorization is None and api_key is not None:
            authorization = b"Bearer " + api_key
        _, grant = self._gate.enter(authorization)
        return self._gate.open(grant, *grant.key)

    def _one(self, evaluation: Evaluation, key: str) -> Answer:
        with reading_policy():
            flag = find_flag(evaluation.lane.policy, key, evaluation.source)
        if flag is None:
            environment, service = evaluation.slot.key
            shown = key[:MAX_KEY_SHOWN]
            raise Refusal(
                404, "flag-not-found", f"the policy of {service} in {environment} has no {shown!r}"
            )
        self._note(evaluation, has_applied=True, is_fetching=False)
        return with_age(_json_answer(200, flag), self._gate)

    def _bulk_answer(self, request: Request, evaluation: Evaluation) -> Answer:
        tag, answer = self._bulk_of(evaluation)
        lane = evaluation.lane
        held = read_held(request.header(b"if-none-match"), _REVISION)
        is_known = is_current(held, evaluation.slot, lane, self._gate)
        has_applied = held is not None and held.matches(lane.tag)
        self._note(evaluation, has_applied=has_applied, is_fetching=not is_known)
        if is_known:
            answer = Answer(304, ((b"etag", tag), _NO_STORE))
        return with_age(answer, self._gate)

    def _bulk_of(self, evaluation: Evaluation) -> tuple[bytes, Answer]:
        """Return the bulk evaluation and its tag; made once for each step of a lane."""
        lane = evaluation.lane
        where = (evaluation.slot.key, lane.snapshot.cohort)
        tag = lane.tag[:-1] + _REVISION
        made = self._bulk.get(where)
        if made is None or made[0] != tag:
            with reading_policy():
                flags = list_flags(lane.policy, evaluation.source)
            made = (tag, _json_answer(200, {"flags": flags}).plus((b"etag", tag)))
            self._bulk[where] = made
        return made

    def _configuration(self, request: Request) -> Answer:
        check_method(request, "GET", "HEAD")
        self._enter(request, read_fields(request.headers))
        condition = read_condition(request.header(b"if-none-match"))
        tag = b'"configuration' + _REVISION
        if condition is not None and condition.matches(tag):
            return Answer(304, ((b"etag", tag), _NO_STORE))
        return _json_answer(200, _CONFIGURATION).plus((b"etag", tag))

    def _note(self, evaluation: Evaluation, *, has_applied: bool, is_fetching: bool) -> None:
        """Remember that the instance evaluates by this policy, unless an SDK speaks for it."""
        report, slot = evaluation.report, evaluation.slot
        if report is None:
            return
        seen = slot.seen.get(report.instance)
        said = None if seen is None else seen.applied or seen.rejected
        if said is not None and not said.startswith(_EVALUATED):
            return
        tag = evaluation.lane.tag
        raw = (_EVALUATED + tag, None) if has_applied else (None, None)
        applied = Report(report.instance, tag if has_applied else None, None, "", report.sdk)
        self._reports.note(slot, applied, raw, is_fetching=is_fetching, now_unix=self._gate.clock())


_CONFIGURATION = {
    "name": "tidegate",
    "capabilities": {
        "cacheInvalidation": {
            "polling": {"enabled": True, "minPollingIntervalMs": MIN_POLLING_INTERVAL_MS}
        },
        "flagEvaluation": {"supportedTypes": ["boolean", "int", "string", "object"]},
    },
}


def _flag_key(path: str) -> str | None:
    if not path.startswith(FLAGS + "/"):
        return None
    # What a client sends may be no text: it is shown in the answer, which has to be.
    return path[len(FLAGS) + 1 :].encode("utf-8", "replace").decode()


def _context(request: Request) -> Mapping[str, Any]:
    """Return the evaluation context of the body; an empty body has an empty one."""
    content_type = (request.header(b"content-type") or b"application/json").lower()
    media = content_type.partition(b";")[0].strip(b" \t")
    if media != b"application/json":
        shown = media.decode("latin-1")[:MAX_KEY_SHOWN]
        raise BadEvaluation(
            ErrorCode.PARSE_ERROR, f"Content-Type: expected application/json, not {shown!r}"
        )
    plain = decode_body(request.body, request.header(b"content-encoding"), max_bytes=MAX_BODY_BYTES)
    if not plain.strip():
        return {}
    try:
        body = orjson.loads(plain)
    except orjson.JSONDecodeError as error:
        raise BadEvaluation(ErrorCode.PARSE_ERROR, f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadEvaluation(ErrorCode.PARSE_ERROR, "the body: expected an object with a context")
    context = body.get("context", {})
    if not isinstance(context, dict):
        raise BadEvaluation(ErrorCode.INVALID_CONTEXT, "context: expected an object")
    if not isinstance(context.get("targetingKey", ""), str):
        raise BadEvaluation(ErrorCode.INVALID_CONTEXT, "context.targetingKey: expected text")
    return context


def _instance(fields: Mapping[bytes, bytes], context: Mapping[str, Any]) -> bytes | None:
    """Return who evaluates, by header or context; None when neither says."""
    named = fields.get(b"tidegate-instance")
    attribute = context.get(INSTANCE_ATTRIBUTE)
    if attribute is None:
        return named
    where = f"context.{INSTANCE_ATTRIBUTE}"
    if not isinstance(attribute, str):
        raise BadEvaluation(ErrorCode.INVALID_CONTEXT, f"{where}: expected text")
    instance = attribute.encode()
    if named is not None and named != instance:
        raise BadEvaluation(
            ErrorCode.INVALID_CONTEXT, f"{where}: is not the instance that Tidegate-Instance names"
        )
    return instance


def _report(fields: dict[bytes, bytes]) -> Report | None:
    try:
        return read_report(fields)
    except Refusal as refusal:
        raise BadEvaluation(
            ErrorCode.INVALID_CONTEXT, f"{INSTANCE_ATTRIBUTE} or Tidegate-Instance: {refusal}"
        ) from None


def _failure(
    status: int, code: ErrorCode, details: str, key: str | None, headers: Headers = ()
) -> Answer:
    named = {} if key is None else {"key": key[:MAX_KEY_SHOWN]}
    return _json_answer(status, {**named, "errorCode": code.value, "errorDetails": details}).plus(
        *headers
    )


def _json_answer(status: int, document: Mapping[str, Any]) -> Answer:
    body = orjson.dumps(document)
    return Answer(status, (_JSON, (b"content-length", str(len(body)).encode()), _NO_STORE), body)
