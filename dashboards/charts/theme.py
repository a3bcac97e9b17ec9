"""How every chart looks: colours by token, so that one figure fits the dark and light theme."""

from __future__ import annotations

from typing import Any

CYCLE = ("info", "shed", "ok", "warn", "crit", "muted")
FONT = 'Inter, system-ui, "Segoe UI", Roboto, sans-serif'


def colour(token: str) -> str:
    """A colour of tokens.css; charts.js looks it up when it draws."""
    return f"token:{token}"


def axis(**more: Any) -> dict[str, Any]:
    """An axis with faint grid lines and no zero line."""
    return {
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
        "tickfont": {"size": 11},
        **more,
    }


def layout(*, x: dict[str, Any], y: dict[str, Any], shapes: list[dict[str, Any]]) -> dict[str, Any]:
    """A layout without title or legend: the card has both, as text."""
    return {
        "template": "none",
        "autosize": True,
        "margin": {"l": 44, "r": 8, "t": 10, "b": 28},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 11, "color": colour("muted")},
        "showlegend": False,
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": colour("surface"),
            "bordercolor": colour("edge"),
            "font": {"color": colour("text"), "size": 12},
        },
        # The same revision keeps a reader's zoom and hover across refreshes.
        "uirevision": "keep",
        "xaxis": x,
        "yaxis": y,
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        "shapes": shapes,
    }
