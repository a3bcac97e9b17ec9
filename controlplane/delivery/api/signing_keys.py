"""Signing keys over HTTP: list, look at, rotate and withdraw."""

from __future__ import annotations

from datetime import timedelta

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from controlplane.access.http.actors import actor_of
from controlplane.access.http.paging import PARAMETERS, encode_cursor, window_of
from controlplane.access.http.permissions import MayAct
from controlplane.delivery.api.serializers import (
    RotateSigningKeyIn,
    SigningKeyOut,
    SigningKeysOut,
    WithdrawalOut,
)
from controlplane.delivery.selectors import get_signing_key, list_signing_keys
from controlplane.delivery.services.signing_keys import (
    DEFAULT_LEAD,
    rotate_signing_key,
    withdraw_signing_key,
)
from controlplane.kernel.clock import utc_now
from controlplane.policies.api.serializers import ReasonIn
from controlplane.resilience.http.idempotent import idempotent
from controlplane.resilience.http.parameters import IDEMPOTENCY_KEY


class SigningKeysView(APIView):
    """The keys that sign what services are delivered."""

    permission_classes = (MayAct,)
    actions = {"GET": "signing_key.read"}

    @extend_schema(
        operation_id="list_signing_keys", parameters=PARAMETERS, responses=SigningKeysOut
    )
    def get(self, request: Request) -> Response:
        """Return every signing key, oldest first."""
        window = window_of(request)
        rows = list(enumerate(list_signing_keys(now=utc_now()), start=1))
        after = window.after_number or 0
        page, has_next = window.cut([each for each in rows if each[0] > after])
        next_cursor = encode_cursor(page[-1][0]) if has_next else None
        keys = [row for _, row in page]
        return Response(SigningKeysOut({"signing_keys": keys, "next_cursor": next_cursor}).data)


class SigningKeyView(APIView):
    """One signing key."""

    permission_classes = (MayAct,)
    actions = {"GET": "signing_key.read"}

    @extend_schema(operation_id="read_signing_key", responses=SigningKeyOut)
    def get(self, request: Request, kid: str) -> Response:
        """Return one signing key."""
        return Response(SigningKeyOut(get_signing_key(kid, now=utc_now())).data)


class RotateSigningKeyView(APIView):
    """The next signing key."""

    permission_classes = (MayAct,)
    actions = {"POST": "signing_key.manage"}

    @extend_schema(
        operation_id="rotate_signing_key",
        parameters=[IDEMPOTENCY_KEY],
        request=RotateSigningKeyIn,
        responses={201: SigningKeyOut},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Announce a new key now; it signs after the lead."""
        body = RotateSigningKeyIn(data=request.data)
        body.is_valid(raise_exception=True)
        lead_s = body.validated_data.get("lead_s", DEFAULT_LEAD.total_seconds())
        now = utc_now()
        key = rotate_signing_key(
            actor=actor_of(request),
            reason=body.validated_data["reason"],
            lead=timedelta(seconds=lead_s),
            now=now,
        )
        address = reverse("api-signing-key", (key.kid,), request=request)
        return Response(
            SigningKeyOut(get_signing_key(key.kid, now=now)).data,
            status=201,
            headers={"Location": address},
        )


class WithdrawSigningKeyView(APIView):
    """The end of a compromised key, now."""

    permission_classes = (MayAct,)
    actions = {"POST": "signing_key.manage"}

    @extend_schema(
        operation_id="withdraw_signing_key",
        parameters=[IDEMPOTENCY_KEY],
        request=ReasonIn,
        responses=WithdrawalOut,
    )
    @idempotent
    def post(self, request: Request, kid: str) -> Response:
        """Stop trusting a key at once; another one takes over."""
        body = ReasonIn(data=request.data)
        body.is_valid(raise_exception=True)
        now = utc_now()
        done = withdraw_signing_key(
            actor=actor_of(request), kid=kid, reason=body.validated_data["reason"], now=now
        )
        answer = {
            "withdrawn": get_signing_key(done.withdrawn.kid, now=now),
            "active": get_signing_key(done.active.kid, now=now),
            "consequence": done.consequence,
        }
        return Response(WithdrawalOut(answer).data)
