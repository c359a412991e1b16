"""The facts of a device's profile that its agent needs, sent with every measurement job."""

from functools import cache

from agents import protocol
from profiles.schema import DeviceProfile, ProfileError, profile
from searcher.ledger.rows import JobRow


def payload_for(job: JobRow, profile_name: str | None) -> dict[str, object]:
    """The payload of the job; for a measurement, with the facts of the device's profile."""
    facts = None if job.kind != "measure" or profile_name is None else _known(profile_name)
    return job.payload if facts is None else {**job.payload, "profile": facts}


def facts_of(known: DeviceProfile) -> protocol.ProfileFacts:
    """Rails, thermal zones to ignore, and clock targets."""
    rails = known.rails
    return protocol.ProfileFacts(
        known.name,
        total_rails=[] if rails is None else list(rails.total),
        single_rails=[] if rails is None else [*rails.parts, *rails.others],
        rails_cover="" if rails is None else rails.covers,
        ignored_zones=list(known.ignored_zones), gpu_clock=known.gpu_clock or "",
        power_modes=[protocol.PowerMode(
            mode.name, mode.id, max(mode.cpu_khz.values()) if mode.cpu_khz else None, mode.gpu_khz)
            for mode in known.power_modes])


@cache
def _known(profile_name: str) -> dict[str, object] | None:
    """None without facts or for an unknown profile, which ``profile_check`` reports."""
    try:
        facts = facts_of(profile(profile_name))
    except ProfileError:
        return None
    if facts == protocol.ProfileFacts(facts.name):
        return None
    told: dict[str, object] = protocol.as_json(facts)
    return told
