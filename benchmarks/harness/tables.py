"""Tables and bars as text: what a benchmark prints, and what decides its exit code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: `value` against `limit`, at least or at most; a None value is not judged."""

    text: str
    value: float | None
    limit: float
    is_least: bool = True
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """True when met, or when there is nothing to judge."""
        if self.value is None:
            return True
        return self.value >= self.limit if self.is_least else self.value <= self.limit

    def as_document(self) -> dict[str, object]:
        """The bar for the JSON."""
        return {
            "what": self.text,
            "value": self.value,
            "limit": self.limit,
            "is_least": self.is_least,
            "unit": self.unit,
            "is_met": None if self.value is None else self.is_met,
        }


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under right-aligned columns; the first column is left-aligned."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(name), *(len(row[index]) for row in cells)) if cells else len(name)
        for index, name in enumerate(columns)
    ]
    print(f"\n{title}")
    for row in (list(columns), *cells):
        first = row[0].ljust(widths[0])
        rest = (
            text.rjust(width) if number < len(widths) - 1 or _is_figure(text) else text
            for number, (text, width) in enumerate(zip(row[1:], widths[1:], strict=True), start=1)
        )
        print("  ".join([first, *rest]).rstrip())


def print_bars(bars: Iterable[Bar]) -> bool:
    """Print each bar with its verdict; say whether all that could be judged are met."""
    print()
    all_met = True
    for bar in bars:
        relation = "at least" if bar.is_least else "at most"
        if bar.value is None:
            print(f"{bar.text:<62}       not judged (bar: {relation} {bar.limit:g}{bar.unit})")
            continue
        verdict = "met" if bar.is_met else "MISSED"
        figure = f"{bar.value:.2f}{bar.unit}"
        print(f"{bar.text:<62}{figure:>12}  {verdict:<6} (bar: {relation} {bar.limit:g}{bar.unit})")
        all_met = all_met and bar.is_met
    return all_met


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def _is_figure(text: str) -> bool:
    return text == "-" or text[:1].isdigit()
