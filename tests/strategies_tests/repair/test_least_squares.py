"""What a smaller structure can compute it computes after the repair, without training."""

import copy

import pytest
import torch
from torch import nn

from fleetfront_testing.networks import equal_states
from strategies.layers import layers_of
from strategies.repair import least_squares
from strategies.repair.batchnorm import fold_batchnorm
from strategies.repair.least_squares import repair_structure
from strategies.structure.channel_pruning import ChannelPruning
from strategies.structure.svd import Svd
from strategies.structure.tucker import Tucker

SOURCE = torch.Generator().manual_seed(0)
IMAGES = torch.randn(128, 3, 12, 12, generator=SOURCE)
OTHERS = torch.randn(64, 3, 12, 12, generator=SOURCE)


def error(student, teacher, inputs=OTHERS):
    """Of the outputs, relative to their standard deviation."""
    with torch.no_grad():
        wanted = teacher(inputs)
        return float((student(inputs) - wanted).square().mean().sqrt() / wanted.std())


class Net(nn.Module):
    def __init__(self, depthwise=False):
        super().__init__()
        torch.manual_seed(11)
        self.a, self.an = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.b = nn.Conv2d(16, 16, 3, padding=1, groups=16 if depthwise else 1)
        self.c = nn.Conv2d(16, 24, 1)
        self.hidden, self.head = nn.Linear(24, 32), nn.Linear(32, 5)

    def forward(self, x):
        x = torch.relu(self.an(self.a(x)))
        x = torch.relu(self.c(x + torch.relu(self.b(x))))
        return self.head(torch.relu(self.hidden(x.amax((2, 3)))))


def folded(depthwise=False):
    return fold_batchnorm(Net(depthwise).eval(), (IMAGES[:1],))


@pytest.mark.parametrize("depthwise", [False, True])
def test_channels_that_others_can_replace_are_replaced(depthwise, monkeypatch):
    """Half of the channels are positive multiples of the others, behind ReLU as before it."""
    teacher = folded(depthwise)
    with torch.no_grad():
        teacher.a.weight[8:], teacher.a.bias[8:] = teacher.a.weight[:8] / 9, teacher.a.bias[:8] / 9
        teacher.b.weight[8:] = teacher.b.weight[:8] / (1 if depthwise else 9)
        teacher.b.bias[8:] = teacher.b.bias[:8] / 9
        teacher.c.weight[:, 8:] *= 3
    made = ChannelPruning(0.5).restructure(copy.deepcopy(teacher), ["a"], (IMAGES[:1],))
    assert made.kept["a"] == made.kept["b"]
    assert {channel % 8 for channel in made.kept["a"]} == set(range(8))
    assert error(made.model, teacher) > 0.1
    repaired = repair_structure(copy.deepcopy(made.model), teacher, made.kept, (IMAGES,))
    assert error(repaired, teacher) < error(made.model, teacher) / 2
    monkeypatch.setattr(least_squares, "RIDGE", 3e-3)
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES,))
    assert error(repaired, teacher) < 0.01, "a small pull finds the replacement"


@pytest.mark.parametrize("strategy, layers", [
    (ChannelPruning(0.6), ["a", "b", "c", "hidden"]), (Tucker(0.4), ["b"]), (Svd(0.3), ["hidden"])],
    ids=["pruned", "tucker", "svd"])
def test_most_of_the_error_goes(strategy, layers):
    teacher = folded()
    made = strategy.restructure(copy.deepcopy(teacher), layers, (IMAGES[:1],))
    before = copy.deepcopy(made.model)
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES,))
    assert error(repaired, teacher) < 0.85 * error(made.model, teacher)
    assert equal_states(made.model, before), "a copy was repaired"
    assert [name for name, _ in repaired.named_parameters()] == [
        name for name, _ in made.model.named_parameters()]


def test_batchnorm_may_stay():
    teacher = Net().eval()
    made = ChannelPruning(0.6).restructure(copy.deepcopy(teacher), ["a", "c"], (IMAGES[:1],))
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES,))
    assert isinstance(repaired.an, nn.BatchNorm2d)
    assert error(repaired, teacher) < 0.7 * error(made.model, teacher)


def test_the_same_inputs_give_the_same_weights_whatever_the_seed():
    teacher = folded()
    made = ChannelPruning(0.5).restructure(copy.deepcopy(teacher), ["a", "c"], (IMAGES[:1],))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(repair_structure(made.model, teacher, made.kept, (IMAGES,)))
    assert equal_states(*found)


def test_layers_before_the_first_change_stay_bit_for_bit():
    teacher = folded()
    made = Svd(0.3).restructure(copy.deepcopy(teacher), ["hidden"], (IMAGES[:1],))
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES,))
    for name in ("a", "b", "c"):
        assert equal_states(repaired.get_submodule(name), teacher.get_submodule(name))
    assert not equal_states(repaired.head, teacher.head)


