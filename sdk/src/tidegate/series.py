"""Counters, gauges and histograms that cost almost nothing to update, and their text form.

Updates belong to the event loop's thread, or to whoever holds the lock over them in threads: they
are plain additions, which is what makes them cheap. Reading (a scrape) may happen anywhere, without
any lock: it copies at once what may grow meanwhile. `prometheus-client` is not needed; with
it installed, `metrics.Metrics(registry=...)` shows the same series in its registry.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# The buckets of OpenTelemetry's HTTP semantic conventions, in seconds.
OTEL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]


class Count:
    """One series of a counter."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Grow by `amount`, which is never negative."""
        self.value += amount

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the one sample."""
        yield name, self.labels, self.value


class Level:
    """One series of a gauge: set, or read from a function at each scrape."""

    __slots__ = ("_read", "labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.value = 0.0
        self._read: Callable[[], float | None] | None = None

    def set(self, value: float) -> None:
        """Hold `value` until the next call."""
        self.value = value

    def read_with(self, read: Callable[[], float | None]) -> None:
        """Ask `read` at each scrape; None leaves the series out: unknown is not zero."""
        self._read = read

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the sample; nothing when its value is unknown."""
        value = self.value if self._read is None else self._read()
        if value is not None:
            yield name, self.labels, float(value)


class Distribution:
    """One series of a histogram: counts by bucket, and the sum."""

    __slots__ = ("bounds", "counts", "labels", "total")

    def __init__(self, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.labels = labels
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one measurement, in the unit of the histogram's name."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self, name: str) -> Iterator[Sample]:
        """Yield the cumulative buckets, the count and the sum."""
        below, counts, total = 0, tuple(self.counts), self.total
        for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
            below += count
            yield f"{name}_bucket", (*self.labels, ("le", _number(bound))), float(below)
        yield f"{name}_count", self.labels, float(below)
        yield f"{name}_sum", self.labels, total


Series = TypeVar("Series", Count, Level, Distribution)


class Family(Generic[Series]):
    """Every series of one metric name, by its label values; each is made once and then kept."""

    def __init__(
        self,
        name: str,
        kind: str,
        about: str,
        label_names: tuple[str, ...],
        make: Callable[[Labels], Series],
    ) -> None:
        self.name = name
        self.kind = kind
        self.about = about
        self.label_names = label_names
        self._make: Callable[[Labels], Series] = make
        self._children: dict[tuple[str, ...], Series] = {}

    def child(self, *values: str) -> Series:
        """Return the series with these label values, made with zero when it is new.

        Keep what it returns: the hot path should not look labels up.
        """
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.label_names):
                raise ValueError(f"{self.name} takes the labels {', '.join(self.label_names)}")
            child = self._make(tuple(zip(self.label_names, values, strict=True)))
            self._children[values] = child
        return child

    def forget(self, *values: str) -> None:
        """Drop the series with these label values; nothing happens when there is none."""
        self._children.pop(values, None)

    def samples(self) -> Iterator[Sample]:
        """Yield the samples of every series, in the order the series were made."""
        for child in self._children.copy().values():
            yield from child.samples(self.name)


def counter(name: str, about: str, *label_names: str) -> Family[Count]:
    """Return a new counter; `name` ends in `_total`."""
    return Family(name, "counter", about, label_names, Count)


def gauge(name: str, about: str, *label_names: str) -> Family[Level]:
    """Return a new gauge."""
    return Family(name, "gauge", about, label_names, Level)


def histogram(
    name: str, about: str, *label_names: str, bounds: tuple[float, ...] = OTEL_SECONDS
) -> Family[Distribution]:
    """Return a new histogram with the given upper bounds, `+Inf` not among them."""
    return Family(
        name, "histogram", about, label_names, lambda labels: Distribution(labels, bounds)
    )


AnyFamily = Family[Count] | Family[Level] | Family[Distribution]


def text_of(families: Iterable[AnyFamily]) -> bytes:
    """Return the Prometheus text exposition of `families`."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.about}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(_line(*sample) for sample in family.samples())
    lines.append("")
    return "\n".join(lines).encode()


def _line(name: str, labels: Labels, value: float) -> str:
    if not labels:
        return f"{name} {_number(value)}"
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{pairs}}} {_number(value)}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
