import pytest
import torch
from torch import nn

from fleetfront_testing.networks import Noise, equal_states, plain
from strategies.base import Fidelity, StrategyError
from strategies.training.finetune import Finetune
from strategies.training.knowledge_distillation import KnowledgeDistillation

SHORT = Fidelity("short", 1)
DISTIL = KnowledgeDistillation(1e-3, temperature=4.0, teacher_weight=0.6)


def logits(seed):
    return torch.randn(16, 10, generator=torch.Generator().manual_seed(seed))


def teaching(seed):
    return lambda batch: logits(seed)


def test_the_loss_is_hintons():
    student, teacher, task = logits(0), logits(1), torch.tensor(1.7)
    soft = (teacher / 4).softmax(1)
    divergence = (soft * (soft.log() - (student / 4).softmax(1).log())).sum(1).mean()
    torch.testing.assert_close(DISTIL.loss(student, teacher, task),
                               0.4 * task + 0.6 * 16 * divergence)


def test_pixels_count_as_samples_do():
    student, teacher = torch.randn(2, 4, 10, 3, 5, generator=torch.Generator().manual_seed(0))
    flat = [part.permute(0, 2, 3, 1).reshape(-1, 10) for part in (student, teacher)]
    torch.testing.assert_close(DISTIL.loss(student, teacher, torch.tensor(1.7)),
                               DISTIL.loss(*flat, torch.tensor(1.7)))


@pytest.mark.parametrize("shape", [(16,), (16, 1)])
@pytest.mark.parametrize("answer", ["logit", "classes"])
def test_one_logit_is_two_classes(shape, answer):
    student, teacher = logits(0)[:, 0].reshape(shape), logits(1)[:, 0].reshape(shape)
    both = [torch.stack([torch.zeros(16), part.reshape(16)], 1) for part in (student, teacher)]
    torch.testing.assert_close(DISTIL.loss(student, teacher, torch.tensor(1.7), answer),
                               DISTIL.loss(*both, torch.tensor(1.7)))


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_numbers_are_compared_in_units_of_their_spread(unit):
    student, teacher = logits(0), logits(1)
    expected = 0.4 * 1.7 + 0.6 * float((student - teacher).square().mean() / teacher.var(
        correction=0))
    found = DISTIL.loss(student * unit, teacher * unit, torch.tensor(1.7), "values")
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_constant_numbers_have_a_finite_loss():
    found = DISTIL.loss(torch.ones(4, 1), torch.ones(4, 1), torch.tensor(1.0), "values")
    assert float(found) == pytest.approx(0.4)


def test_a_teacher_of_another_shape_is_refused():
    with pytest.raises(StrategyError, match=r"\(16, 10\), those of .* \(16, 1\)") as caught:
        DISTIL.loss(logits(0), logits(1)[:, :1], torch.tensor(1.0), "values")
    assert caught.value.reason == "unsupported_graph"


def test_the_data_say_what_outputs_hold():
    data, seen = Noise(1), []
    data.answer = "values"
    DISTIL.train(plain(), lambda batch: seen.append(batch) or logits(1), data, SHORT, None)
    tuned = Noise(1)
    assert len(seen) == 1
    assert not equal_states(DISTIL.train(plain(), teaching(1), data, SHORT, None)[0],
                            DISTIL.train(plain(), teaching(1), tuned, SHORT, None)[0])


def test_a_student_equal_to_its_teacher_has_the_task_loss_left():
    torch.testing.assert_close(DISTIL.loss(logits(0), logits(0), torch.tensor(1.7)),
                               torch.tensor(0.4 * 1.7))


def test_the_gradient_pulls_towards_the_teacher():
    student, teacher = logits(0).requires_grad_(), logits(1)
    DISTIL.loss(student, teacher, torch.zeros(())).backward()
    wanted = 0.6 * 4 / 16 * ((student / 4).softmax(1) - (teacher / 4).softmax(1))
    torch.testing.assert_close(student.grad, wanted.detach())


def test_the_teachers_outputs_reach_the_weights():
    one = DISTIL.train(plain(), teaching(1), Noise(), SHORT, None)[0]
    same = DISTIL.train(plain(), teaching(1), Noise(), SHORT, None)[0]
    other = DISTIL.train(plain(), teaching(2), Noise(), SHORT, None)[0]
    assert equal_states(one, same)
    assert not equal_states(one, other)


def test_without_weight_on_the_teacher_it_is_fine_tuning():
    distilled = KnowledgeDistillation(1e-3, teacher_weight=0.0).train(
        plain(), teaching(1), Noise(), SHORT, None)[0]
    tuned = Finetune(1e-3).train(plain(), None, Noise(), SHORT, None)[0]
    for a, b in zip(distilled.parameters(), tuned.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_teacher_is_asked_for_each_batch():
    keys = []

    def teacher(batch):
        keys.append(batch.key)
        return logits(0)

    DISTIL.train(plain(), teacher, Noise(3), SHORT, None)
    assert keys == [(0, 0), (0, 1), (0, 2)]


def test_distillation_brings_the_student_nearer():
    teacher = plain()
    with torch.no_grad():
        teacher[9].weight.mul_(8)

    def teach(batch):
        with torch.no_grad():
            return teacher(*batch.inputs)

    def distance(model):
        with torch.no_grad():
            return float(sum(nn.functional.mse_loss(model(*b.inputs), teacher(*b.inputs))
                             for b in Noise(6).batches(0)))

    strategy = KnowledgeDistillation(3e-3, teacher_weight=1.0)
    student = strategy.train(plain(), teach, Noise(6), Fidelity("short", 2), None)[0]
    assert distance(student) < distance(plain())


def test_no_teacher_is_said():
    with pytest.raises(StrategyError, match="teacher") as caught:
        DISTIL.train(plain(), None, Noise(), SHORT, None)
    assert caught.value.reason == "no_teacher"


@pytest.mark.parametrize("parameters", [
    {"temperature": 0.0}, {"teacher_weight": 1.2}, {"learning_rate": 0.0}])
def test_parameters_out_of_range_are_refused(parameters):
    with pytest.raises(StrategyError) as caught:
        KnowledgeDistillation(**{"learning_rate": 1e-3, **parameters})
    assert caught.value.reason == "bad_parameters"
