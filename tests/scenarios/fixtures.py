"""One running stack for all scenario and browser tests of a run, handed over calm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.faults import write_active
from tests.scenarios.stack import Stack, running_stack


@pytest.fixture(scope="session")
def whole_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(whole_stack: Stack) -> Iterator[Stack]:
    """The stack with no incident on and no override in force, before and after the test."""
    yield whole_stack
    write_active(whole_stack.state_dir, frozenset())
    for service in ("checkout", "gateway"):
        found = whole_stack.api("GET", f"/services/{service}/overrides?environment=prod")
        for override in found["overrides"]:
            whole_stack.api(
                "POST", f"/overrides/{override['id']}/revert", {"reason": "the test is over"}
            )
