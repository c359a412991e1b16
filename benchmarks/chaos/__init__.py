"""Faults of every kind against the shipped processes, then an audit of what was acknowledged.

    python -m benchmarks.chaos [--faults 2000] [--minutes 40] [--seed 0]

    customer ─┐                     ┌─> coordinator (shipped, killed, frozen, its clock moved)
    search  ──┼─> proxy (faults,    │      ledger on a small disk (filled, read-only)
    agents  ──┤   journal) ─────────┘      └─ builders
    builders ─┘

Every request and answer passes the proxy, which writes down what the coordinator acknowledged.
When all faults are over and the queue is empty, the ledger must hold all of it exactly once, and
its fronts must be those of an undisturbed coordinator that is told the same results. A second,
short run has a coordinator that acknowledges before it commits: there the audit must find losses.
"""
