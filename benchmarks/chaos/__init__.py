"""Fault injection into the shipped processes, then an audit of every acknowledged write.

    python -m benchmarks.chaos [--faults 2000] [--minutes 40] [--seed 0]

    client  ──┐                     ┌─> coordinator (shipped; killed, stopped, clock moved)
    search  ──┼─> proxy (faults,    │      ledger on a small disk (filled, read-only)
    agents  ──┤   journal) ─────────┘      └─ builders
    builders ─┘

All requests and responses pass the proxy, which journals what the coordinator acknowledged. After
the last fault, when the queue is empty, the ledger must hold every acknowledged write exactly once,
and its fronts must equal those of an undisturbed coordinator that receives the same results. A
second, short run uses a coordinator that acknowledges before it commits; there the audit must find
losses.
"""
