"""Where every random number of the book comes from."""

from __future__ import annotations

import os

import numpy as np
import torch

#: Independent streams of one seed: the same initial weights meet the same batches
#: whatever else changes.
STREAMS = {"init": 0, "batches": 1, "data": 2, "probe": 3}


def seeds(count: int) -> list[int]:
    """The seeds `shift, shift + 1, ...` that a chapter trains with.

    The environment variable `DESCENT_SEED_SHIFT` (default 0) moves all of them, so that a
    whole chapter can be run again on fresh randomness.

    Raises:
        ValueError: `count` is not a positive integer.
    """
    if not isinstance(count, int) or count < 1:
        raise ValueError(f"seeds({count!r}): the number of seeds must be a positive integer")
    shift = int(os.environ.get("DESCENT_SEED_SHIFT", "0"))
    return list(range(shift, shift + count))


def generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator for one stream of one seed.

    Raises:
        ValueError: `stream` is not one of `STREAMS`, or `seed` is negative.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; choose from {sorted(STREAMS)}")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; seeds are integers from 0 up")
    state = np.random.SeedSequence([int(seed), STREAMS[stream]]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))
