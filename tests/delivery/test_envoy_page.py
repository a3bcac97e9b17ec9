"""The documentation of the Envoy adapter holds what tests run and what the mapping says."""

from __future__ import annotations

from pathlib import Path

from controlplane.delivery.adapters.xds_places import tables

ROOT = Path(__file__).resolve().parents[2]


def test_the_documentation_has_these_tables_and_the_bootstrap_that_tests_run() -> None:
    page = (ROOT / "docs/adapters/envoy.md").read_text()

    assert tables().strip() in page, "python -m controlplane.delivery.adapters.xds_places"
    for name in ("bootstrap.yaml", "token.yaml", "outbound_listener.yaml"):
        text = (ROOT / "deploy/envoy" / name).read_text()
        assert f"```yaml\n{text}```" in page, f"docs/adapters/envoy.md has another {name}"
