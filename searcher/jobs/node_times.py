"""Validates per-node timings from agents and adds them to the measurement summary."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlite_utils import Database

from agents.protocol import NodesMeasured
from searcher.artifacts.formats.onnx_operators import integer_format
from searcher.jobs import fields
from searcher.ledger.tables import builds
from searcher.statistics.bottlenecks import Costs, ProfiledFile, not_faster
from searcher.statistics.measured import Ratio, Summary

MOST_NODES = 1000
MOST_LETTERS = 200


def checked(nodes: NodesMeasured | None, where: str) -> NodesMeasured | None:
    """The timings, with shortened names. Raises ProtocolError for invalid counts or times."""
    if nodes is None:
        return None
    fields.whole_of(len(nodes.nodes), f"nodes of {where}", 0, MOST_NODES)
    fields.whole_of(len(nodes.copies), f"copies of {where}", 0, MOST_NODES)
    for time in (nodes.call_s, nodes.idle_call_s, nodes.idle_node_s, nodes.profiled_idle_s,
                 *(one.time_s for one in nodes.nodes), *(one.time_s for one in nodes.copies)):
        fields.number_of(time or 0.0, f"time of a node of {where}", 0.0)
    for copy in nodes.copies:
        fields.whole_of(copy.size_bytes, "size_bytes", 1)
    for one in nodes.nodes:
        fields.whole_of(one.node_count, "node_count", 1)
        fields.whole_of(one.moved_bytes or 0, "moved_bytes")
    return nodes._replace(problem=nodes.problem[:1000], nodes=[one._replace(
        name=one.name[:MOST_LETTERS], op=one.op[:MOST_LETTERS],
        provider=one.provider[:MOST_LETTERS]) for one in nodes.nodes])


def add_node_times(db: Database, summary: Summary, sha256: str, reference_sha256: str,
                   nodes: NodesMeasured, reference: NodesMeasured | None,
                   options: Mapping[str, object]) -> Summary:
    """The summary of a valid measurement with its node timings, and with a warning if the file is
    compressed but not faster than the reference."""
    found = None if reference is None else not_faster(
        _side(db, sha256, nodes), _side(db, reference_sha256, reference),
        Ratio(summary.ratio, summary.ratio_low, summary.ratio_high), requested_provider(options))
    warnings = summary.warnings if found is None else (*summary.warnings, found)
    return replace(summary, nodes=nodes, warnings=warnings)


def _side(db: Database, sha256: str, nodes: NodesMeasured) -> ProfiledFile:
    """The costs and nodes of a file. Its nodes show the number format, also for uploads."""
    integers = integer_format(one.op for one in nodes.nodes)
    return ProfiledFile(Costs(builds.macs(db, sha256), integers), nodes)


def requested_provider(options: Mapping[str, object]) -> str | None:
    """The first execution provider in ``options``, None without any."""
    providers = options.get("providers")
    first = providers[0] if isinstance(providers, Sequence) and providers else None
    if isinstance(first, Sequence) and not isinstance(first, str):
        first = first[0] if first else None
    return None if first is None else str(first)
