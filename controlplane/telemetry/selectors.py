"""Read the fleet's picture, and say honestly how old it is and what is down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from controlplane.telemetry.domain.picture import FleetPicture, picture_from_json
from controlplane.telemetry.domain.status import CollectorStatus, status_from_json
from controlplane.telemetry.sources import shared_cache
from controlplane.telemetry.sources.shared_cache import CacheAway

STALE_AFTER_INTERVALS = 3
AHEAD_S = 2.0  # between two machines' clocks; a picture from further ahead is not the present
# Changes with the shape of what is stored, so that two releases can share one cache.
_VERSION = "v1"


class Freshness(StrEnum):
    """Whether a picture may be read as the present."""

    LIVE = "live"
    STALE = "stale"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class PictureRead:
    """The latest picture and how far to trust it.

    `age_s` counts from the time the figures are true for. `reason` is a sentence, empty when
    live. `picture` is None only when unavailable.
    """

    picture: FleetPicture | None
    state: Freshness
    age_s: float | None
    reason: str

    @property
    def as_of(self) -> datetime | None:
        """The time the figures are true for."""
        return None if self.picture is None else datetime.fromtimestamp(self.picture.taken_at, UTC)


# The last picture this process read, by environment: what is left when the cache is away.
_kept: dict[str, FleetPicture] = {}


def picture_key(environment: str) -> str:
    """Where the picture of an environment lies in the shared cache."""
    return "telemetry:picture:" + _VERSION + ":" + environment


def status_key(environment: str) -> str:
    """Where the collector of an environment says how it is doing."""
    return "telemetry:status:" + _VERSION + ":" + environment


def read_status(environment: str) -> CollectorStatus:
    """Return how the collector of an environment is doing.

    Raises:
        CacheAway: the shared cache does not answer.
    """
    return status_from_json(shared_cache.read(status_key(environment)))


def read_picture(environment: str, now: datetime) -> PictureRead:
    """Return the latest picture of `environment`. Never raises, never asks Prometheus.

    Stale after three intervals of the collector. Without the shared cache, what this process
    read last is shown.
    """
    now_s = now.timestamp()
    try:
        status = read_status(environment)
        picture = _current(environment, status)
    except CacheAway:
        return _without_cache(environment, now_s)
    if picture is None:
        return PictureRead(None, Freshness.UNAVAILABLE, None, _why_nothing(status))
    if _is_fresh(picture, now_s):
        return PictureRead(picture, Freshness.LIVE, _age_s(picture, now_s), "")
    reason = _why_old(status, picture, now_s)
    return PictureRead(picture, Freshness.STALE, _age_s(picture, now_s), reason)


def forget_pictures() -> None:
    """Drop what this process remembers, as a new process would start."""
    _kept.clear()


def _current(environment: str, status: CollectorStatus) -> FleetPicture | None:
    """The picture in the cache; its body is only fetched when the status names a newer one."""
    kept = _kept.get(environment)
    # Not "newer": after a clock was set back, the newest picture has the lower time.
    if kept is not None and status.collected_at in (0, kept.collected_at):
        return kept
    body = shared_cache.read(picture_key(environment))
    if body is None:
        return kept
    try:
        _kept[environment] = picture_from_json(body)
    except ValueError:
        return kept
    return _kept[environment]


def _without_cache(environment: str, now_s: float) -> PictureRead:
    kept = _kept.get(environment)
    if kept is None:
        reason = "The shared cache does not answer; there is nothing to show until it returns."
        return PictureRead(None, Freshness.UNAVAILABLE, None, reason)
    age_s = _age_s(kept, now_s)
    if _is_fresh(kept, now_s):
        return PictureRead(kept, Freshness.LIVE, age_s, "")
    reason = (
        "The shared cache does not answer; these figures are the last read, at "
        + clock_text(kept.collected_at)
        + "."
    )
    return PictureRead(kept, Freshness.STALE, age_s, reason)


def _age_s(picture: FleetPicture, now_s: float) -> float:
    return max(0.0, now_s - picture.taken_at)


def _is_fresh(picture: FleetPicture, now_s: float) -> bool:
    age_s = now_s - picture.collected_at
    return -AHEAD_S <= age_s <= STALE_AFTER_INTERVALS * picture.interval_s


def _why_nothing(status: CollectorStatus) -> str:
    if status.failing_since is not None:
        return _source_sentence(status)
    return "Nothing has been collected yet; the worker does it within seconds of its start."


def _why_old(status: CollectorStatus, picture: FleetPicture, now_s: float) -> str:
    if now_s - picture.collected_at < -AHEAD_S:
        return (
            "These figures are dated "
            + clock_text(picture.collected_at)
            + ", which is still to come: the clock of the worker or of this machine is wrong."
        )
    silent_s = now_s - status.attempted_at
    if silent_s > STALE_AFTER_INTERVALS * picture.interval_s:
        last = max(status.attempted_at, picture.collected_at)
        return "The worker has not collected since " + clock_text(last) + "."
    if status.failing_since is not None:
        return _source_sentence(status)
    return "The last picture was collected at " + clock_text(picture.collected_at) + "."


def _source_sentence(status: CollectorStatus) -> str:
    since = clock_text(status.failing_since or status.attempted_at)
    return "Prometheus has not answered since " + since + ". " + status.reason


def clock_text(at_s: float) -> str:
    """A time of day for a sentence: "02:31:07 UTC"."""
    return format(datetime.fromtimestamp(at_s, UTC), "%H:%M:%S UTC")
