"""Whether the static files of the pages need collecting again.

Compressing plotly.js takes seconds; it is done only when an installed package or a file of ours
has changed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAMP = "static/.collected"


def is_collected(state_dir: Path) -> bool:
    """Return whether the collected files are those of the present checkout."""
    try:
        return (state_dir / STAMP).read_text() == static_fingerprint(ROOT)
    except OSError:
        return False


def mark_collected(state_dir: Path) -> None:
    """Remember that the present files have been collected."""
    (state_dir / "static").mkdir(exist_ok=True)
    (state_dir / STAMP).write_text(static_fingerprint(ROOT))


def static_fingerprint(root: Path) -> str:
    """Return a digest of what static files are made from: pins, and our own files."""
    digest = hashlib.sha256((root / "requirements.txt").read_bytes())
    for path in sorted((root / "dashboards" / "static").rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(root)}\0{path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()
