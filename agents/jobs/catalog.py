"""All job kinds, by name. ``agents.protocol.DEVICE_KINDS`` lists the same names."""

from typing import Dict

from agents.jobs import infer, measure, prepare
from agents.jobs.base import JobKind

KINDS: Dict[str, JobKind] = {
    kind.name: kind for kind in (measure.KIND, infer.KIND, prepare.KIND)}
