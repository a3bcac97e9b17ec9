"""The handlers of the eight services, one module each."""

from __future__ import annotations

from collections.abc import Callable

from demo.services import catalog, checkout, fraud, gateway, inventory, ledger, payments, search
from demo.web import Route
from demo.work import Work

ROUTES: dict[str, Callable[[Work], list[Route]]] = {
    "gateway": gateway.routes,
    "checkout": checkout.routes,
    "payments": payments.routes,
    "inventory": inventory.routes,
    "fraud": fraud.routes,
    "ledger": ledger.routes,
    "search": search.routes,
    "catalog": catalog.routes,
}
