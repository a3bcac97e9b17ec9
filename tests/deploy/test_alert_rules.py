"""The alert rules that come with Tidegate: valid, firing when they should, on metrics we have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from controlplane.delivery.services.instruments import PLANE
from controlplane.delivery.services.watch import DriftFigures
from controlplane.kernel.instruments import REGISTRY
from tests.waiting import HUNG_S

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/alerts.yml"
TOOL = shutil.which("promtool") or str(ROOT / ".tidegate/tools/bin/promtool")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert Path(TOOL).exists(), "needs promtool: apt-get install -y prometheus"
    return subprocess.run(
        [TOOL, *arguments], capture_output=True, text=True, check=False, timeout=HUNG_S
    )


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    # What an alert says is not compared, only that it fires.
    bare = yaml.safe_load(RULES.read_text())
    for group in bare["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(bare))
    test = tmp_path / "test.yml"
    test.write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": SCENES})
    )

    done = promtool("test", "rules", str(test))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_of_a_rule_is_one_that_tidegate_has() -> None:
    families = [*REGISTRY.collect(), *PLANE.describe(), *DriftFigures().collect()]
    known = {family.name for family in families}
    for rule in rules():
        for name in re.findall(r"tidegate_\w+", rule["expr"]):
            assert name.removesuffix("_total") in known, f"{rule['alert']} reads {name}"


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] == "warning"
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def scene(series: dict[str, str], *expected: tuple[str, str, dict[str, str]]) -> dict[str, Any]:
    """Samples every 15 s; of `expected` (time, alert, labels), no labels means that none fires."""
    return {
        "interval": "15s",
        "input_series": [
            {"series": name, "values": values} for name, values in {ALIVE: "3x80", **series}.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": alert,
                "exp_alerts": [{"exp_labels": {"severity": "warning", **labels}}] if labels else [],
            }
            for at, alert, labels in expected
        ],
    }


ALIVE = 'tidegate_delivery_instances{environment="prod",state="live",instance="a"}'
CHECKOUT = {"environment": "prod", "service": "checkout"}
_REJECTING = (
    'tidegate_delivery_rejecting_instances{environment="prod",service="checkout",instance="%s"}'
)
_BEGAN = 'tidegate_delivery_rejections_total{environment="prod",service="checkout",instance="a"}'
_DRIFTING = 'tidegate_delivery_instances{environment="prod",state="drifting",instance="a"}'
SCENES = [
    # Two web processes show the same figure of the shared cache: one alert.
    scene(
        {_REJECTING % "a": "_x3 2x4 _x20", _REJECTING % "b": "_x3 2x4 _x20"},
        ("1m", "TidegateInstancesReject", {}),
        ("1m45s", "TidegateInstancesReject", CHECKOUT),
        ("9m", "TidegateInstancesReject", {}),
    ),
    # A counter is born with its first rejection; a later one is an increase; then it is quiet.
    scene(
        {_BEGAN: "_x7 1x40"},
        ("1m30s", "TidegateRejectionsRise", {}),
        ("2m", "TidegateRejectionsRise", CHECKOUT),
        ("9m", "TidegateRejectionsRise", {}),
    ),
    scene(
        {_BEGAN: "1x30 2x40"},
        ("7m15s", "TidegateRejectionsRise", {}),
        ("8m15s", "TidegateRejectionsRise", CHECKOUT),
    ),
    scene(
        {_DRIFTING: "0x8 4x60"},
        ("6m", "TidegateDrift", {}),
        ("8m", "TidegateDrift", {"environment": "prod"}),
    ),
    {
        "interval": "15s",
        "input_series": [{"series": ALIVE, "values": "3x4 _x60"}],
        "alert_rule_test": [
            {"eval_time": "5m", "alertname": "TidegateDriftUnknown", "exp_alerts": []},
            {
                "eval_time": "9m",
                "alertname": "TidegateDriftUnknown",
                "exp_alerts": [{"exp_labels": {"severity": "warning"}}],
            },
        ],
    },
    scene(
        {'tidegate_delivery_feed_age_seconds{instance="a"}': "1x4 11+15x8"},
        ("1m15s", "TidegateDeliveryBehind", {}),
        ("2m", "TidegateDeliveryBehind", {"instance": "a"}),
    ),
    scene(
        {'tidegate_delivery_reports_dropped_total{instance="a"}': "0x8 7x8"},
        ("1m", "TidegateReportsDropped", {}),
        ("3m", "TidegateReportsDropped", {"instance": "a"}),
    ),
]
