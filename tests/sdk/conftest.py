"""What the tests of the SDK share: a control plane on a real port, and time to wait for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sdk.patience import be_patient
from tests.sdk.real_plane import RealPlane, real_plane


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    be_patient(monkeypatch.setattr)


@pytest.fixture
def plane(patient: None) -> Iterator[RealPlane]:
    with real_plane() as plane:
        yield plane
