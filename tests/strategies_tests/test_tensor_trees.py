import torch

from strategies.tensor_trees import leaves, mapped, size_bytes, zipped

ONE, TWO = torch.tensor([1.0, 2.0]), torch.tensor([3])
TREE = {"a": ONE, "b": [TWO, (ONE,)]}


def test_leaves_come_in_a_fixed_order():
    assert [tensor.tolist() for tensor in leaves(TREE)] == [[1, 2], [3], [1, 2]]
    assert list(leaves(ONE)) == [ONE] and list(leaves([None, "a", TWO])) == [TWO]
    assert size_bytes(TREE) == 8 + 8 + 8


def test_trees_keep_their_structure():
    doubled = mapped(lambda tensor: tensor * 2, TREE)
    assert [t.tolist() for t in leaves(doubled)] == [[2, 4], [6], [2, 4]]
    assert isinstance(doubled["b"], tuple)
    total = zipped(torch.add, TREE, doubled)
    assert [t.tolist() for t in leaves(total)] == [[3, 6], [9], [3, 6]]
