"""One cluster for all tests of this directory; each leaves it whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.survival.cluster import NODES, Cluster, running_cluster


@pytest.fixture(scope="session")
def whole_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(whole_cluster: Cluster) -> Cluster:
    """The cluster, with every part running and ready."""
    whole_cluster.wait_ready("operator", *NODES)
    return whole_cluster
