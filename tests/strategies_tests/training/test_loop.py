import copy
import io
import subprocess
import sys

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Noise, equal_states, plain
from strategies.base import Fidelity, StrategyError
from strategies.training import loop
from strategies.training.finetune import Finetune
from strategies.training.loop import fit_until_plateau
from strategies.weights.magnitude_pruning import MagnitudePruning

SHORT, FULL = Fidelity("short", 2), Fidelity("full", 5)
FINETUNE = Finetune(1e-3)


class Recorder(nn.Module):
    def __init__(self, seen) -> None:
        super().__init__()
        self.seen = seen

    def advance(self, progress):
        self.seen.append(progress)

    def forward(self, weight):
        return weight


def test_a_fixed_seed_gives_the_same_bits():
    states = [FINETUNE.train(plain(), None, Noise(), SHORT, None)[0] for _ in range(2)]
    assert equal_states(*states)
    assert not equal_states(states[0], plain())


def test_training_does_not_import_the_compiler_of_torch():
    code = """
import sys
from strategies.base import Fidelity
from strategies.training.finetune import Finetune
from fleetfront_testing.networks import Noise, plain
model, state = Finetune(1e-3).train(plain(), None, Noise(), Fidelity("short", 1), None)
Finetune(1e-3).train(model, None, Noise(), Fidelity("full", 2), state)
sys.exit("torch._dynamo" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_lowers_the_loss():
    data, model = Noise(4), plain()

    def loss():
        with torch.no_grad():
            return sum(float(data.loss(model(*b.inputs), b.targets)) for b in data.batches(0))

    before = loss()
    Finetune(3e-3).train(model, None, data, Fidelity("short", 1), None)
    assert loss() < before


@pytest.mark.parametrize("steps", [[], [MagnitudePruning(0.2)]], ids=["plain", "masked"])
def test_full_from_a_saved_short_equals_full_without_a_stop(steps):
    def fresh():
        model = plain()
        for step in steps:
            step.attach(model, ["3", "7"], number_format="float32")
        return model

    model, state = FINETUNE.train(fresh(), None, Noise(), SHORT, None)
    file = io.BytesIO()
    torch.save({"weights": model.state_dict(), "training": state}, file)
    whole, _ = FINETUNE.train(model, None, Noise(), FULL, state)
    torch.manual_seed(99)
    file.seek(0)
    saved, again = torch.load(file, weights_only=True), fresh()
    again.load_state_dict(saved["weights"])
    resumed, last = FINETUNE.train(again, None, Noise(), FULL, saved["training"])
    assert equal_states(whole, resumed)
    assert last["epoch"] == 5


def test_full_takes_the_epochs_after_short_and_a_reached_fidelity_none():
    data = Noise()
    model, state = FINETUNE.train(plain(), None, data, SHORT, None)
    assert data.epochs == [0, 1] and state["epoch"] == 2
    model, state = FINETUNE.train(model, None, data, FULL, state)
    assert data.epochs == [0, 1, 2, 3, 4]
    before = copy.deepcopy(model)
    model, state = FINETUNE.train(model, None, data, FULL, state)
    assert data.epochs == [0, 1, 2, 3, 4] and state["epoch"] == 5
    assert equal_states(before, model)


def test_each_fidelity_ends_at_no_rate_and_full_restarts_at_half_the_peak(monkeypatch):
    rates = []
    step = loop._AdamW.step
    monkeypatch.setattr(loop._AdamW, "step", lambda self, *rest: (
        rates.append(self.param_groups[0]["lr"]), step(self, *rest))[1])
    model, state = FINETUNE.train(plain(), None, Noise(20), SHORT, None)
    first = rates.copy()
    rates.clear()
    FINETUNE.train(model, None, Noise(20), FULL, state)
    for part, peak in ((first, 1e-3), (rates, 5e-4)):
        assert max(part) == pytest.approx(peak, rel=0.02)
        top = part.index(max(part))
        assert part[top:] == sorted(part[top:], reverse=True) and part[-1] < 0.02 * peak
    assert (len(first), len(rates)) == (40, 60)


def test_progress_runs_in_the_first_fidelity_and_then_stays():
    seen, model = [], plain()
    nn.utils.parametrize.register_parametrization(model[7], "weight", Recorder(seen))
    model, state = FINETUNE.train(model, None, Noise(4), SHORT, None)
    assert seen == pytest.approx([n / 8 for n in range(9)])
    seen.clear()
    FINETUNE.train(model, None, Noise(4), FULL, state)
    assert set(seen) == {1.0} and len(seen) == 13


def test_a_loss_that_is_not_finite_is_said():
    data = Noise()
    data.loss = lambda outputs, targets: outputs.sum() * float("nan")
    with pytest.raises(StrategyError, match="learning_rate") as caught:
        FINETUNE.train(plain(), None, data, SHORT, None)
    assert caught.value.reason == "nan_loss"


def test_the_trained_model_evaluates_and_lies_plainly_in_memory():
    model, _ = FINETUNE.train(plain(), None, Noise(), SHORT, None)
    assert not model.training
    assert all(p.is_contiguous() for p in model.parameters())
    assert model(EXAMPLE).shape == (2, 10)


def plateau(metrics, **changed):
    data, model = Noise(2, metrics), plain()
    options = {"learning_rate": 1e-3, "cycle_epochs": 2, "max_epochs": 20, "tolerance": 0.01}
    model, state = fit_until_plateau(model, data, **{**options, **changed})
    return data, model, state


def test_cycles_go_on_while_validation_rises_by_more_than_the_tolerance():
    data, _, state = plateau((0.5, 0.6, 0.7, 0.705))
    assert data.asked == 4
    assert data.epochs == list(range(state["epoch"])) and state["epoch"] < 20


def test_cycles_end_at_the_last_epoch():
    data, _, state = plateau((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), max_epochs=5)
    assert data.epochs == list(range(5)) and state["epoch"] == 5


def test_the_average_of_the_cycles_ends_is_kept(monkeypatch):
    ends = []
    cycle = loop._cycle
    monkeypatch.setattr(loop, "_cycle", lambda model, *rest, **more: (
        cycle(model, *rest, **more), ends.append(copy.deepcopy(list(model.parameters())))))
    _, kept, _ = plateau((0.5, 0.6, 0.605))
    assert len(ends) == 3
    for found, *parts in zip(kept.parameters(), *ends, strict=True):
        assert torch.allclose(found, sum(parts) / 3, atol=1e-6)
        assert not torch.equal(found, parts[-1])


def test_an_average_that_fell_does_not_count():
    _, first, _ = plateau((0.5,), max_epochs=2)
    _, fallen, _ = plateau((0.5, 0.4))
    assert equal_states(first, fallen)
    _, about_equal, _ = plateau((0.5, 0.495))
    assert not equal_states(first, about_equal)


def test_the_averages_batch_norm_knows_the_averages_activations():
    norm = nn.BatchNorm2d(1, momentum=0.3)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(144, 10)).eval()
    data = Noise(3)
    loop.measure_normalization(model, data.batches(0))
    means = [float(batch.inputs[0].mean()) for batch in data.batches(0)]
    assert float(norm.running_mean) == pytest.approx(sum(means) / 3)
    assert norm.momentum == 0.3 and not model.training


def test_networks_without_normalization_need_no_further_epoch():
    data, _, _ = plateau((0.5, 0.5), max_epochs=2)
    assert data.epochs == [0, 1]


def test_the_optimizer_goes_on_where_it_was():
    model, state = FINETUNE.train(plain(), None, Noise(6), SHORT, None)
    _, state = FINETUNE.train(model, None, Noise(6), FULL, state)
    assert {int(kept["step"]) for kept in state["optimizer"]["state"].values()} == {5 * 6}
