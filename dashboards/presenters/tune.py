"""The Tune page: every control of one service with its value, origin and live figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.fields import field_for
from controlplane.policies.domain.resolve import Resolved
from controlplane.policies.selectors import (
    current_version,
    effective_policy,
    find_canary_in_force,
    list_overrides_in_force,
)
from controlplane.registry.selectors import get_service
from controlplane.slo.selectors import service_status
from controlplane.telemetry.domain.health import DEGRADED_FAILURE_RATIO, judge
from controlplane.telemetry.domain.picture import ServiceSignals
from controlplane.telemetry.selectors import read_picture
from dashboards.presenters.burns import burn_of
from dashboards.presenters.controls import Control, control_of, leaf_for
from dashboards.presenters.envoys import Envoys, find_envoys
from dashboards.presenters.freshness import Freshness, freshness_of
from dashboards.presenters.service import signals_of, why_not
from dashboards.presenters.states import StatePill, state_pill
from dashboards.presenters.tune_layout import SECTIONS, GroupLayout, Names, groups_of
from dashboards.templatetags.policy_text import shown as shown_text


@dataclass(frozen=True, slots=True)
class Group:
    """Controls under one heading."""

    title: str
    note: str
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One tab of the form."""

    key: str
    name: str
    groups: tuple[Group, ...]
    is_current: bool
    error_count: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was typed and what is wrong with it, by path; and what is special about a field."""

    texts: Mapping[str, str]
    errors: Mapping[str, str]
    note_on: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Tune:
    """The whole form."""

    slug: str
    team: str
    environment: str
    state: StatePill
    version: str
    version_number: int
    override_count: int
    sections: tuple[Section, ...]
    texts: Mapping[str, str]
    errors: Mapping[str, str]
    other_errors: tuple[tuple[str, str], ...]
    may_tune: bool
    may_publish: bool
    may_start_canary: bool
    canary_ratio: float | None
    why_not: str
    freshness: Freshness
    envoys: Envoys


def present_tune(
    *,
    environment: str,
    service_slug: str,
    section: str,
    texts: Mapping[str, str],
    errors: Mapping[str, str],
    actor: Actor,
    now: datetime,
) -> Tune:
    """Build the form.

    Args:
        section: key of the tab to open; the first with an error, or the first, otherwise.
        texts: what was typed or prefilled, by path.
        errors: problems by name of the input.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    read = read_picture(environment, now)
    signals = signals_of(read, service_slug)
    resolved = effective_policy(service, now)
    status = service_status(environment, now).get(service_slug)
    version = current_version(service)
    overrides = list_overrides_in_force(environment, service_slug, now=now)
    canary = find_canary_in_force(service, now=now)
    level = int(resolved.policy["inbound"]["shedding"]["level"])
    health = judge(
        None if read.picture is None else read.picture.services.get(service_slug),
        is_stale=read.picture is not None and read.state != "live",
        shed_level=level,
        burn=burn_of(status, read.picture if read.state == "live" else None, service_slug),
    )
    names = _names(
        [f"{each.method} {each.route}" for each in service.endpoints.all()],
        [each.name for each in service.dependencies.all()],
        resolved,
        signals,
    )
    envoys = find_envoys(environment, service_slug, now)
    inputs = Inputs(texts, errors, envoys.note_on)
    sections = _sections(section, resolved, names, signals, inputs)
    shown = {c.path for s in sections for g in s.groups for c in g.controls}
    return Tune(
        slug=service.slug,
        team=service.team.name,
        environment=environment,
        state=state_pill(health.worst),
        version="fleet default" if version is None else f"v{version.number}",
        version_number=0 if version is None else version.number,
        override_count=len(overrides),
        sections=sections,
        texts=texts,
        errors=errors,
        other_errors=tuple((k, v) for k, v in errors.items() if k not in shown | _PLACED),
        may_tune=actor.may("override.open", service.team.slug),
        may_publish=canary is None and actor.may("version.publish", service.team.slug),
        may_start_canary=canary is None and actor.may("canary.start", service.team.slug),
        canary_ratio=None if canary is None else canary.ratio,
        why_not=why_not(actor, service.team.name),
        freshness=freshness_of(read),
        envoys=envoys,
    )


# Inputs that draw their own error beside themselves.
_PLACED = {"reason", "lasts", "percent", "tenant.name", "tenant.per_s", "tenant.burst"}


def present_in_force_values(
    environment: str, service_slug: str, paths: tuple[str, ...], now: datetime
) -> dict[str, tuple[str, str]]:
    """For each path: the text that its control shows now, and the layer it comes from."""
    resolved = effective_policy(get_service(environment, service_slug), now)
    found: dict[str, tuple[str, str]] = {}
    for path in paths:
        field = field_for(path)
        if field is None:
            continue
        leaf = leaf_for(parse_path(path), resolved)
        found[path] = (
            shown_text(field, None if leaf is None else leaf.value),
            "nobody" if leaf is None else leaf.layer,
        )
    return found


def _names(
    endpoints: list[str], dependencies: list[str], resolved: Resolved, signals: ServiceSignals
) -> Names:
    known_endpoints = [*endpoints, *resolved.policy["inbound"]["endpoints"]]
    known_dependencies = {
        *dependencies, *resolved.policy["outbound"]["dependencies"], *signals.dependencies
    }  # fmt: skip
    return Names(
        endpoints=tuple(dict.fromkeys(known_endpoints)),
        dependencies=tuple(
            sorted(known_dependencies, key=lambda name: (-_failing(name, signals), name))
        ),
    )


def _failing(name: str, signals: ServiceSignals) -> float:
    """How much of the calls to a dependency fail: what hurts comes first, as on Fleet."""
    seen = signals.dependencies.get(name)
    ratio = 0.0 if seen is None or seen.failure_ratio is None else seen.failure_ratio
    return ratio if ratio >= DEGRADED_FAILURE_RATIO else 0.0


def _sections(
    asked: str,
    resolved: Resolved,
    names: Names,
    signals: ServiceSignals,
    inputs: Inputs,
) -> tuple[Section, ...]:
    built: list[tuple[str, str, tuple[Group, ...], int]] = []
    number = 0
    for key, name in SECTIONS:
        groups: list[Group] = []
        for layout in groups_of(key, resolved, names, signals):
            group, number = _group(layout, number, resolved, signals, inputs)
            groups.append(group)
        wrong = sum(bool(control.error) for group in groups for control in group.controls)
        if key == "tenants":
            wrong += sum(each.startswith("tenant.") for each in inputs.errors)
        built.append((key, name, tuple(groups), wrong))
    current = _current(asked, built)
    return tuple(Section(key, name, groups, key == current, n) for key, name, groups, n in built)


def _current(asked: str, built: list[tuple[str, str, tuple[Group, ...], int]]) -> str:
    wrong = {key: count for key, _, _, count in built}
    if asked in wrong and (wrong[asked] or not any(wrong.values())):
        return asked
    return next((key for key, count in wrong.items() if count), built[0][0])


def _group(
    layout: GroupLayout,
    number: int,
    resolved: Resolved,
    signals: ServiceSignals,
    inputs: Inputs,
) -> tuple[Group, int]:
    controls: list[Control] = []
    for parts in layout.paths:
        number += 1
        control = control_of(
            parts,
            number=number,
            resolved=resolved,
            signals=signals,
            texts=inputs.texts,
            errors=inputs.errors,
            note_on=inputs.note_on,
        )
        if control is not None:
            controls.append(control)
    return Group(layout.title, layout.note, tuple(controls)), number
