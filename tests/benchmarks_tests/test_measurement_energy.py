"""The benchmark of energy passes with few trials, and detects a wrong integral."""

from benchmarks.measurement.energy import KINDS, checks, errors_of


def test_a_few_trials_pass_every_check(capsys):
    made = checks(2)
    assert len(made) == 5 * len(KINDS) + 1 and all(check.passed for check in made)
    assert "counter that wraps" in capsys.readouterr().out


def test_the_benchmark_detects_a_wrong_integral(monkeypatch):
    from benchmarks.measurement import energy

    monkeypatch.setattr(energy, "CALLS", 4100)
    right = energy.energy_per_inference
    monkeypatch.setattr(energy, "energy_per_inference", lambda traces, draws, load, calls,
                        *idle: right(
        traces, draws, load, 4000, *idle))
    gross, _, _ = errors_of("counter", 2, 0)
    assert min(gross) > 0.01
