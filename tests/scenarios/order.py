"""In which order tests run that start real parts: what shares a part stands together.

Random within each group, as pytest-randomly leaves it. The stack with its fleet comes after what
needs none, so that it does not run idle beside it, and the browser after what needs none.
"""

from __future__ import annotations

import pytest

PARTS = ("whole_stack", "chromium", "supervisor_that_ends")
"""Fixtures that start something large, or end it; the later in this list, the later in a run."""


class EarlyMarks:
    """Marks what uses the stack, before `-m` selects."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if "whole_stack" in getattr(item, "fixturenames", ()):
                item.add_marker("stack")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    config.pluginmanager.register(EarlyMarks())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests by what they start, and those that start nothing large by directory."""
    directories: dict[str, int] = {}
    for item in items:
        directories.setdefault(str(item.path.parent), len(directories))
    items.sort(key=lambda item: (_rank(item), directories[str(item.path.parent)]))


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("longest") is not None:
        return len(PARTS) + 1
    fixtures = getattr(item, "fixturenames", ())
    return max((PARTS.index(name) + 1 for name in PARTS if name in fixtures), default=0)
