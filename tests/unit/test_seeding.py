"""Random numbers: the published words, the right distributions, nothing in common where it should not be."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.fx.experimental.proxy_tensor import make_fx

from descent import Task, data, models, seeding
from descent.seeding import STREAMS, generator
from descent.sweep import _epochs, _initial

#: a test that fails by chance does so once in 10^4 choices of the seeds below, which were not tried out
UNLIKELY = 1e-4


def word(value):
    return torch.tensor(value).to(torch.int32)


@pytest.mark.parametrize("key, counter, expected", [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
])  # fmt: skip
def test_known_answers(key, counter, expected):
    """Those that come with the authors' Random123."""
    found = seeding.threefry(tuple(map(word, key)), tuple(map(word, counter)))
    assert [int(f) % 2**32 for f in found] == list(expected)


def plain_threefry(key, counter):
    """The paper's definition on Python's integers."""
    x, y = ((c + k) % 2**32 for c, k in zip(counter, key))
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    for i in range(20):
        turn = [13, 15, 26, 6, 17, 29, 16, 24][i % 8]
        x = (x + y) % 2**32
        y = (y << turn | y >> (32 - turn)) % 2**32 ^ x
        if i % 4 == 3:
            x, y = (x + keys[(i // 4 + 1) % 3]) % 2**32, (y + keys[(i // 4 + 2) % 3] + i // 4 + 1) % 2**32
    return x, y


def test_each_draw_is_that_of_a_plain_loop():
    """Key (seed, stream), counter (place, number of the draw), two words a counter."""
    for seed, stream, draws in [(0, "init", 3), (2**31, "batches", 2), (2**32 - 1, "probe", 2)]:
        g = generator(seed, stream)
        for draw in range(draws):
            expected = [w for place in range(4) for w in plain_threefry((seed, STREAMS[stream]), (place, draw))]
            assert [w % 2**32 for w in g.bits(7).tolist()] == expected[:7]


def test_what_is_made_of_the_words():
    words = seeding.bits(seeding.key(5, "data"), 0, 100).numpy().view(np.uint32)
    u = (words >> 8) / 2**24
    assert np.array_equal(generator(5, "data").uniform(100), u)
    radius, angle = np.sqrt(-2 * np.log(u[::2] + 2**-24)), 2 * np.pi * u[1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()
    np.testing.assert_allclose(generator(5, "data").normal(10, 10).ravel(), normal, rtol=1e-6, atol=1e-6)
    assert generator(5, "data").integers(7, 100).tolist() == [int(w) * 7 // 2**32 for w in words]
    assert generator(5, "data").permutation(100).tolist() == np.argsort(words.view(np.int32), kind="stable").tolist()


# -- distributions -----------------------------------------------------------------------


@pytest.mark.parametrize("draw, cdf", [("uniform", stats.uniform.cdf), ("normal", stats.norm.cdf)])
def test_distribution(draw, cdf):
    """Within a draw, over the draws of a stream, and over seeds."""
    several = [
        getattr(generator(1, "data"), draw)(100_000),
        torch.cat([getattr(g, draw)(3) for g in [generator(2, "init")] for _ in range(2000)]),
        torch.cat([getattr(generator(s, "init"), draw)(3) for s in range(2000)]),
    ]
    for numbers in several:
        assert numbers.dtype == torch.float32
        assert stats.kstest(numbers.numpy(), cdf).pvalue > UNLIKELY


def test_moments():
    n = 1_000_000
    x, u = generator(3, "data").normal(n).double(), generator(4, "data").uniform(n).double()
    assert 0 <= u.min() and u.max() < 1 and x.isfinite().all() and x.abs().max() < 5.8
    bound = stats.norm.isf(UNLIKELY / 2)
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((x**power).mean() - mean) < bound * math.sqrt(variance / n)
    for power in (1, 2, 3):
        mean = 1 / (power + 1)
        assert abs((u**power).mean() - mean) < bound * math.sqrt((1 / (2 * power + 1) - mean**2) / n)


@pytest.mark.parametrize("below", [2, 7, 1000, 2**31])
def test_integers(below):
    drawn = generator(0, "data").integers(below, 50, 1000)
    assert drawn.shape == (50, 1000) and drawn.dtype == torch.int64 and 0 <= drawn.min() and drawn.max() < below
    cells = min(below, 100)
    counts = torch.bincount((drawn * cells // below).flatten(), minlength=cells)
    expected = torch.bincount(torch.arange(below) * cells // below, minlength=cells) if below <= 1000 else torch.ones(cells)
    assert stats.chisquare(counts, expected.double() / expected.sum() * drawn.numel()).pvalue > UNLIKELY


def test_integers_at_some_places():
    key, places = seeding.key(torch.tensor([3, 4]), "batches"), torch.tensor([0, 1, 17, 4, 998])
    some = seeding.integers_at(key, 5, 1000, places)
    assert torch.equal(some, seeding.integers(key, 5, 1000, 999)[:, places])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("over", ["epochs", "seeds"])
def test_every_permutation_is_equally_likely(n, over):
    many = torch.arange(200 * math.factorial(n))
    seeds, epochs = (torch.tensor(3), many) if over == "epochs" else (many, 3)
    drawn = seeding.permutations(seeding.key(seeds, "batches"), epochs, n)
    cells = {order: i for i, order in enumerate(itertools.permutations(range(n)))}
    counts = np.bincount([cells[tuple(order)] for order in drawn.tolist()], minlength=len(cells))
    assert stats.chisquare(counts).pvalue > UNLIKELY


@pytest.mark.parametrize("n", [1, 2, 1000, 4001])
def test_permutations_are_permutations(n):
    assert torch.equal(generator(0, "data").permutation(n).sort().values, torch.arange(n))


# -- independence ------------------------------------------------------------------------


def test_streams_seeds_and_draws_have_nothing_in_common():
    """Not one word of 24,000 is where another is, and their numbers are uncorrelated."""
    rows = [generator(seed, stream) for seed in (0, 1, 2, 3, 2**31, 2**32 - 1) for stream in STREAMS]
    words = torch.stack([g.bits(500) for g in rows for _ in range(2)])
    pairs = len(words) * (len(words) - 1) // 2
    same = sum(int((a == b).sum()) for a, b in itertools.combinations(words, 2))
    assert stats.binom.sf(same - 1, pairs * 500, 2.0**-32) > UNLIKELY
    normals = torch.stack([g.normal(500) for g in rows for _ in range(2)]).double()
    correlations = torch.corrcoef(normals)[tuple(torch.triu_indices(len(words), len(words), 1))]
    assert correlations.abs().max() * math.sqrt(500) < stats.norm.isf(UNLIKELY / 2 / pairs)


def test_half_of_the_bits_change_with_any_bit_of_seed_or_place():
    key, place = torch.arange(1000, dtype=torch.int32), torch.arange(64, dtype=torch.int32)[:, None]
    zero = torch.zeros((), dtype=torch.int32)
    # times the square root of 2, because a pair may come twice, as before and after and the other way round
    bound = math.sqrt(2) * stats.norm.isf(UNLIKELY / 2 / (32 * 4)) * 0.5 / math.sqrt(32 * 64_000)
    for bit in range(32):
        flip = word(1 << bit)
        before = seeding.threefry((key, zero), (place, zero))
        for key_after, place_after in ((key ^ flip, place), (key, place ^ flip)):
            after = seeding.threefry((key_after, zero), (place_after, zero))
            for a, b in zip(before, after):
                share = np.unpackbits((a ^ b).numpy().view(np.uint8)).mean()
                assert abs(share - 0.5) < bound


def test_a_draw_does_not_depend_on_the_size_of_those_before_it():
    a, b = generator(0, "init"), generator(0, "init")
    a.normal(3), b.normal(1000)
    assert torch.equal(a.normal(10), b.normal(10)) and not torch.equal(a.normal(10), generator(0, "init").normal(10))


# -- many at once, and traced ------------------------------------------------------------

DRAWS = {
    "bits": seeding.bits, "uniforms": seeding.uniforms, "normals": seeding.normals, "permutations": seeding.permutations,
    "integers": lambda key, draw, count: seeding.integers(key, draw, 10, count),
}  # fmt: skip


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("count", [1, 15, 1000])
def test_many_seeds_and_draws_at_once(draw, count):
    """Bit by bit those of one alone."""
    seeds, numbers = torch.tensor([0, 1, 77, 2**31, 2**32 - 1]), torch.arange(3)[:, None]
    together = draw(seeding.key(seeds, "batches"), numbers, count)
    assert together.shape == (3, 5, count)
    for (e, number), (s, seed) in itertools.product(enumerate(numbers.flatten().tolist()), enumerate(seeds.tolist())):
        assert torch.equal(together[e, s], draw(seeding.key(seed, "batches"), number, count))
    if draw is seeding.permutations:
        assert torch.equal(together, seeding.orders(seeding.key(seeds, "batches"), numbers, count))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_traced(draw, mode):
    """The same bits, for seeds and draws other than those it was traced with."""
    program = make_fx(lambda seeds, number: draw(seeding.key(seeds, "batches"), number, 33), tracing_mode=mode)(torch.tensor([1, 2]), torch.tensor(3))
    for seeds, number in ((torch.tensor([5, 2**32 - 1]), torch.tensor(0)), (torch.tensor([2**31, 0]), torch.tensor(12345))):
        assert torch.equal(program(seeds, number), draw(seeding.key(seeds, "batches"), number, 33))


@pytest.mark.parametrize("model", [
    models.MLP((6, 5, 3)), models.CNN((1, 4, 4), (2,), batch_norm=True), models.ScalarNetwork(6), models.DiagonalLinear(6),
    models.Quadratic((1.0,) * 6), models.Quadratic((1.0,) * 6, start=lambda g: g.uniform(6)),
], ids=["MLP", "CNN", "scalar", "diagonal", "normal start", "drawn start"])  # fmt: skip
def test_initial_weights_of_many_networks_are_those_of_one_alone(model):
    """Bit by bit, whatever its neighbours; traced too."""
    task = Task(model, data.Data("nothing", torch.zeros(4, *model.input_shape), torch.zeros(4, 3)), "output")
    seeds, scales = [3, 0, 3, 2**32 - 1, 0, 3], np.array([1.0, 2.0, 0.5, 0.3, 1.0, 7.0])
    together = _initial(task, seeds, scales)
    for seed, scale, row in zip(seeds, scales, together):
        alone = model.init(generator(seed, "init"), torch.tensor(scale, dtype=torch.float32))
        assert torch.equal(row, task.flatten(alone, 0).float())

    def drawn(seed, scale):
        return task.flatten(model.init(seeding.Generator(seeding.key(seed, "init")), scale), 0).float()

    program = make_fx(drawn)(torch.tensor(8), torch.tensor(1.0))
    assert torch.equal(program(torch.tensor(3), torch.tensor(0.5)), together[2])


@pytest.mark.parametrize("seeds", [[4], [0, 9, 2**32 - 1], list(range(400))], ids=len)
@pytest.mark.parametrize("steps", [5, 1000])
def test_the_order_of_an_epoch_is_the_draw_of_its_number(seeds, steps):
    n, size = 1000, 300
    epochs = list(itertools.islice(_epochs(seeds, n, size, "shuffle", steps), 4))
    for row in {0, len(seeds) // 2, len(seeds) - 1}:
        g = generator(seeds[row], "batches")
        for epoch in epochs:
            assert epoch.shape == (3, len(seeds), size)
            assert torch.equal(epoch[:, row].flatten(), g.permutation(n)[:900])
    blocks = list(itertools.islice(_epochs(seeds, n, 2, "replacement", steps), 3))
    for row in {0, len(seeds) - 1}:
        g = generator(seeds[row], "batches")
        for block in blocks:
            assert block.shape == (256, len(seeds), 2) and torch.equal(block[:, row].flatten(), g.integers(n, 512))


# -- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize("seed, stream, message", [
    (0, "dropout", r"unknown random stream 'dropout'; choose from \['batches', 'data', 'init', 'labels', 'noise', 'probe'\]"),
    (-1, "init", "seed -1 is out of range; seeds are integers from 0 to 4294967295"),
    (2**32, "init", "seed 4294967296 is out of range"),
])  # fmt: skip
def test_bad_keys_are_refused(seed, stream, message):
    with pytest.raises(ValueError, match=message):
        generator(seed, stream)
