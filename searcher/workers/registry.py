"""The worker pools: one line each, and the entry points ``fleetfront.worker_pools``."""

from searcher.entry_points import Registry
from searcher.workers.base import WorkerPool

DEFAULT = "process_pool"

POOLS: Registry[WorkerPool] = Registry(
    "fleetfront.worker_pools", "worker pool", "searcher.workers.base:WorkerPool", {
        "process_pool": "searcher.workers.process_pool:ProcessPool",
        "in_process": "searcher.workers.in_process:InProcess",
    })
"""{name: ``module:class``}."""
