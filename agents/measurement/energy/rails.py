"""Roles of rails from the device's profile, which describes boards that no meter knows."""

from fnmatch import fnmatchcase
from typing import List, Sequence

from agents.protocol import ProfileFacts, Rail


def with_profile_roles(rails: Sequence[Rail], profile: ProfileFacts) -> List[Rail]:
    """The rails of one meter with the roles of ``profile``; other rails keep theirs. If a rail of
    the total is missing, the rest of the total becomes parts."""
    single = {rail.name for rail in rails if _named(rail, profile.single_rails)}
    total = {rail.name for rail in rails
             if rail.name not in single and _named(rail, profile.total_rails)}
    whole = all(any(rail.name in total and _named(rail, [pattern]) for rail in rails)
                for pattern in profile.total_rails)
    found = []
    for rail in rails:
        if rail.name in total and whole:
            # A meter that does not know the rail reports "other".
            covers = "board" if rail.covers == "other" else rail.covers
            alone = len(total) == 1 and covers == "board"
            rail = rail._replace(covers=covers, role="total" if alone else "addend")
        elif rail.name in total | single:
            rail = rail._replace(role="part")
        found.append(rail)
    return found


def profile_coverage(rails: Sequence[Rail], profile: ProfileFacts) -> str:
    """What these rails cover by the profile; empty if one is not in its total."""
    named = rails and all(_named(rail, profile.total_rails) for rail in rails)
    return profile.rails_cover if named else ""


def _named(rail: Rail, patterns: Sequence[str]) -> bool:
    label = rail.name.rpartition("_")[0]  # without the unit
    return any(fnmatchcase(label, pattern) for pattern in patterns)
