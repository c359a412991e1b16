"""Which rails count, when the profile of the device says so: it knows boards that no meter does."""

from fnmatch import fnmatchcase
from typing import List, Sequence

from agents.protocol import ProfileFacts, Rail


def by_profile(rails: Sequence[Rail], profile: ProfileFacts) -> List[Rail]:
    """The rails of one meter with the roles that ``profile`` gives them; what it does not name
    keeps its own. Where a rail of the total is missing, the others are not the total: a part each.
    """
    single = {rail.name for rail in rails if _named(rail, profile.single_rails)}
    total = {rail.name for rail in rails
             if rail.name not in single and _named(rail, profile.total_rails)}
    whole = all(any(rail.name in total and _named(rail, [pattern]) for rail in rails)
                for pattern in profile.total_rails)
    found = []
    for rail in rails:
        if rail.name in total and whole:
            # A meter that did not know the rail could not say what draws it.
            covers = "board" if rail.covers == "other" else rail.covers
            alone = len(total) == 1 and covers == "board"
            rail = rail._replace(covers=covers, role="total" if alone else "addend")
        elif rail.name in total | single:
            rail = rail._replace(role="part")
        found.append(rail)
    return found


def cover_of(rails: Sequence[Rail], profile: ProfileFacts) -> str:
    """What the profile says that these draw; empty unless it names each of them for its total."""
    named = rails and all(_named(rail, profile.total_rails) for rail in rails)
    return profile.rails_cover if named else ""


def _named(rail: Rail, patterns: Sequence[str]) -> bool:
    label = rail.name.rpartition("_")[0]  # the last word is the unit
    return any(fnmatchcase(label, pattern) for pattern in patterns)
