"""What runs in a model, whatever its code looks like."""

import torch
from torch import nn

from fleetfront_testing.networks import EXAMPLE, Residual
from strategies.dataflow import follow
from strategies.layers import weighted
from strategies.weights.clustering import Clustering


class HeadFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.unused = nn.Linear(8, 4), nn.Linear(8, 8)
        self.late, self.early = nn.Conv2d(8, 8, 3), nn.Conv2d(1, 8, 3)

    def forward(self, x):
        x = self.late(self.early(x)).mean((2, 3))
        return torch.log_softmax(self.head(x), 1)


def test_uses_in_order_of_execution():
    model = HeadFirst().train()
    flow = follow(model, (EXAMPLE,))
    uses = {name: flow.use_of(model, name) for name in weighted(model)}
    assert uses["unused"] is None
    assert uses["early"].first < uses["late"].first < uses["head"].first
    assert flow.producers(model, weighted(model)) == {"head"}
    assert model.training and not model.head._forward_hooks, "the model stays as it is"


class Outputs(nn.Module):
    """Two outputs; one of them is a sum, written in place."""

    def __init__(self):
        super().__init__()
        self.body, self.a = nn.Linear(144, 8), nn.Linear(8, 8)
        self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.body(x.flatten(1)).relu()
        total = torch.empty(len(x), 8)
        total[:, :4] = self.a(x)[:, :4]
        total[:, 4:] = self.b(x)[:, 4:]
        return {"total": total.tanh_(), "other": (self.c(x) + 1,)}


def test_all_layers_that_produce_outputs():
    model = Outputs()
    assert follow(model, (EXAMPLE,)).producers(model, weighted(model)) == {"a", "b", "c"}


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(12, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.up(x[:, 0])
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.block(x).mean(1))


def test_weights_that_are_read_past_their_module():
    model = Attending().eval()
    flow = follow(model, (EXAMPLE,))
    assert flow.use_of(model, "attention.out_proj").calls == 0
    assert "attention" in flow.use_of(model, "attention.out_proj").foreign[0]
    assert flow.use_of(model, "block.linear1").calls == 1
    assert flow.use_of(model, "block.linear1").foreign == ()
    assert flow.producers(model, weighted(model)) == {"head"}


def test_constrained_weights_are_those_of_their_layer():
    model = Residual()
    Clustering(2).attach(model, ["hidden", "last"], "float32")
    flow = follow(model, (EXAMPLE,))
    assert flow.use_of(model, "hidden").foreign == ()
    assert flow.producers(model, weighted(model)) == {"last"}


def test_values_that_exist_at_once():
    model = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 5))
    samples = torch.rand(1000, 10)
    alive = follow(model, (samples[:1],)).alive()
    assert alive[0] == 4 * 10, "the first reads one sample"
    assert max(alive) == 4 * 20, "later ones read 20 numbers at a time; constants do not count"


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand(3)


def test_random_numbers_are_not_used_up():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    follow(Noisy(), (torch.ones(1, 3),))
    assert torch.equal(torch.rand(3), wanted)
