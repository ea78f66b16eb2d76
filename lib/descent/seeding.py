"""Where every random number of the book comes from.

The generator has no state to carry along: Threefry-2x32 (Salmon et al. 2011) turns a key and a
counter, two 32-bit words each, into two random words. The key is (seed, stream) and the counter
(place within the draw, number of the draw), so that any number can be had without those before it.
With tensors for the seeds or the numbers of draws, everything is made of tensor operations, for any number of seeds
at once, and can be traced. With plain numbers NumPy does the same faster.
"""

from __future__ import annotations

import math
import os
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

#: Independent streams of one seed: the same initial weights meet the same batches
#: whatever else changes.
STREAMS = {"init": 0, "batches": 1, "data": 2, "probe": 3, "noise": 4, "labels": 5}
#: seeds are 32-bit words
LARGEST_SEED = 2**32 - 1

#: words that many draws best make together: fewer take mostly Python's time, more do not stay in a core's cache
AT_ONCE = 2**17

#: of a seed and a stream: numbers, or int32 words of any shapes that broadcast
Key = tuple[Tensor | int, Tensor | int]

_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


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


def _word(value: int | Tensor) -> Tensor:
    """The last 32 bits of whole numbers, as int32."""
    if isinstance(value, Tensor):
        return value.to(torch.int32)
    return torch.full((), (value + 2**31) % 2**32 - 2**31, dtype=torch.int32)


