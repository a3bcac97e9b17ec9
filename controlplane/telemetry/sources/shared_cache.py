"""The cache that all processes share, read and written so that its absence costs little."""

from __future__ import annotations

from threading import Lock

from django.core.cache import cache
from redis.exceptions import RedisError

from controlplane.kernel.clock import monotonic_s
from controlplane.kernel.errors import Unavailable

# After a failure nobody asks again for this long: a page makes several reads, and a cache that
# hangs would cost each of them its socket timeout.
REST_S = 1.0

_lock = Lock()
_rests_until_s = 0.0


class CacheAway(Unavailable):
    """The shared cache does not answer."""

    code = "cache-away"
    title = "The shared cache does not answer"


def read(key: str) -> bytes | None:
    """Return what is stored under `key`, or None.

    Raises:
        CacheAway: the cache does not answer, or has just failed.
    """
    _check_rest()
    try:
        value = cache.get(key)
    except (RedisError, OSError) as error:
        raise _away(error) from error
    return value if isinstance(value, bytes) else None


def write(key: str, value: bytes, *, keep_s: int) -> None:
    """Store `value` for `keep_s` seconds.

    Raises:
        CacheAway: the cache does not answer, or has just failed.
    """
    _check_rest()
    try:
        cache.set(key, value, timeout=keep_s)
    except (RedisError, OSError) as error:
        raise _away(error) from error


def claim(key: str, *, for_s: int) -> bool:
    """Take a lock that ends by itself after `for_s`; False when somebody else holds it.

    Raises:
        CacheAway: the cache does not answer, or has just failed.
    """
    _check_rest()
    try:
        return bool(cache.add(key, b"1", timeout=for_s))
    except (RedisError, OSError) as error:
        raise _away(error) from error


def release(key: str) -> None:
    """Give a lock back; one that cannot be given back ends by itself."""
    try:
        cache.delete(key)
    except (RedisError, OSError):
        return


def forget_failure() -> None:
    """Ask again at once, as if the cache had never failed."""
    global _rests_until_s
    with _lock:
        _rests_until_s = 0.0


def _check_rest() -> None:
    with _lock:
        if monotonic_s() < _rests_until_s:
            raise CacheAway("The shared cache has just failed, so it is not asked again yet.")


def _away(error: Exception) -> CacheAway:
    global _rests_until_s
    with _lock:
        _rests_until_s = monotonic_s() + REST_S
    return CacheAway("The shared cache does not answer: " + str(error))
