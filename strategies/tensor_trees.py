"""Trees of tensors: a tensor, or mappings, tuples and lists of trees, as models and data give
them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a tree, which may hold dataclasses, in a fixed order; what is neither tensor
    nor tree is left out."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from leaves(part)
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves(part)
    elif is_dataclass(tree) and not isinstance(tree, type):
        for entry in fields(tree):
            yield from leaves(getattr(tree, entry.name))


def mapped(change: Callable[[Tensor], Any], tree: Any) -> Any:
    """The tree with ``change`` of each tensor; lists and named tuples become tuples."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: mapped(change, part) for key, part in tree.items()}
    return tuple(mapped(change, part) for part in tree)


def size_bytes(tree: Any) -> int:
    """The memory of all tensors of a tree."""
    return sum(tensor.nbytes for tensor in leaves(tree))


def zipped(change: Callable[..., Tensor], *trees: Any) -> Any:
    """The tree with ``change`` of the tensors that several trees of one structure have in the same
    place."""
    first = trees[0]
    if isinstance(first, Tensor):
        return change(*trees)
    if isinstance(first, Mapping):
        return {key: zipped(change, *(tree[key] for tree in trees)) for key in first}
    return tuple(zipped(change, *parts) for parts in zip(*trees, strict=True))
