"""Every field of the document is found by its path, with what a form control needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.policies.domain.fields import Field, field_for, fields_of, list_fields
from controlplane.policies.domain.reference import reference_page
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.domain.schema import EXAMPLE, builtin_policy

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("path", "kind", "unit", "bounds", "default"),
    [
        ("inbound.deadline_ms", "integer", "ms", (1, 600_000), 3000),
        ("outbound.defaults.retry.budget.ratio", "number", "ratio", (0, 1), 0.1),
        ("outbound.dependencies.payments.retry.budget.ratio", "number", "ratio", (0, 1), 0.1),
        ('outbound.dependencies["api.stripe.com"].breaker.open_s', "number", "s", (0.1, 3600), 15),
        (
            'inbound.endpoints["POST /orders"].rate.per_s',
            "number",
            "requests/s",
            (0, 1_000_000),
            1000,
        ),
        ("inbound.tenants.named.acme.per_s", "number", "requests/s", (0, 1_000_000), None),
        (
            'inbound.endpoints["GET /"].tenants.named.acme.burst',
            "integer",
            "requests",
            (1, 1_000_000),
            20,
        ),
        ("inbound.features.search.off_at_level", "integer", "level", (1, 3), None),
        ("inbound.features.search.enabled", "boolean", "", (None, None), True),
        ("inbound.shedding.level", "integer", "level", (0, 3), 0),
        ("inbound.rate.mode", "choice", "", (None, None), "enforce"),
        (
            "outbound.defaults.retry.on",
            "list",
            "",
            (None, None),
            ["connect_error", "timeout", "503"],
        ),
    ],
)
def test_a_field_is_found_by_its_concrete_path(
    path: str, kind: str, unit: str, bounds: tuple[float | None, float | None], default: object
) -> None:
    field = field_for(path)

    assert field is not None
    assert field.path == path
    assert (field.kind, field.unit) == (kind, unit)
    assert (field.minimum, field.maximum) == bounds
    assert field.default == default


def test_a_choice_lists_its_words() -> None:
    field = field_for("outbound.dependencies.payments.breaker.mode")

    assert field is not None
    assert field.choices == ("auto", "shadow", "forced_open", "disabled")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "inbound",
        "inbound.rate",
        "inbound.rates.per_s",
        "inbound.rate.per_s.more",
        "inbound.endpoints.orders.rate.per_s",
        'outbound.dependencies["pay ments"].retry.max_attempts',
        "inbound..rate",
        'inbound["',
    ],
)
def test_no_field_is_at_a_path_that_holds_none(path: str) -> None:
    assert field_for(path) is None


def test_every_field_has_a_title_a_range_and_help() -> None:
    for field in list_fields():
        assert field.title, field.path
        assert len(field.help) > 30, field.path
        assert field.help.endswith("."), field.path
        if field.kind in ("integer", "number"):
            assert field.unit, field.path
            assert field.minimum is not None, field.path
            assert field.maximum is not None, field.path
        assert (field.kind == "choice") == bool(field.choices), field.path


@pytest.mark.parametrize(
    "path",
    [
        "inbound.rate.per_s",
        "inbound.rate.burst",
        "inbound.concurrency.max",
        "inbound.concurrency.queue.max",
        "inbound.tenants.default.per_s",
        "inbound.tenants.default.burst",
        "outbound.defaults.retry.budget.min_per_s",
        "outbound.defaults.breaker.min_calls",
    ],
)
def test_what_is_counted_in_each_instance_says_so(path: str) -> None:
    field = field_for(path)

    assert field is not None
    assert "per instance" in field.title


def test_defaults_are_those_of_the_built_in_policy() -> None:
    assert {each.path: each.default for each in fields_of(builtin_policy())} == {
        path: leaf.value
        for path, leaf in resolve([]).leaves.items()
        if path != "inbound.tenants.default"
    }


def test_the_fields_of_a_policy_have_its_paths_in_its_order() -> None:
    resolved = resolve([Layer("version", "v1", EXAMPLE)])

    assert [each.path for each in fields_of(resolved.policy)] == list(resolved.leaves)


def test_the_catalogue_names_the_free_parts_of_paths() -> None:
    paths = [each.path for each in list_fields()]

    assert len(paths) == len(set(paths))
    assert "outbound.dependencies.<dependency>.retry.max_attempts" in paths
    assert 'inbound.endpoints["<endpoint>"].tenants.named.<tenant>.per_s' in paths


def test_the_reference_page_is_the_one_the_models_write() -> None:
    assert (ROOT / "docs/policies.md").read_text() == reference_page(), (
        "run: python -m controlplane.policies.domain.reference > docs/policies.md"
    )


def test_the_reference_page_names_every_field() -> None:
    page = reference_page()

    for field in list_fields():
        if isinstance(field, Field):
            assert field.title in page
            assert f"{field.path.rpartition('.')[2]}`" in page
