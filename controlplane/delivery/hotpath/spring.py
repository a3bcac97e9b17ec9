"""`/spring/{application}/{profile}[/{label}]`: resilience4j properties for Spring Cloud Config."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import orjson

from controlplane.delivery.adapters.spring import Origin, environment_document, list_properties
from controlplane.delivery.hotpath.adapting import (
    check_loaded,
    check_method,
    is_current,
    read_held,
    reading_policy,
    with_age,
)
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.headers import read_fields, read_report
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.problems import Answer, Refusal, unauthorized
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import ServiceKey

PREFIX = "/spring/"
MAX_PATH_CHARACTERS = 512
NO_PROFILE = "default"
"""What Spring asks for while no profile is active; it asks again once one is."""

_REVISION = b'.spring1"'
"""Ends every ETag here: raised when the same policy is put into other words."""


class SpringAdapter:
    """Serves the policy of the service that the presented token is for.

    `application` has to name that service and `profile` its environment, each alone or in a list
    with commas; the label chooses nothing. The token is a bearer token, the password of Basic
    authentication, or the X-Config-Token.
    """

    max_body_bytes = 1024

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._sources: dict[tuple[str, str, str], tuple[bytes, bytes]] = {}

    def answer(self, request: Request) -> Answer:
        """Return the environment.

        Raises:
            Refusal: 404, another address; 405; 401, 403 and 429 of the token; 503, not loaded.
        """
        check_method(request, "GET", "HEAD")
        application, profile, label = _names(request.path)
        fields = read_fields(request.headers)
        check_loaded(self._gate)
        _, grant = self._gate.enter(_authorization(request, fields))
        environment, service = grant.key
        profiles = _listed(profile)
        _check_scope(grant.key, _listed(application), profiles)
        slot = self._gate.open(grant, environment, service)
        report = read_report(
            {name: fields[name] for name in (b"tidegate-instance",) if name in fields}
        )
        lane = slot.lane(None if report is None else report.instance)
        tag = lane.tag[:-1] + _REVISION
        held = read_held(fields.get(b"if-none-match"), _REVISION)
        head = ((b"etag", tag), (b"cache-control", b"no-store"))
        if is_current(held, slot, lane, self._gate):
            return with_age(Answer(304, head), self._gate)
        origin = _origin(slot.key, lane)
        document = environment_document(
            orjson.Fragment(self._source(lane, origin)),
            origin,
            name=application,
            profiles=profiles,
            label=label,
        )
        body = orjson.dumps(document)
        length = (b"content-length", str(len(body)).encode())
        answer = Answer(200, ((b"content-type", b"application/json"), length, *head), body)
        return with_age(answer, self._gate)

    def _source(self, lane: Lane, origin: Origin) -> bytes:
        """Return the properties as JSON; made once for each step of a lane."""
        where = (origin.environment, origin.service, origin.cohort)
        made = self._sources.get(where)
        if made is None or made[0] != lane.tag:
            with reading_policy():
                made = (lane.tag, orjson.dumps(list_properties(lane.policy, origin)))
            self._sources[where] = made
        return made[1]


def _names(path: str) -> tuple[str, str, str | None]:
    parts = path.removeprefix(PREFIX).split("/", 2)
    if len(path) > MAX_PATH_CHARACTERS:
        raise Refusal(
            414, "uri-too-long", f"an address holds at most {MAX_PATH_CHARACTERS} characters"
        )
    if len(parts) < 2 or not parts[0] or not parts[1]:
        raise Refusal(404, "not-found", "expected /spring/{application}/{profile}[/{label}]")
    # A label cannot hold a slash in an address: Spring writes (_) for it.
    label = parts[2].replace("(_)", "/") if len(parts) == 3 and parts[2] else None
    return parts[0], parts[1], label


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _check_scope(key: ServiceKey, applications: list[str], profiles: list[str]) -> None:
    environment, service = key
    if service not in applications:
        raise _wrong_scope(key, "spring.cloud.config.name", "application")
    if environment not in profiles and profiles != [NO_PROFILE]:
        raise _wrong_scope(key, "spring.cloud.config.profile", "profile")


def _wrong_scope(key: ServiceKey, setting: str, field: str) -> Refusal:
    environment, service = key
    return Refusal(
        403,
        "wrong-scope",
        f"this token is for {service} in {environment} only: expected "
        f"/spring/{service}/{environment}; {setting} says what is asked for",
        field=field,
    )


def _authorization(request: Request, fields: Mapping[bytes, bytes]) -> bytes | None:
    """Return the presented token as a bearer token; None when there is none."""
    authorization = fields.get(b"authorization")
    if authorization is None:
        token = request.header(b"x-config-token")
        return None if token is None else b"Bearer " + token
    scheme, _, credentials = authorization.partition(b" ")
    if scheme.lower() != b"basic":
        return authorization
    try:
        _, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        colon, password = b"", b""
    if not colon or not password:
        raise unauthorized("expected Basic authentication with the service token as the password")
    return b"Bearer " + password


def _origin(key: ServiceKey, lane: Lane) -> Origin:
    environment, service = key
    snapshot = lane.snapshot
    return Origin(
        environment=environment,
        service=service,
        version=snapshot.version,
        sequence=snapshot.sequence,
        etag=lane.step.etag,
        cohort=snapshot.cohort or "stable",
    )
