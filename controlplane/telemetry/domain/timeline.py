"""The states of breakers over time: the worst of all instances, and how many were in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.telemetry.domain.charts import Chart, Line, Scope
from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.series import Grid, RangeAnswer, Series, on_grid, with_times
from controlplane.telemetry.domain.signals import BreakerState, worst_state

_INSTANCES = "instances"
_SEPARATOR = "\n"  # in no label value that a policy accepts as a name


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One step of one breaker; `state` is None where nobody reported.

    `share` is the part of the instances that were in `state` at some time of the step.
    """

    at_s: float
    state: BreakerState | None
    share: float | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One breaker over time, oldest step first."""

    dependency: str
    steps: tuple[TimelineStep, ...]


def timeline_chart(scope: Scope) -> Chart:
    """Return what a timeline asks for; its lines go through `timelines`."""
    queries = native.breaker_queries(scope.environment, scope.window_s, *scope.matchers)
    return Chart(queries, _compose)


def timelines(lines: Sequence[Series]) -> tuple[Timeline, ...]:
    """Turn the lines of a timeline chart into one timeline per dependency, by name."""
    by_dependency: dict[str, dict[str, Series]] = defaultdict(dict)
    for line in lines:
        dependency, _, state = line.name.partition(_SEPARATOR)
        by_dependency[dependency][state] = line
    return tuple(
        Timeline(dependency, _steps(states)) for dependency, states in sorted(by_dependency.items())
    )


def _compose(grid: Grid, found: Sequence[RangeAnswer]) -> tuple[Series, ...]:
    named: dict[str, Line] = {}
    for answer in found:
        for trace in answer.traces:
            state = trace.labels.get(native.STATE, _INSTANCES)
            name = trace.labels.get(native.DEPENDENCY, "") + _SEPARATOR + state
            named[name] = on_grid(grid, trace.points)
    return tuple(Series(name, with_times(grid, line)) for name, line in sorted(named.items()))


def _steps(states: dict[str, Series]) -> tuple[TimelineStep, ...]:
    times = [at_s for at_s, _ in next(iter(states.values())).points]
    return tuple(_step(at_s, index, states) for index, at_s in enumerate(times))


def _step(at_s: float, index: int, states: dict[str, Series]) -> TimelineStep:
    counts = {
        state: round(value)
        for state, line in states.items()
        if (value := line.points[index][1]) is not None
    }
    instances = counts.pop(_INSTANCES, 0)
    worst = worst_state(counts)
    if worst is None:
        return TimelineStep(at_s, None, None)
    # Instances that are gone by the end of the step still count in the state they were in.
    whole = max(instances, counts[worst])
    return TimelineStep(at_s, worst, counts[worst] / whole)
