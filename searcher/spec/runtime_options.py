"""Runtime, provider and options with which files run on a device: parsed from a campaign, written
into jobs, and checked against what the device offers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from agents.protocol import GRAPH_LEVELS, RUNTIMES, RuntimeTraits
from profiles import number_formats
from searcher.errors import UserError, nearest

MOST_THREADS = 256
INFER_BATCH = 100
"""Samples per call when a data set runs on a device: the batch of a prepared engine, and the batch
that agents choose for other files."""
KEYS = ("runtime", "provider", "threads", "graph_level", "precision")


@dataclass(frozen=True)
class Execution:
    """How files run on one device of a campaign. Keys that the runtime does not use have their
    default. One call processes one sample."""

    runtime: str = "onnxruntime"
    provider: str = "CPUExecutionProvider"
    threads: int = 1
    graph_level: str = "all"
    precision: str = number_formats.DEFAULT

    @property
    def traits(self) -> RuntimeTraits:
        return RUNTIMES[self.runtime]

    @property
    def options(self) -> dict[str, object]:
        """The options in a job. The default provider and precision are left out, so that equal
        requests have equal documents, also those of older versions."""
        found = {"batch": 1, "threads": self.threads, "graph_level": self.graph_level}
        named = {"providers": [self.provider], "precision": self.precision}
        if self.provider == self.traits.providers[0]:
            del named["providers"]
        if self.precision == number_formats.DEFAULT:
            del named["precision"]
        return {name: value for name, value in {**found, **named}.items()
                if name in (*self.traits.options, "batch")}

    @property
    def infer_options(self) -> dict[str, object]:
        return {**self.options, **({"batch": INFER_BATCH} if self.traits.prepares else {})}

    def as_dict(self) -> dict[str, object]:
        """The keys that differ from the default. ``execution_of`` is the inverse."""
        given = {name: value for name, value in asdict(self).items()
                 if value != getattr(DEFAULT, name)}
        if self.provider == self.traits.providers[0]:
            given.pop("provider", None)
        return given

    def formats(self, offered: frozenset[str]) -> frozenset[str]:
        """The number formats of ``offered`` whose files the runtime can run so."""
        return offered - set(self.traits.excluded_number_formats)

    def __str__(self) -> str:
        return in_words(self.runtime, self.provider, self.options)


DEFAULT = Execution()


def in_words(runtime: str, provider: str, options: Mapping[str, object]) -> str:
    """For people, e.g. ``onnxruntime, CPUExecutionProvider, 2 threads, graph level basic``."""
    said = [runtime, provider]
    if "threads" in options:
        said.append(f"{options['threads']} thread{'' if options['threads'] == 1 else 's'}")
    if options.get("graph_level", GRAPH_LEVELS[0]) != GRAPH_LEVELS[0]:
        said.append(f"graph level {options['graph_level']}")
    if "precision" in options:
        said.append(str(options["precision"]))
    return ", ".join(said)


def execution_of(table: Mapping[str, object], where: str = "in [[devices]]") -> Execution:
    """Parse a device's table of a campaign, or options of another source. Raises UserError, which
    says ``where``, for an unknown value and for a key that the runtime does not use."""
    runtime = _one_of(table, "runtime", tuple(RUNTIMES), where)
    traits = RUNTIMES[runtime]
    for key in ("threads", "graph_level", "precision"):
        if key in table and key not in traits.options:
            used = ", ".join(k for k in KEYS if k in ("provider", *traits.options))
            raise UserError(f"{key} = {table[key]!r} {where}: the runtime {runtime!r} does not "
                            f"use it. Use: {used}.")
    threads = table.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or (
            not 1 <= threads <= MOST_THREADS):
        raise UserError(f"threads = {threads!r} {where} must be a whole number from 1 to "
                        f"{MOST_THREADS}.")
    return Execution(runtime, _one_of(table, "provider", traits.providers, where), threads,
                     _one_of(table, "graph_level", GRAPH_LEVELS, where),
                     _one_of(table, "precision", traits.precisions or (number_formats.DEFAULT,),
                             where))


def _one_of(table: Mapping[str, object], key: str, known: tuple[str, ...], where: str) -> str:
    """The value of ``key``; the first of ``known`` is its default."""
    value = table.get(key, known[0])
    if value not in known:
        raise UserError(f"{key} = {value!r} {where} is unknown. {nearest(str(value), known)}")
    return str(value)


def check_offered(execution: Execution, device: str, capabilities: Mapping[str, object]) -> None:
    """Raises UserError if ``device`` lacks the runtime, or has not yet run an inference with the
    provider. A device that reported no runtimes is accepted for the default only."""
    runtimes = capabilities.get("runtimes")
    if not isinstance(runtimes, Mapping):
        runtimes = {}
    if not runtimes and execution == DEFAULT:
        return
    missing = capabilities.get("missing")
    if execution.runtime not in runtimes:
        why = missing.get(execution.runtime) if isinstance(missing, Mapping) else None
        raise UserError(f"Device {device!r} does not offer the runtime {execution.runtime!r}"
                        f"{f' ({why})' if why else ''}. It offers: {_offers(runtimes)}.")
    told = runtimes[execution.runtime]
    if "providers" not in execution.options:
        return
    if execution.provider not in _providers(told):
        unproven = told.get("unproven") if isinstance(told, Mapping) else None
        why = unproven.get(execution.provider) if isinstance(unproven, Mapping) else None
        raise UserError(f"Device {device!r} has not run an inference with "
                        f"{execution.provider}"
                        f"{f' ({why})' if why else ''}. It offers: {_offers(runtimes)}.")


def _offers(runtimes: Mapping[str, object]) -> str:
    told = (f"{name} ({', '.join(_providers(versions)) or 'no provider'})"
            for name, versions in sorted(runtimes.items()))
    return "; ".join(told) or "nothing (its agent reported no runtime)"


def _providers(versions: object) -> Iterable[str]:
    found = versions.get("providers") if isinstance(versions, Mapping) else None
    return [str(one) for one in found] if isinstance(found, list) else []


LOCAL_DEVICE = "local_cpu"
