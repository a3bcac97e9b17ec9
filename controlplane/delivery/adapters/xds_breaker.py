"""A breaker in Envoy's words: hosts that fail are passed over for a while (outlier detection)."""

from __future__ import annotations

import math

from controlplane.delivery.adapters.xds_cluster_schema import OutlierDetection
from controlplane.delivery.adapters.xds_units import seconds, whole_percent_of
from controlplane.policies.domain.outbound import Breaker

COUNT_WINDOW_S = 10.0
SHORTEST_INTERVAL_S = 0.1


def outlier_detection(breaker: Breaker) -> OutlierDetection:
    """Return the outlier detection that comes nearest to a breaker.

    A time window becomes a failure percentage, judged at the end of each interval; the interval
    is the window, or `open_s` where that is shorter, since Envoy takes hosts back at its end, and
    `min_calls` is shortened with it: the calls of one interval are a part of the window's. A count
    window becomes a number of failures in a row that is sure to reach the failure rate.
    Only `auto` ejects; the others judge and count (`ejections_detected`), which is what shadow is.
    """
    by_time = breaker.window.kind == "time"
    window_s = float(breaker.window.size) if by_time else COUNT_WINDOW_S
    interval_s = max(SHORTEST_INTERVAL_S, min(window_s, breaker.open_s))
    enforced = 100 if breaker.mode == "auto" else 0
    return OutlierDetection(
        interval=seconds(interval_s),
        base_ejection_time=seconds(breaker.open_s),
        # Equal to the base: Envoy would otherwise lengthen it with each ejection.
        max_ejection_time=seconds(breaker.open_s),
        max_ejection_percent=100,
        consecutive_5xx=breaker.min_calls if by_time else failures_in_a_row(breaker),
        enforcing_consecutive_5xx=0 if by_time else enforced,
        enforcing_success_rate=0,
        enforcing_failure_percentage=enforced if by_time else 0,
        failure_percentage_threshold=whole_percent_of(breaker.failure_rate),
        failure_percentage_request_volume=max(
            1, math.ceil(round(breaker.min_calls * interval_s / window_s, 9))
        ),
        failure_percentage_minimum_hosts=1,
    )


def failures_in_a_row(breaker: Breaker) -> int:
    """Return after how many failures in a row a count window is over its rate, whatever was before.

    It may open earlier, on failures that have successes between them: Envoy cannot see those.
    """
    return max(breaker.min_calls, math.ceil(breaker.window.size * breaker.failure_rate))
