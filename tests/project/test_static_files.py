"""What is made of static files when they are collected."""

from __future__ import annotations

from pathlib import Path

from controlplane.project.settings import base
from controlplane.project.static_files import GzipStaticFilesStorage


def test_a_static_file_gets_a_gzip_copy_and_no_slow_one(tmp_path: Path) -> None:
    script = tmp_path / "app.js"
    script.write_text("console.log('the same line again');\n" * 100)

    made = GzipStaticFilesStorage(location=tmp_path, base_url="/static/").create_compressor(
        quiet=True
    )

    assert [Path(path).name for path in made.compress(str(script))] == ["app.js.gz"]


def test_that_storage_is_the_one_that_is_used() -> None:
    backend = base.STORAGES["staticfiles"]["BACKEND"]

    assert backend == f"{GzipStaticFilesStorage.__module__}.{GzipStaticFilesStorage.__name__}"
