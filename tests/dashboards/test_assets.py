"""Templates, scripts and styles: what the content security policy and the house style ask."""

from __future__ import annotations

import re
from pathlib import Path

import plotly
import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from controlplane.registry.models import Environment, Service

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
PARTIALS = [path for path in TEMPLATES if path.name.startswith("_")]
STATIC = ROOT / "dashboards/static/dashboards"
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
STYLES = sorted((STATIC / "css").glob("*.css"))
PLOTLY_JS = (Path(plotly.__file__).parent / "package_data/plotly.min.js").read_text()
# Parts of plotly.js that we never draw: no mode bar, no cloud dialog, no tooltips of either.
UNUSED_RULES = ("modebar", "cloud", "data-title", "input", "button", "vertical")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TEMPLATES, ids=ids)
def test_no_template_holds_an_inline_script_style_or_handler(path: Path) -> None:
    text = path.read_text()

    assert re.findall(r"<script(?![^>]*\ssrc=)", text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|\bjs:", text) == []


@pytest.mark.parametrize("path", PARTIALS, ids=ids)
def test_the_first_line_of_a_partial_declares_its_context(path: Path) -> None:
    first = path.read_text().splitlines()[0]

    assert first.startswith("{# ")
    assert "  Context: " in first.split("#}")[0]


@pytest.mark.parametrize("path", SCRIPTS, ids=ids)
def test_a_script_is_short_and_explained(path: Path) -> None:
    text = path.read_text()

    assert text.startswith("/**")
    assert len(text.splitlines()) <= 100
    assert not re.search(r"\bvar\b|\beval\(|new Function|innerHTML", text.replace("--${", ""))


@pytest.mark.parametrize("path", STYLES, ids=ids)
def test_a_colour_is_only_written_in_the_tokens(path: Path) -> None:
    if path.name in ("tokens.css", "plotly.css"):
        return
    text = path.read_text()

    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s])", text) == []
    assert "@layer" in text


@pytest.mark.parametrize("url", ["/login/", "/", "/services/checkout/", "/changes/"])
def test_every_page_is_served_with_the_strict_policy(
    operator: Client, checkout: Service, url: str
) -> None:
    policy = (
        operator.get(url)["Content-Security-Policy"]
        if url != "/login/"
        else Client().get(url)["Content-Security-Policy"]
    )

    directives = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    assert directives["script-src"] == "'self'"
    assert directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"


def test_scripts_and_styles_come_from_here_or_from_installed_packages(
    operator: Client, checkout: Service
) -> None:
    html = operator.get("/services/checkout/").content.decode()

    found = re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', html)
    assert {url.split("/")[2] for url in found} == {"dashboards", "django_htmx", "plotly"}
    for url in found:
        assert finders.find(url.removeprefix("/static/")), url


def test_htmx_may_not_evaluate_and_draws_form_errors(operator: Client, prod: Environment) -> None:
    html = operator.get("/").content.decode()

    assert '"allowEval":false' in html
    assert '{"code":"422","swap":true}' in html
    assert "X-CSRFToken" in html


def test_our_plotly_styles_are_those_of_the_installed_package() -> None:
    """plotly.js writes its rules at run time, which `style-src 'self'` refuses: we ship them."""
    block = re.search(r'=\{("X,X div":.*?)\};for\(', PLOTLY_JS)
    assert block is not None, "plotly.js keeps its rules elsewhere now: look for addStyleRule"
    selectors = re.findall(r"""(?:"([^"]+)"|\b(Y)):(?:"[^"]*"|'[^']*')""", block.group(1))
    wanted = {
        (quoted or bare).replace("X", ".js-plotly-plot .plotly").replace("Y", ".plotly-notifier")
        for quoted, bare in selectors
        if not any(word in quoted for word in UNUSED_RULES)
    }

    ours = re.findall(r"^(\S[^{\n]*) \{", (STATIC / "css/plotly.css").read_text(), re.M)
    assert set(ours) == wanted


def test_plotly_still_leaves_its_rules_out_when_asked(operator: Client, checkout: Service) -> None:
    html = operator.get("/services/checkout/").content.decode()

    assert '.matches(".no-inline-styles")' in PLOTLY_JS
    assert 'id="plotly.js-style-global" class="no-inline-styles"' in html
    guard = re.search(r'getElementById\("([0-9a-f]{64})"\)', PLOTLY_JS)
    assert guard is not None
    assert f'<meta id="{guard.group(1)}"' in html
