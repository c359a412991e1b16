"""Implementations that installed distributions offer by entry points, found lazily.

A distribution names them in its metadata, one group per registry (``fleetfront.job_kinds``,
``fleetfront.metrics``, ``fleetfront.formats``, ``fleetfront.worker_pools``). ``strategies.catalog``
reads ``fleetfront.strategies``. An implementation is imported when it is requested by name. One
that cannot be used is reported, and raises only when it is requested.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from searcher.errors import UserError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Offer:
    """One entry point: ``place`` is ``package.module:attribute``, ``owner`` the distribution with
    its version."""

    name: str
    place: str
    owner: str


@dataclass(frozen=True)
class Problem:
    """An implementation that cannot be used, why, and what to do."""

    group: str
    name: str
    owner: str
    message: str


@cache
def offers(group: str) -> tuple[Offer, ...]:
    """The entry points of ``group`` in this environment, by name."""
    from importlib import metadata  # slow to import, and not every command needs it

    found = (Offer(point.name, point.value, _owner(point.dist))
             for point in metadata.entry_points(group=group))
    return tuple(sorted(set(found), key=lambda offer: (offer.name, offer.owner)))


def _owner(distribution: object) -> str:
    name, version = getattr(distribution, "name", None), getattr(distribution, "version", None)
    return f"{name} {version}" if name else "an unknown distribution"


class Registry(Generic[T]):
    """The implementations of one extension point: fleetfront's own, ``{name: place}``, and those
    of entry points. Each is a subclass of ``kind``, which is the place of an abstract class with
    the attribute ``name``; ``what`` is what people call one."""

    def __init__(self, group: str, what: str, kind: str, own: Mapping[str, str]) -> None:
        self.group, self.what, self._kind, self._own = group, what, kind, dict(own)
        self._loaded: dict[str, type[T]] = {}

    def places(self) -> dict[str, Offer]:
        """What may be asked for, by name. Of a name that is taken, the first owner stays."""
        found = {name: Offer(name, place, "fleetfront") for name, place in self._own.items()}
        for offer in offers(self.group):
            found.setdefault(offer.name, offer)
        return found

    def names(self) -> tuple[str, ...]:
        """All names, fleetfront's own first; nothing is imported."""
        return tuple(self.places())

    def get(self, name: str) -> type[T]:
        """The class ``name``. Raises UserError for an unknown name, with the nearest, and for an
        implementation that cannot be used, with its owner."""
        if name not in self._loaded:
            place = self.places().get(name)
            if place is None:
                raise UserError(f"Unknown {self.what} {name!r}. {nearest(name, self.names())}")
            self._loaded[name] = self._load(place)
        return self._loaded[name]

    def problems(self) -> list[Problem]:
        """Every implementation that cannot be used; imports all of them."""
        known, found = self.places(), []
        for offer in offers(self.group):
            if known[offer.name] != offer:
                found.append(Problem(self.group, offer.name, offer.owner, (
                    f"The {self.what} {offer.name!r} of {offer.owner} is not used: "
                    f"{known[offer.name].owner} has that name already. Uninstall one of them, or "
                    "ask the author of the second for another name.")))
                continue
            try:
                self.get(offer.name)
            except UserError as error:
                found.append(Problem(self.group, offer.name, offer.owner, str(error)))
        return found

    def _load(self, offer: Offer) -> type[T]:
        try:
            found: type[T] = _attribute(offer.place)
        except Exception as error:  # a third party's module may raise anything
            raise UserError(
                f"The {self.what} {offer.name!r} of {offer.owner} ({offer.place}) cannot be "
                f"imported: {type(error).__name__}: {error}. Upgrade or uninstall that "
                "distribution.") from error
        kind: type[T] = _attribute(self._kind)
        if not (isinstance(found, type) and issubclass(found, kind)) or (
                getattr(found, "name", None) != offer.name):
            raise UserError(
                f"The {self.what} {offer.name!r} of {offer.owner} ({offer.place}) must be a "
                f"subclass of {self._kind} with name = {offer.name!r}. Upgrade or uninstall that "
                "distribution.")
        return found


def _attribute(place: str) -> Any:
    """Whatever stands there; the caller checks what it is."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
