"""Static files as they are collected: hashed names, each with a gzip copy beside it."""

from __future__ import annotations

from typing import Any

from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage


class GzipStaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped
    """Makes no Brotli copies, although the library is there for the config API.

    WhiteNoise takes the best quality, which for Plotly alone is most of a minute: every first
    `make up` would wait for it.
    """

    def create_compressor(self, **options: Any) -> Compressor:
        """Return what makes the copies."""
        return Compressor(use_brotli=False, **options)
