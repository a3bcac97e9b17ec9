"""Answers to Envoys: made once for all nodes of one shape, within bounds of memory and time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from controlplane.delivery.hotpath.problems import Answer, come_back
from controlplane.delivery.hotpath.store import ServiceKey

MAX_KEPT_BYTES = 32 * 1024 * 1024
ENTRY_BYTES = 1000
MAKING_SHARE = 0.05
MAKING_AT_ONCE_S = 1.0


class KeptAnswers:
    """Answers by what they depend on; None for what cannot be said in Envoy's words.

    Making one takes milliseconds of the thread that answers everybody. All Envoys of a service
    usually share a few; a service whose nodes differ more and more gets a twentieth of the time,
    and no more than a second at once.
    """

    def __init__(
        self, clock: Callable[[], float], *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._kept: OrderedDict[Hashable, Answer | None] = OrderedDict()
        self._kept_bytes = 0
        self._spent: dict[ServiceKey, tuple[float, float]] = {}

    def get(
        self, service: ServiceKey, key: Hashable, make: Callable[[], Answer | None]
    ) -> Answer | None:
        """Return the answer for `key`, made now if it is not there.

        Raises:
            Refusal: 429, the nodes of `service` have used their time; what is made is served.
        """
        if key in self._kept:
            return self._kept[key]
        spent_s = self._spent_s(service)
        if spent_s >= MAKING_AT_ONCE_S:
            raise come_back(
                429,
                "too-many-shapes",
                "the Envoys of this service differ in too many ways: give them the same "
                "node.metadata.tidegate",
                after_s=1,
                spread_s=4,
            )
        started_s = self._timer()
        answer = make()
        self._spent[service] = (spent_s + self._timer() - started_s, self._clock())
        self._keep(key, answer)
        return answer

    def _spent_s(self, service: ServiceKey) -> float:
        spent_s, at_unix = self._spent.get(service, (0.0, 0.0))
        # A clock that is set back forgives nothing and costs nothing.
        return max(0.0, spent_s - MAKING_SHARE * max(0.0, self._clock() - at_unix))

    def _keep(self, key: Hashable, answer: Answer | None) -> None:
        self._kept[key] = answer
        self._kept_bytes += _size(answer)
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])


def _size(answer: Answer | None) -> int:
    return ENTRY_BYTES + (0 if answer is None else len(answer.body))