def test_little_memory_means_fewer_samples_in_the_first_layers_only():
    teacher = folded()
    made = ChannelPruning(0.5).restructure(copy.deepcopy(teacher), ["a", "c"], (IMAGES[:1],))
    small = repair_structure(made.model, teacher, made.kept, (IMAGES,), memory_bytes=400_000)
    assert error(small, teacher) < 0.8 * error(made.model, teacher)


def test_two_steps_compose():
    """Factors of a layer are repaired as that layer, channels are those of the first model."""
    teacher = folded()
    first = ChannelPruning(0.7).restructure(copy.deepcopy(teacher), ["a", "b", "c"],
                                            (IMAGES[:1],))
    second = Tucker(0.5).restructure(copy.deepcopy(first.model), ["b"], (IMAGES[:1],))
    assert [layer.name for layer in layers_of(second.model)][1:4] == ["b.0", "b.1", "b.2"]
    kept = {**first.kept, "b.2": first.kept["b"]}
    repaired = repair_structure(second.model, teacher, kept, (IMAGES,))
    assert error(repaired, teacher) < 0.85 * error(second.model, teacher)


class Others(nn.Module):
    """What has no solution here: transposed, called twice, several inputs by keyword."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(12)
        self.a, self.up = nn.Conv1d(3, 16, 3), nn.ConvTranspose1d(16, 16, 3)
        self.twice, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x, y):
        x = torch.relu(self.up(torch.relu(self.a(x.flatten(2)))))
        x = torch.relu(self.twice(torch.relu(self.twice(x.mean(2)))))
        return {"logits": self.head(input=x + y)}


def test_what_cannot_be_solved_is_left():
    inputs = (IMAGES, torch.rand(len(IMAGES), 1))
    teacher = Others().eval()
    made = ChannelPruning(0.5).restructure(
        copy.deepcopy(teacher), ["a"], tuple(tensor[:1] for tensor in inputs))
    repaired = repair_structure(made.model, teacher, made.kept, inputs)
    for name in ("up", "twice"):
        assert equal_states(repaired.get_submodule(name), made.model.get_submodule(name))
    assert not equal_states(repaired.head, made.model.head)


def test_eight_samples_do_no_harm():
    teacher = folded()
    made = ChannelPruning(0.6).restructure(copy.deepcopy(teacher), ["a", "c"], (IMAGES[:1],))
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES[:8],))
    assert error(repaired, teacher) < error(made.model, teacher)


def bars(count, seed):
    """Pictures (count, 1, 12, 16) of a dark or bright bar, upright or lying, and their class."""
    source = torch.Generator().manual_seed(seed)
    kinds = torch.randint(0, 4, (count,), generator=source)
    pictures = 0.6 * torch.randn(count, 1, 12, 16, generator=source)
    for picture, kind in zip(pictures, kinds.tolist(), strict=True):
        place = int(torch.randint(0, 10, (1,), generator=source))
        bar = picture[0, :, place : place + 2] if kind < 2 else picture[0, place : place + 2]
        bar += 1.0 if kind % 2 else -1.0
    return pictures, kinds


class Trained(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(13)
        self.stem, self.n = nn.Conv2d(1, 24, 5, 2, 2, bias=False), nn.BatchNorm2d(24)
        self.a, self.an = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.b, self.bn = nn.Conv2d(24, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        x = torch.relu(self.n(self.stem(x)))
        x = torch.relu(x + self.bn(self.b(torch.relu(self.an(self.a(x))))))
        return self.head(x.amax((2, 3)))


def test_a_pruned_residual_network_is_back_without_training():
    model = Trained()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    pictures, kinds = bars(1024, 1)
    for _ in range(4):
        for some in torch.randperm(1024).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pictures[some]), kinds[some]).backward()
            optimizer.step()
    test, truth = bars(1000, 2)

    def accuracy(network):
        with torch.no_grad():
            return float((network.eval()(test).argmax(1) == truth).float().mean())

    teacher = fold_batchnorm(model.eval(), (pictures[:1],))
    made = ChannelPruning(0.5).restructure(
        copy.deepcopy(teacher), ["stem", "a", "b"], (pictures[:1],))
    repaired = repair_structure(made.model, teacher, made.kept, (bars(256, 3)[0],))
    assert accuracy(teacher) > 0.9
    assert accuracy(made.model) < accuracy(teacher) - 0.2
    assert accuracy(repaired) > accuracy(teacher) - 0.015


def test_only_some_layers_are_solved_from_the_first_that_changed():
    teacher = folded()
    made = ChannelPruning(0.5).restructure(copy.deepcopy(teacher), ["b"], (IMAGES[:1],))
    repaired = repair_structure(made.model, teacher, made.kept, (IMAGES,), most_layers=2)
    changed = {name.rpartition(".")[0] for name, tensor in repaired.state_dict().items()
               if not torch.equal(tensor, made.model.state_dict()[name])}
    assert "a" not in changed and 1 <= len(changed) <= 2
    assert error(repaired, teacher) < error(made.model, teacher)
