"""Each telemetry test starts as a new process would: nothing kept, nothing cached."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import cache

from controlplane.telemetry.selectors import forget_pictures
from controlplane.telemetry.sources.shared_cache import forget_failure


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    cache.clear()
    forget_pictures()
    forget_failure()
    yield
    cache.clear()
    forget_pictures()
    forget_failure()