def threefry(key: Key, counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Threefry-2x32 with 20 rounds: two random words for each key and counter (Salmon et al. 2011).

    Args:
        key, counter: pairs of int32 words, whose shapes broadcast.

    Returns:
        Two int32 tensors of the broadcast shape; all 2^32 values are equally likely.
    """
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(20):
        left = _ROTATIONS[i % 8]
        x = x + y
        # the sign bit must not be drawn in from the left
        y = (y << left | y >> (32 - left) & (1 << left) - 1) ^ x
        if i % 4 == 3:
            turn = i // 4 + 1
            x, y = x + keys[turn % 3], y + (keys[(turn + 1) % 3] + turn)
    return x, y


def _threefry_in_place(key: tuple[np.ndarray, int], counter: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
    """The same by NumPy, for uint32 arrays: twice as fast, but it cannot be traced."""
    keys = [np.asarray(k, np.uint32)[..., None] for k in (*key, key[0] ^ key[1] ^ 0x1BD11BDA)]
    x, y = (np.array(t) for t in np.broadcast_arrays(counter[0] + keys[0], counter[1] + keys[1]))
    right = np.empty_like(y)
    for i in range(20):
        left = _ROTATIONS[i % 8]
        x += y
        np.right_shift(y, 32 - left, out=right)
        y <<= left
        y |= right
        y ^= x
        if i % 4 == 3:
            turn = i // 4 + 1
            x += keys[turn % 3]
            y += keys[(turn + 1) % 3] + np.uint32(turn)
    return torch.from_numpy(x.view(np.int32)), torch.from_numpy(y.view(np.int32))


def key(seed: int | Tensor, stream: str) -> Key:
    """The key of one stream of one seed, or of a tensor of seeds.

    Raises:
        ValueError: `stream` is not one of `STREAMS`, or `seed` is no integer from 0 to 2^32 - 1.
    """
    if stream not in STREAMS:
        raise ValueError(f"unknown random stream {stream!r}; choose from {sorted(STREAMS)}")
    if not isinstance(seed, Tensor) and not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed {seed} is out of range; seeds are integers from 0 to {LARGEST_SEED}")
    return _word(seed) if isinstance(seed, Tensor) else seed, STREAMS[stream]


def _pairs(key: Key, draw: int | Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`count` random words in pairs, each (*shape, ceil(count / 2)); shape is that of key and draw together."""
    if not any(isinstance(number, Tensor) for number in (*key, draw)):
        return _threefry_in_place(key, (np.arange((count + 1) // 2, dtype=np.uint32), np.full(1, draw, np.uint32)))
    return _pairs_at(key, draw, torch.arange((count + 1) // 2, dtype=torch.int32))


def _pairs_at(key: Key, draw: int | Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs at some places (*shape?, count) of one draw, in operations that can be traced."""
    seed, stream, number = (_word(word).unsqueeze(-1) for word in (*key, draw))
    return threefry((seed, stream), (places, number))


def _flat(pairs: tuple[Tensor, Tensor], count: int) -> Tensor:
    return torch.stack(pairs, -1).flatten(-2)[..., :count]


def bits(key: Key, draw: int | Tensor, count: int) -> Tensor:
    """The random words of one draw, (*shape, count), int32; shape is that of key and draw, broadcast together."""
    return _flat(_pairs(key, draw, count), count)


def _uniform(words: Tensor) -> Tensor:
    """k / 2^24 with k the first 24 bits: every value is a float32."""
    return (words >> 8 & 0xFFFFFF).float() * 2.0**-24


def uniforms(key: Key, draw: int | Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24, float32, shape as of `bits`."""
    return _uniform(bits(key, draw, count))


def normals(key: Key, draw: int | Tensor, count: int) -> Tensor:
    """Standard normal numbers (Box & Muller 1958), float32, shape as of `bits`; none exceeds 5.8."""
    a, b = (_uniform(words) for words in _pairs(key, draw, count))
    radius, angle = (-2 * (a + 2.0**-24).log()).sqrt(), 2 * math.pi * b
    return _flat((radius * angle.cos(), radius * angle.sin()), count)


def noise(h: SimpleNamespace, stream: str, count: int) -> Tensor:
    """Standard normal numbers (K, count) of the step `h.step`, for networks with the seeds `h.seeds` (K,)."""
    return normals(key(h.seeds, stream), h.step.long(), count)


def integers(key: Key, draw: int | Tensor, below: int, count: int) -> Tensor:
    """Whole numbers from 0 to below - 1, int64, shape as of `bits`.

    Their probabilities differ by less than 2^-32 (Lemire 2019).
    """
    return _below(bits(key, draw, count), below)


def _below(words: Tensor, below: int) -> Tensor:
    return (words.long() & 0xFFFFFFFF) * below >> 32


def integers_at(key: Key, draw: int | Tensor, below: int, places: Tensor) -> Tensor:
    """The numbers of `integers` at these places of one draw, (*shape, count)."""
    first, second = _pairs_at(key, draw, (places // 2).to(torch.int32))
    return _below(torch.where(places % 2 == 0, first, second), below)


def permutations(key: Key, draw: int | Tensor, n: int) -> Tensor:
    """Random orders of 0, ..., n - 1, int64, shape as of `bits`: those that sort n random words.

    Equal words keep their order, which has a chance of n^2 / 2^33 to matter.
    """
    return bits(key, draw, n).argsort(stable=True, dim=-1)


def orders(key: Key, draw: Tensor, n: int) -> Tensor:
    """The same as `permutations`, four times faster with NumPy, but it cannot be traced."""
    seed, number = (t.numpy().view(np.uint32) for t in (_word(key[0]), _word(draw)))
    pairs = _threefry_in_place((seed, key[1]), (np.arange((n + 1) // 2, dtype=np.uint32), number[..., None]))
    places = _flat(pairs, n).long() << 32 | torch.arange(n)
    places.numpy().sort(-1)
    return places & 0xFFFFFFFF


class Generator:
    """Draws random numbers one after another; made by `generator`.

    Attributes:
        key: of its seed and stream.
        draws: how many draws there have been: the number of the next one.
        dtype: of its uniform and normal numbers, which are float32's in any case: what is
            calculated from them is calculated in this.
    """

    def __init__(self, key: Key, draws: int | Tensor = 0, dtype: torch.dtype = torch.float32) -> None:
        self.key, self.draws, self.dtype = key, draws, dtype

    def _next(self) -> int | Tensor:
        number, self.draws = self.draws, self.draws + 1
        return number

    def bits(self, n: int) -> Tensor:
        """n random words, int32."""
        return bits(self.key, self._next(), n)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1)."""
        return uniforms(self.key, self._next(), math.prod(shape)).reshape(shape).to(self.dtype)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return normals(self.key, self._next(), math.prod(shape)).reshape(shape).to(self.dtype)

    def integers(self, below: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to below - 1, int64."""
        return integers(self.key, self._next(), below, math.prod(shape)).reshape(shape)

    def permutation(self, n: int) -> Tensor:
        """A random order of 0, ..., n - 1, int64."""
        return permutations(self.key, self._next(), n)


def generator(seed: int, stream: str) -> Generator:
    """The numbers of one stream of one seed, from the first.

    Raises:
        ValueError: `stream` is not one of `STREAMS`, or `seed` is no integer from 0 to 2^32 - 1.
    """
    return Generator(key(seed, stream))
