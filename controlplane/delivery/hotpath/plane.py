"""The delivery plane: which address is whose, whatever server speaks to the clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.health import PATHS as HEALTH_PATHS
from controlplane.delivery.hotpath.health import health_answer
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer, Refusal, problem_answer
from controlplane.delivery.hotpath.requests import Adapter, Client, Held, Request

CONFIG_PREFIX = "/config/"
NO_BODY_BYTES = 1024
"""How much body is read and ignored where none is expected."""


logger = structlog.get_logger(__name__)


class DeliveryPlane:
    """Answers every request of the delivery plane, or holds it.

    `adapters` are by path prefix, and the longest prefix that fits wins; `addresses` by the whole
    path, and go before: they are open to all, without a token.
    """

    def __init__(
        self,
        config: ConfigApp,
        *,
        adapters: Mapping[str, Adapter],
        addresses: Mapping[str, Adapter],
    ) -> None:
        self.config = config
        self._addresses = addresses
        self._adapters = sorted(adapters.items(), key=lambda each: -len(each[0]))
        self._prefixes = (CONFIG_PREFIX, *adapters)
        self.answer_counts: dict[int, int] = {}

    @property
    def is_ready(self) -> bool:
        """True once snapshots are loaded and until draining begins."""
        return self.config.is_ready

    def owns(self, path: str) -> bool:
        """Say whether `path` is answered here."""
        return path.startswith(self._prefixes) or self.is_open(path)

    def is_open(self, path: str) -> bool:
        """Say whether `path` is answered without a token."""
        return path in HEALTH_PATHS or path in self._addresses

    def max_body_bytes(self, path: str) -> int:
        """Return how long the body of a request to `path` may be."""
        adapter = self._find_adapter(path)
        return NO_BODY_BYTES if adapter is None else adapter.max_body_bytes

    def knows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Say whether a request with these headers shows a token that is valid now."""
        shown = (value for name, value in headers if name == b"authorization")
        return self.config.knows(next(shown, None))

    def respond(self, request: Request, client: Client) -> tuple[Answer | Held, Poll | None]:
        """Return the answer, or the held request; and the poll, when it is a valid one.

        The poll lets a server that sees the same bytes again say so to `respond_again`.
        """
        poll: Poll | None = None
        try:
            if request.path in HEALTH_PATHS:
                answer: Answer | Held = health_answer(request.path, is_ready=self.is_ready)
            elif (adapter := self._find_adapter(request.path)) is not None:
                answer = adapter.answer(request)
            else:
                poll = self.config.read(request)
                answer = self.config.respond(poll, client)
        except Refusal as refusal:
            answer = problem_answer(refusal)
        except Exception:
            answer = _defect(request.path)
        return self._counted(answer), poll

    def respond_again(self, poll: Poll, client: Client) -> Answer | Held:
        """Return the answer to a poll whose bytes came again, or the held poll."""
        try:
            return self._counted(self.config.respond_again(poll, client))
        except Refusal as refusal:
            return self._counted(problem_answer(refusal))
        except Exception:
            return self._counted(_defect(f"{poll.slot.key}"))

    def count(self, status: int) -> None:
        """Count an answer that was given later, or by the server itself."""
        self.answer_counts[status] = self.answer_counts.get(status, 0) + 1

    def drain(self, *, over_s: float = 0.0) -> None:
        """Be ready no longer, and let go of everything held, within `over_s`."""
        self.config.drain(over_s=over_s)

    def _find_adapter(self, path: str) -> Adapter | None:
        if path in self._addresses:
            return self._addresses[path]
        for prefix, adapter in self._adapters:
            if path.startswith(prefix):
                return adapter
        return None

    def _counted(self, answer: Answer | Held) -> Answer | Held:
        if isinstance(answer, Answer):
            self.count(answer.status)
        return answer


def _defect(path: str) -> Answer:
    """The answer when we fail ourselves: the client is told so, and so is whoever reads the log."""
    logger.exception("request.failed", path=path)
    return problem_answer(Refusal(500, "internal-error", "this node failed to answer; try again"))
