"""One cluster for all tests: a head, a host for S3, two Ray workers, and a client, on which the tests run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hosts import reason_without_hosts
from tests.support.hosts_cluster import HEAD, Cluster, cluster

PAIRS = ("btc_usdt", "eth_usdt", "chz_usdt")


@pytest.fixture(scope="package")
def installation() -> Iterator[Cluster]:
    if reason := reason_without_hosts():
        pytest.skip(reason)
    with cluster({"MUR_PAIRS": ",".join(PAIRS), "MUR_GATEWAY_REPLICAS": "3"}) as running:
        deployed = running.run(HEAD, ["-m", "serve_app.deploy"])
        assert deployed.returncode == 0, deployed.stderr
        yield running
