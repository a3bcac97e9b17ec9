"""Writes recorded figures into the documents that quote them.

    python benchmarks/figures.py            rewrite the tables of docs/scale.md and the README here
    python benchmarks/figures.py --record   first take the results of the last runs as the record

A table stands between `<!-- figures: NAME -->` and `<!-- end -->`. A test fails when a document
differs from what this would write, so no figure in it can be anybody's invention.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.scale_model import (
    RECORDED,
    TRANSPORTS,
    Assumptions,
    find_limits,
    read_units,
    size_fleet,
)

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "docs/scale.md", ROOT / "benchmarks/README.md")
RESULTS = ROOT / "benchmarks/results"
NAMES = ("hotpath", "fanout", "hostile", "scale", "quiet", "costs")
SIZES = (10_000, 100_000, 1_000_000)
_TABLE = re.compile(r"<!-- figures: ([a-z-]+) -->\n.*?<!-- end -->", re.DOTALL)


def recorded(name: str) -> dict[str, Any]:
    """Return one recorded result."""
    result: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return result


def runs_table() -> str:
    """When and on what each result was measured."""
    rows = []
    for name in NAMES:
        result = recorded(name)
        machine = result["machine"]
        rows.append(
            (f"`{name}.json`", result["at"].replace("T", " ").removesuffix("+00:00") + " UTC",
             machine["class"], machine["python"], _number(machine["load_1min"]))
        )  # fmt: skip
    return _table(("run", "at", "machine", "Python", "load before the end"), rows)


def bars_table() -> str:
    """Every bar of every run."""
    rows = []
    for name in NAMES:
        for bar in recorded(name).get("bars", ()):
            relation = "≥" if bar["is_least"] else "≤"
            verdict = {True: "met", False: "**missed**", None: "not judged"}[bar["is_met"]]
            value = "-" if bar["value"] is None else f"{_number(bar['value'])}{bar['unit']}"
            rows.append((bar["what"], value, f"{relation} {bar['limit']:g}{bar['unit']}", verdict))
    return _table(("what", "measured", "bar", ""), rows)


def polls_table() -> str:
    """What each candidate did under each kind of load."""
    rows = [
        (kind, name, row["best_per_s"], row["best_p50_ms"], row["best_p99_ms"],
         row["best_server_cpu_us"])
        for kind, by_name in recorded("hotpath")["figures"].items()
        for name, row in by_name.items()
    ]  # fmt: skip
    return _table(("load", "server", "per s", "p50 ms", "p99 ms", "server CPU µs"), rows)


def fanout_table() -> str:
    """How soon parked instances have a publication, also as a multiple of the bare server's p99."""
    found = recorded("fanout")["rows"]
    bare_ms = {
        (row["transport"], row["count"]): row["p99_ms"]
        for row in found
        if row["server"].startswith("bare")
    }
    rows = []
    for row in found:
        beside_ms = bare_ms.get((row["transport"], row["count"]))
        rows.append(
            (row["server"], row["transport"], row["count"], row["p50_ms"], row["p99_ms"],
             None if beside_ms is None else row["p99_ms"] / beside_ms, row["max_ms"],
             row["kb_each"], row["server_cpu_us_each"])
        )  # fmt: skip
    return _table(
        ("server", "by", "parked", "p50 ms", "p99 ms", "of bare p99", "max ms", "KB each",
         "CPU µs each"),
        rows,
    )  # fmt: skip


def hostile_table() -> str:
    """What honest polls take beside each attack."""
    rows = [
        (name.replace("_", " "), row["connections"], row["p50_ms"], row["p99_ms"],
         row["p99_median_ms"], row["server_cpu_us"])
        for name, row in recorded("hostile")["beside"].items()
    ]  # fmt: skip
    return _table(
        ("beside", "connections opened", "p50 ms", "p99 ms, best", "p99 ms, median",
         "server CPU µs per poll"),
        rows,
    )  # fmt: skip


def services_table() -> str:
    """What everything costs as services grow."""
    rows = recorded("scale")["rows"]
    names = [name for name in rows[0] if name != "services"]
    return _table(
        ("", *(f"{row['services']:,}" for row in rows)),
        [(f"`{name}`", *(row[name] for row in rows)) for name in names],
    )


