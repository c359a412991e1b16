"""Random numbers of the user's data: fixed for each sample, whichever process reads it."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

_MIX = 0x9E3779B97F4A7C15


def seed_of(*numbers: int) -> int:
    """A 32-bit seed from several numbers (Steele et al. 2014, SplitMix64); the same in every
    process."""
    state = 0
    for number in numbers:
        state = (state + number + _MIX) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 32


def seed_generators(seed: int) -> None:
    """Seed the global generators of torch (CPU), numpy and random."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def generator_states() -> tuple[object, ...]:
    """The states of the same generators, comparable."""
    kind, key, *rest = np.random.get_state(legacy=True)
    return (torch.get_rng_state().numpy().tobytes(), kind, np.asarray(key).tobytes(), *rest,
            random.getstate())


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """The global generators of torch (CPU), numpy and random leave the block as they entered it."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
