"""A batch sweep on an NVIDIA GPU: p50 and joules per inference, from the driver's own meter.

    python -m benchmarks.gpu --meter-only
    python -m benchmarks.gpu --batches 1 4 16 64 --out gpu.json
    python -m benchmarks.gpu --model resnet18.onnx

Runs the CUDA provider of ONNX Runtime if it is installed and a --model is given, otherwise torch on
CUDA, and prints which. Requires numpy and one of the two, no other dependency of fleetfront. Each
batch size runs in a separate process, with idle, load and idle phases
(``agents/timing/energy_phases.py``), while this process polls the meter. Two figures of the same
energy are compared: the energy counter and the integral of instant power. The file contains every
poll.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from agents.doctor import meter_findings
from agents.measurement.energy.integral import EnergyUnavailable, integral
from agents.measurement.energy.per_inference import (
    InferenceEnergy,
    energy_per_inference,
)
from agents.measurement.energy.polling import MeterRecorder, PolledRail, readable
from agents.meters.nvml import SLOWING, NvmlMeter, reasons_in_words
from agents.timing.energy_phases import Phases, run_phases
from benchmarks.gpu_load import Backend, backend_named, choose_backend

STARTING_S = 300.0
STATE_EVERY_S = 1.0


@dataclass(frozen=True)
class Row:
    """One batch size. Energies and times are per call; ``problem`` is why a figure is missing."""

    batch: int
    calls: int
    p50_s: float
    p99_s: float
    counter: InferenceEnergy | None
    instant: InferenceEnergy | None
    problem: str
    temperature_c: tuple[float, float]
    clock_mhz: tuple[float, float]
    reasons: list[str]
    traces: list[PolledRail]


def loading(connection: Connection, backend: str, model: str, batch: int, index: int,
            window_s: float, idle_s: float) -> None:
    """Child process: runs one model at one batch size through its phases."""
    run = backend_named(backend)(model, batch, index)
    for _ in range(10):
        run()
    times: list[float] = []

    def timed() -> None:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)

    connection.send("ready")
    phases = run_phases(timed, window_s, idle_s, time.perf_counter, time.sleep)
    connection.send((phases, sorted(times[-phases.calls:])))


def measure(meter: NvmlMeter, backend: Backend, batch: int, options: argparse.Namespace) -> Row:
    """Starts the child and polls until it sends its windows. Raises SystemExit when it dies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=loading, daemon=True, args=(
        theirs, backend.name, options.model, batch, options.index, options.window_s,
        options.idle_s))
    child.start()
    theirs.close()
    try:
        if not ours.poll(STARTING_S):
            raise SystemExit(f"The child did not start {backend.name} within {STARTING_S:g} s.")
        ours.recv()
        recorder, states = MeterRecorder([meter], time.perf_counter), []
        period_s, due = recorder.period_s(), 0.0
        while not ours.poll(period_s):
            recorder.poll()
            if time.perf_counter() >= due:
                states.append({one.name: one.value for one in meter.readings()})
                due = time.perf_counter() + STATE_EVERY_S
        recorder.poll()
        phases, times = ours.recv()
    except EOFError:
        child.join()
        raise SystemExit(f"The child ended with exit code {child.exitcode} at batch {batch}; its "
                         "output is above.") from None
    return row_of(batch, phases, times, recorder.traces(), states, f"gpu{options.index}_")