def units_table() -> str:
    """The unit costs that the model multiplies."""
    units, quiet = read_units(), recorded("quiet")
    costs = recorded("costs")
    unchanged = recorded("hotpath")["figures"]["304"]["tidegate"]["best_server_cpu_us"]
    rows: list[Sequence[Any]] = [
        ("a 304 of which nothing is noted: node CPU", f"{_number(unchanged)} µs", "hotpath"),
        *(
            (f"a quiet {each}, noted and written: node CPU per exchange",
             f"{_number(units.exchange_cpu_us[each])} µs", "quiet")
            for each in TRANSPORTS
        ),
        *(
            (f"a quiet {each}: bytes per exchange, without TCP and IP",
             _number(units.exchange_bytes[each]), "costs")
            for each in TRANSPORTS
        ),
        ("a 200 as it is / gzip / Brotli: bytes",
         " / ".join(_number(costs["bytes"][name])
                    for name in ("answer_200", "answer_200_gzip", "answer_200_br")), "costs"),
        *(
            (f"a publication reaches one {each}: node CPU, acknowledgement and reports included",
             f"{_number(units.fetch_cpu_us[each])} µs", "fanout, costs")
            for each in TRANSPORTS
        ),
        *(
            (f"a parked {each}: node memory", f"{_number(units.parked_kb[each])} KB", "fanout")
            for each in TRANSPORTS[1:]
        ),
        ("a node without services / per 1,000 services: memory",
         f"{_number(units.node_mb.at_zero)} MB / {_number(units.node_mb.slope * 1e3)} MB", "scale"),
        ("a fleet default, per 1,000 services: its transaction / until a node serves all of them",
         f"{_number(units.fleet_publish_s.slope * 1e3)} s / "
         f"{_number(units.fleet_served_s.slope * 1e3)} s", "scale"),
        ("one publication: from commit to the first waiter", f"{_number(units.first_waiter_ms)} ms",
         "scale"),
        ("an instance seen again: PostgreSQL CPU", f"{_number(units.seen_database_us)} µs",
         "costs"),
        ("a publication fetched and applied: PostgreSQL CPU",
         f"{_number(units.applied_database_us)} µs", "costs"),
        ("a look that finds nothing / a publication: statements",
         f"{units.idle_look_statements} / {units.news_look_statements}", "costs"),
    ]  # fmt: skip
    assert quiet["figures"].keys() == set(TRANSPORTS)
    return _table(("what", "measured", "run"), rows)


def assumptions_table() -> str:
    """What was chosen."""
    given = Assumptions()
    return _table(
        ("assumption", "value"),
        [(f"`{field.name}`", getattr(given, field.name)) for field in fields(given)],
    )


def fleets_table() -> str:
    """What the model says for each size and transport."""
    units = read_units()
    rows = []
    for instances in SIZES:
        for transport in TRANSPORTS:
            fleet = size_fleet(instances, transport, units)
            rows.append(
                (fleet.instances, transport, round(fleet.exchanges_per_s), fleet.cores,
                 fleet.nodes, round(fleet.node_mb), round(fleet.bits_per_s_each),
                 fleet.megabit_per_s, round(fleet.reads_per_s), round(fleet.writes_per_s),
                 round(fleet.rows_per_s), fleet.database_cores, fleet.service_p99_s,
                 fleet.fleet_p99_s)
            )  # fmt: skip
    return _table(
        ("instances", "by", "exchanges/s", "node cores busy", "nodes", "MB each", "bit/s each",
         "Mbit/s", "reads/s", "write statements/s", "rows/s", "PostgreSQL cores",
         "p99 s, one service", "p99 s, fleet default"),
        rows,
    )  # fmt: skip


def limits_table() -> str:
    """Where it ends first."""
    given = Assumptions()
    rows = [
        (limit.what, _rounded(limit.instances),
         _rounded(limit.instances / given.instances_per_service))
        for limit in find_limits(read_units(), given)
    ]  # fmt: skip
    return _table(("what happens", "at instances", "that is services"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "runs": runs_table,
    "bars": bars_table,
    "polls": polls_table,
    "fanout": fanout_table,
    "hostile": hostile_table,
    "services": services_table,
    "units": units_table,
    "assumptions": assumptions_table,
    "fleets": fleets_table,
    "limits": limits_table,
}


def render(text: str) -> str:
    """Return a document with every table as the record gives it."""
    return _TABLE.sub(
        lambda found: f"<!-- figures: {found[1]} -->\n{TABLES[found[1]]()}\n<!-- end -->", text
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [_line([_number(value) for value in row]) for row in rows]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        if abs(value) >= 100:
            return f"{value:,.0f}"
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rounded(value: float) -> str:
    """Two figures are all that a model like this can mean."""
    if value == float("inf"):
        return "never"
    digits = len(str(int(value)))
    return f"{round(value, 2 - digits):,.0f}"


def main() -> None:
    """Rewrite the documents."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--record", action="store_true", help="take over benchmarks/results first")
    if parser.parse_args().record:
        RECORDED.mkdir(exist_ok=True)
        for name in NAMES:
            shutil.copyfile(RESULTS / f"{name}.json", RECORDED / f"{name}.json")
    for document in DOCUMENTS:
        document.write_text(render(document.read_text()))


if __name__ == "__main__":
    main()
