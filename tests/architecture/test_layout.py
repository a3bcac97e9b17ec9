"""What import contracts cannot say about the shape of the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("controlplane", "dashboards", "sdk/src", "demo", "deploy", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "migrations" not in path.parts and "build" not in path.parts
]
TOP_LEVEL = {
    "manage.py", "requirements.txt", "requirements-dev.txt", "pyproject.toml", "README.md",
    "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "controlplane",
    "dashboards", "templates", "tests", "sdk", "demo", "deploy", "docs", "benchmarks",
    ".ci", ".gitignore",
}  # fmt: skip
OWNERS = {
    "Team": "access", "Membership": "access", "ServiceToken": "access", "AuditEntry": "access",
    "AuditHead": "access", "Environment": "registry", "Service": "registry",
    "Endpoint": "registry", "Dependency": "registry", "Instance": "registry",
    "PolicyVersion": "policies", "Override": "policies", "Publication": "policies",
    "SequenceCounter": "policies", "InstanceReport": "delivery", "Acknowledgement": "delivery",
    "SigningKey": "delivery",
    "Alert": "notifications", "Notice": "notifications",
    "Objective": "slo", "BudgetSlice": "slo", "IdempotencyKey": "resilience",
}  # fmt: skip


def test_no_module_is_longer_than_400_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in SOURCES
        if (count := len(path.read_text().splitlines())) > 400
    }

    assert long == {}


def test_the_top_level_holds_only_what_the_layout_names() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip

    assert {name.split("/")[0].strip('"') for name in tracked if name} - TOP_LEVEL == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_owner_of_a_model_queries_it(path: Path) -> None:
    relative = path.relative_to(ROOT)
    if relative.parts[0] != "controlplane":
        allowed_app, allowed_place = "", False
    else:
        allowed_app = relative.parts[1]
        allowed_place = any(
            part.removesuffix(".py") in {"models", "selectors", "services", "admin"}
            for part in relative.parts[2:]
        )
    offending = [
        name
        for name in re.findall(r"\b([A-Z][A-Za-z]+)\.objects\b", path.read_text())
        if name in OWNERS and not (allowed_place and OWNERS[name] == allowed_app)
    ]

    assert offending == []


def test_every_task_name_in_the_code_is_registered() -> None:
    from controlplane.project.celery import app

    app.loader.import_default_modules()
    scheduled = {entry["task"] for entry in app.conf.beat_schedule.values()}
    enqueued: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", getattr(node.func, "attr", ""))
                == "enqueue_after_commit"
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                enqueued.add(str(node.args[0].value))

    assert (scheduled | enqueued) - set(app.tasks) == set()


@pytest.mark.parametrize(
    "module",
    ["controlplane.delivery.hotpath.app", "controlplane.policies.domain.resolve", "tidegate"],
)
def test_pure_code_imports_without_django(module: str) -> None:
    script = f"import {module}, sys; sys.exit('django' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)

    assert done.returncode == 0


def test_every_partial_declares_its_context() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "templates").rglob("_*.html"))
        if "Context:" not in path.read_text().split("#}")[0]
    ]

    assert silent == []


def test_templates_hold_no_inline_script_style_or_handler() -> None:
    inline = re.compile(
        r"<script(?![^>]*\b(src=|type=\"application/json\"))|<style|\sstyle=|\son[a-z]+=", re.I
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for match in inline.finditer(path.read_text())
    ]

    assert found == []


def test_production_settings_never_allow_the_demo() -> None:
    text = (ROOT / "controlplane/project/settings/production.py").read_text()

    assert "TIDEGATE_ALLOW_DEMO = False" in text
    assert settings.DEBUG is False