def row_of(batch: int, phases: Phases, times: list[float], traces: list[PolledRail],
           states: list[dict[str, float]], prefix: str) -> Row:
    found: dict[str, InferenceEnergy | None] = {}
    problems = []
    for name in ("energy_mj", "power_instant_mw"):
        chosen = [trace._replace(rail=trace.rail._replace(role="addend")) for trace in traces
                  if trace.rail.name == prefix + name]
        try:
            energy = energy_per_inference(chosen, "gpu", phases.load, phases.calls,
                                          phases.idle_before, phases.idle_after)
            found[name] = energy
            if energy.idle_problem:
                problems.append(energy.idle_problem)
        except EnergyUnavailable as error:
            found[name] = None
            problems.append(f"{name}: {error}")
    mask = 0
    for state in states:
        mask |= int(state.get(prefix + "clocks_event_reasons_mask", 0))
    return Row(batch, phases.calls, times[len(times) // 2], times[int(0.99 * len(times))],
               found["energy_mj"], found["power_instant_mw"], "; ".join(problems),
               _range(states, prefix + "temperature_c"), _range(states, prefix + "sm_clock_mhz"),
               reasons_in_words(mask & SLOWING), traces)


def _range(states: list[dict[str, float]], name: str) -> tuple[float, float]:
    values = [state[name] for state in states if name in state] or [float("nan")]
    return min(values), max(values)


def show(rows: list[Row]) -> None:
    print(f"{'batch':>5} {'calls':>7} {'p50 ms':>9} {'p99 ms':>9} {'power W':>8} {'idle W':>14} "
          f"{'gross J/call':>13} {'net J/call':>11} {'error':>6} {'net J/image':>12} "
          f"{'instant/counter':>15}")
    for row in rows:
        energy = row.counter or row.instant
        cells = f"{row.batch:>5} {row.calls:>7} {row.p50_s * 1e3:>9.3f} {row.p99_s * 1e3:>9.3f} "
        if energy is None:
            print(cells + row.problem)
            continue
        idle = net = error = image = ratio = "-"
        if energy.net_j is not None and energy.net_error_j is not None:
            idle = f"{energy.idle_before_w:.1f} / {energy.idle_after_w:.1f}"
            net, image = f"{energy.net_j:.5f}", f"{energy.net_j / row.batch:.6f}"
            error = f"{energy.net_error_j / energy.net_j:.1%}"
        if row.counter and row.instant:
            ratio = f"{row.instant.gross_j / row.counter.gross_j:.4f}"
        print(cells + f"{energy.power_w:>8.1f} {idle:>14} {energy.gross_j:>13.5f} {net:>11} "
              f"{error:>6} {image:>12} {ratio:>15}")
        print(f"      {energy.updates} updates, one each {energy.update_s * 1e3:.0f} ms; "
              f"{row.temperature_c[0]:.0f} to {row.temperature_c[1]:.0f} C, "
              f"{row.clock_mhz[0]:.0f} to {row.clock_mhz[1]:.0f} MHz; slowed by: "
              f"{', '.join(row.reasons) or 'nothing'}{'; ' + row.problem if row.problem else ''}")


def show_meter(meter: NvmlMeter, seconds: float) -> int:
    """Prints the doctor's findings, every reading, and the measured period of each rail."""
    for finding in meter_findings([meter]):
        print(f"{finding.name:<14} {finding.state:<8} {finding.text}")
        if finding.remedy:
            print(f"{'':<14} {'remedy:':<8} {finding.remedy}")
    if meter.problem() is not None:
        return 1
    print(meter.gpu_name())
    for one in meter.read():
        print(f"  {one.name:<32} {one.value:>16.1f} {one.unit:<8} {one.source}")
    recorder = MeterRecorder([meter], time.perf_counter)
    end = time.perf_counter() + seconds
    costs = []
    while time.perf_counter() < end:
        before = time.perf_counter()
        recorder.poll()
        costs.append(time.perf_counter() - before)
        time.sleep(0.005)
    print(f"polled every 5 ms for {seconds:g} s; a poll takes {sorted(costs)[len(costs) // 2]:.6f} "
          "s (median)")
    for trace in recorder.traces():
        times = readable(trace).times_s
        try:
            found = integral(trace, times[0], times[-1], 2)
            print(f"  {trace.rail.name:<24} {found.updates:>5} updates, one each "
                  f"{found.update_s * 1e3:7.1f} ms, {found.power_w:8.2f} W +- "
                  f"{found.error_j / found.duration_s:.2f} W  ({trace.rail.averaging})")
        except EnergyUnavailable as error:
            print(f"  {trace.rail.name:<24} {error}")
    return 0


def sweep(meter: NvmlMeter, options: argparse.Namespace) -> int:
    backend = choose_backend(options.model)
    print(f"{meter.gpu_name()}: {backend.describe}")
    rows = []
    for batch in options.batches:
        rows.append(measure(meter, backend, batch, options))
        print(f"batch {batch} done", file=sys.stderr)
    show(rows)
    if options.out:
        document: dict[str, Any] = {
            "gpu": meter.gpu_name(), "runs": backend.describe, "window_s": options.window_s,
            "idle_s": options.idle_s, "rows": [asdict(row) | {
                name: energy._asdict() if energy else None
                for name, energy in (("counter", row.counter), ("instant", row.instant))}
                for row in rows]}
        Path(options.out).write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row.counter or row.instant for row in rows) else 1


def main(arguments: list[str] | None = None, meter: NvmlMeter | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--meter-only", action="store_true", help="read the meter, run nothing")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--model", default="", help="an ONNX file, for ONNX Runtime with CUDA")
    parser.add_argument("--window-s", type=float, default=12.0)
    parser.add_argument("--idle-s", type=float, default=5.0, help="before and after; 0: none")
    parser.add_argument("--index", type=int, default=0, help="index of the GPU in NVML")
    parser.add_argument("--look-s", type=float, default=5.0, help="with --meter-only")
    parser.add_argument("--out", default="", help="a JSON file")
    options = parser.parse_args(arguments)
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # NVML's order
    meter = meter or NvmlMeter(index=options.index)
    if options.meter_only:
        return show_meter(meter, options.look_s)
    problem = meter.problem()
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1
    return sweep(meter, options)


if __name__ == "__main__":
    raise SystemExit(main())
