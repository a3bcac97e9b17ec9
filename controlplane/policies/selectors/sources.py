"""What decides a policy: the fleet default, a version, open overrides and a canary."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Max, OuterRef, Subquery

from controlplane.policies.domain.resolve import Layer, Resolved, resolve
from controlplane.policies.models import Canary, Override, PolicyVersion
from controlplane.registry.models import Environment, Service


@dataclass(frozen=True, slots=True)
class PolicySources:
    """Everything that decides one service's policy, now and until its last override ends.

    `canary` is the open one, even past its end: what it reached has yet to be told. Policies are
    those of everybody else unless a name says "canary".

    Overrides are oldest first, in the order of their commits. One that starts "later" by another
    process's clock is in force all the same: overrides start when they are opened.
    """

    fleet_default: PolicyVersion | None
    version: PolicyVersion | None = None
    overrides: tuple[Override, ...] = ()
    canary: Canary | None = None

    @property
    def version_number(self) -> int:
        """The number of the version; 0 when only the fleet default applies."""
        return self.version.number if self.version is not None else 0

    @property
    def is_fleet_default_only(self) -> bool:
        """Say whether nothing is particular to this service."""
        return self.version is None and not self.overrides and self.canary is None

    def layers_at(self, moment: datetime) -> list[Layer]:
        """Return the layers in force at `moment`, lowest first; the built-in one is implied."""
        return self._layers(moment, self._version_layer())

    def canary_layers_at(self, moment: datetime) -> list[Layer]:
        """Return the layers of the canary's instances: the candidate instead of the version.

        At the canary's end they are back on everybody's layers.
        """
        if self.canary is None or not self.canary.is_in_force(moment):
            return self.layers_at(moment)
        candidate = Layer("version", canary_label(self.canary), self.canary.document)
        return self._layers(moment, candidate)

    def _version_layer(self) -> Layer | None:
        if self.version is None:
            return None
        return Layer("version", f"v{self.version.number}", self.version.document)

    def _layers(self, moment: datetime, own: Layer | None) -> list[Layer]:
        layers: list[Layer] = []
        if self.fleet_default is not None:
            label = f"fleet default v{self.fleet_default.number}"
            layers.append(Layer("fleet_default", label, self.fleet_default.document))
        if own is not None:
            layers.append(own)
        for override in self.overrides:
            if override.ends_at > moment:
                layers.append(Layer("override", override_label(override), override.patch))
        return layers

    def resolve_at(self, moment: datetime) -> Resolved:
        """Return the effective policy at `moment`."""
        return resolve(self.layers_at(moment))

    def resolve_canary_at(self, moment: datetime) -> Resolved:
        """Return the effective policy of the canary's instances at `moment`."""
        return resolve(self.canary_layers_at(moment))

    def endings_after(self, moment: datetime) -> dict[datetime, list[str]]:
        """Return what ends after `moment`, by time, soonest first: the labels of overrides."""
        endings: dict[datetime, list[str]] = {}
        for override in sorted(self.overrides, key=lambda each: each.ends_at):
            if override.ends_at > moment:
                endings.setdefault(override.ends_at, []).append(override_label(override))
        return endings

    def canary_endings_after(self, moment: datetime) -> dict[datetime, list[str]]:
        """Return what ends after `moment` for the canary's instances: the canary, too."""
        endings = self.endings_after(moment)
        if self.canary is not None and self.canary.is_in_force(moment):
            endings.setdefault(self.canary.ends_at, []).append(canary_label(self.canary))
        return dict(sorted(endings.items()))

    def without(self, override: Override) -> PolicySources:
        """Return the sources as they are once `override` is gone."""
        return replace(
            self, overrides=tuple(each for each in self.overrides if each.pk != override.pk)
        )

    def with_override(self, override: Override) -> PolicySources:
        """Return the sources with `override` in its place, or on top when it is new."""
        known = [each.pk for each in self.overrides]
        if override.pk is not None and override.pk in known:
            kept = tuple(override if each.pk == override.pk else each for each in self.overrides)
        else:
            kept = (*self.overrides, override)
        return replace(self, overrides=kept)


def override_label(override: Override) -> str:
    """Return what an override is called: "override 17"; "this override" before it has a number."""
    return f"override {override.pk}" if override.pk is not None else "this override"


def canary_label(canary: Canary) -> str:
    """Return what a canary is called: "canary 4"; "this canary" before it has a number."""
    return f"canary {canary.pk}" if canary.pk is not None else "this canary"


def read_sources(service: Service, *, now: datetime) -> PolicySources:
    """Return what decides a service's policy; four queries."""
    return PolicySources(
        fleet_default=newest_fleet_default(service.environment),
        version=PolicyVersion.objects.filter(service=service).order_by("-number").first(),
        overrides=tuple(
            Override.objects.filter(service=service, closed_at=None, ends_at__gt=now).order_by("id")
        ),
        canary=Canary.objects.filter(service=service, closed_at=None).first(),
    )


def read_fleet_sources(
    environment: Environment, *, now: datetime, only: Collection[str] | None = None
) -> dict[str, PolicySources]:
    """Return what decides the policy of every registered service, by name; five queries.

    Args:
        only: names of services; no other service is read.
    """
    mine = {} if only is None else {"service__slug__in": only}
    fleet_default = newest_fleet_default(environment)
    newest_number = (
        PolicyVersion.objects.filter(service=OuterRef("service"))
        .order_by()
        .values("service")
        .annotate(newest=Max("number"))
        .values("newest")
    )
    versions = {
        version.service_id: version
        for version in PolicyVersion.objects.filter(
            environment=environment, service__isnull=False, number=Subquery(newest_number), **mine
        )
    }
    overrides: dict[int, list[Override]] = {}
    for override in Override.objects.filter(
        service__environment=environment, closed_at=None, ends_at__gt=now, **mine
    ).order_by("id"):
        overrides.setdefault(override.service_id, []).append(override)
    canaries = {
        canary.service_id: canary
        for canary in Canary.objects.filter(
            service__environment=environment, closed_at=None, **mine
        )
    }
    services = environment.services.order_by("slug").values_list("id", "slug")
    if only is not None:
        services = services.filter(slug__in=only)
    return {
        slug: PolicySources(
            fleet_default, versions.get(pk), tuple(overrides.get(pk, ())), canaries.get(pk)
        )
        for pk, slug in services
    }


def newest_fleet_default(environment: Environment) -> PolicyVersion | None:
    """Return the fleet default in force; None when nobody published one."""
    return (
        PolicyVersion.objects.filter(environment=environment, service=None)
        .order_by("-number")
        .first()
    )
