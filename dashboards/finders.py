"""A static files finder that serves plotly.js from the installed plotly package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import plotly
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage, Storage

PREFIX = "plotly/"
FILE_NAME = "plotly.min.js"


class PlotlyFinder(BaseFinder):
    """Finds exactly one file: `plotly/plotly.min.js`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._directory = Path(plotly.__file__).parent / "package_data"
        self._storage = FileSystemStorage(location=str(self._directory))
        self._storage.prefix = PREFIX.rstrip("/")  # type: ignore[attr-defined]

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        """Return the path of the file, or an empty list when `path` is another."""
        if path != PREFIX + FILE_NAME:
            return []
        found = str(self._directory / FILE_NAME)
        return [found] if find_all else found

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Storage]]:
        """Yield the one file, for collectstatic."""
        yield FILE_NAME, self._storage
