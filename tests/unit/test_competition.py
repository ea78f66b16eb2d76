"""Competing sources: the theory against other integrators and against trained networks, deficits and shares by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.integrate import solve_ivp

from descent import Task, competition, data, models, sweep
from descent.competition import without
from descent.seeding import generator


def train(task, **arguments):
    return sweep(task, **({"cache": False, "dtype": torch.float64} | arguments))


def pathways(depth, **arguments):
    return Task(models.Pathways(depth, **arguments), data.sources(2), "mse", deficit=without(0))


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_the_clock_is_the_integral_of_one_over_the_speed(depth):
    a = np.linspace(0.1, 0.9, 2001)
    slope = np.gradient(competition.clock(a, depth), a)[1:-1]
    np.testing.assert_allclose(slope * competition.speed(a, depth)[1:-1], 1, rtol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_race_ends_where_the_weights_of_the_chains_end(depth):
    """Against the flow of all weights, which need not know of strengths."""
    w = np.repeat([0.2, 0.6], depth) ** (1 / depth)

    def flow(t, w):
        chains = w.reshape(2, depth)
        product = chains.prod(1)
        return ((1 - product.sum()) * product[:, None] / chains).ravel()

    end = solve_ivp(flow, (0, 200), w, rtol=1e-10, atol=1e-12).y[:, -1].reshape(2, depth).prod(1)
    np.testing.assert_allclose(competition.race(0.2, 0.6, depth), end, rtol=1e-6)


def test_races_with_known_ends():
    np.testing.assert_allclose(competition.race(0.5, 1.0, 1), (0.25, 0.75), atol=1e-12)
    np.testing.assert_allclose(competition.race([0.5, 1e-8], [1.0, 1e-8], 2), ([1 / 3, 0.5], [2 / 3, 0.5]), atol=1e-9)
    tiny = competition.race(0.9e-9, 1e-9, 4)[0]
    assert 0.9e-9 < tiny < 1e-6  # the winner takes all


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_growth_takes_the_time_that_the_flow_takes(depth):
    time = competition.growth_time(0.01, 0.5, depth)
    alone = competition.penalized(time, depth, start=0.0, length=2 * time, first=(0.3, 0.01))
    np.testing.assert_allclose(alone[:, 0], (0.3, 0.5), rtol=1e-5)
    assert competition.growth_time(0.01, 0.5, 2) == pytest.approx(np.log(99) / 2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_small_steps_follow_the_flow(depth):
    ds = train(pathways(depth, noise=0.0), lr=0.002, l2=0.05, deficit_start=500, deficit_length=1500, seed=0, steps=6000,
               record=[competition.share, competition.strengths], record_every=300)  # fmt: skip
    flow = competition.penalized(0.002 * ds.step.values, depth, start=1.0, length=3.0, l2=0.05)
    np.testing.assert_allclose(ds.strengths.isel(seed=0).T, flow, rtol=0.01, atol=1e-4)
    np.testing.assert_allclose(ds.share.isel(seed=0), competition.flow_share(ds.step.values, depth, 0.002, 500, 1500, l2=0.05), rtol=0.01)


def test_a_mode_keeps_what_the_flow_of_two_layers_keeps():
    shares = []
    for time in (1.0, 2.0, 20.0):  # the deficit starts there and lasts until B has filled the mode
        a, b = competition.penalized([time, time + 80.0], 2, start=time, length=20.0, first=(0.02, 0.03))
        shares.append((a[0] + b[0], a[1] / (a[1] + b[1])))
    for learned, share in shares[:2]:
        assert competition.kept(learned, shares[-1][1]) == pytest.approx(share / shares[-1][1], rel=1e-4)


def test_the_drift_is_the_slope_of_the_flow_near_balance():
    for depth in (1, 2, 3, 5):
        a, b = competition.penalized([400.0, 800.0], depth, l2=1e-3, first=(0.1, 0.1002))
        gap = (b - a) / (a + b)
        assert np.log(gap[1] / gap[0]) / 400 == pytest.approx(competition.drift(depth, 1e-3), abs=2e-5)


def test_pathways_are_products_of_chains():
    model, x = models.Pathways(3, paths=2, product=0.2, noise=0.1), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    params = model.init(generator(0, "init"), torch.tensor([1.0, 2.0]))
    w = params["w"]
    by_hand = torch.stack([w[k].prod(1) @ x for k in range(2)])[:, None]
    torch.testing.assert_close(model.apply(params, x), by_hand)
    torch.testing.assert_close(model.strengths(params)[1], 8 * model.strengths(params)[0])
    quiet = models.Pathways(4, product=0.3, noise=0.0)
    torch.testing.assert_close(quiet.strengths(quiet.init(generator(0, "init"))), torch.full((2,), 0.3))


def test_branches_are_networks_side_by_side():
    model, x = models.Branches((3, 4, 2)), generator(0, "data").normal(6, 5)
    params = model.init(generator(0, "init"), torch.tensor([1.0, 0.5]))
    g, alone = generator(0, "init"), models.MLP((3, 4, 2))
    first, second = alone.init(g, torch.tensor([1.0, 0.5])), alone.init(g, torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(model.apply(params, x), alone.apply(first, x[:3]) + alone.apply(second, x[3:]))


def test_deficits_take_away_what_they_name():
    x, y = torch.arange(1.0, 7.0).reshape(3, 2), torch.ones(1, 2)
    seen, target = without(0, 2)(x, y)
    assert seen.tolist() == [[0, 0], [3, 4], [0, 0]] and target is y
    matrix = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
    entries = data.matrix_completion(matrix, 4)
    x, y = entries.x.movedim(0, -1), entries.y.T
    same, other = competition.other_matrix(matrix + 10)(x, y)
    assert same is x and torch.equal(other, y + 10)
    shown = torch.zeros(3, 3)
    shown[tuple(entries.x[1].nonzero()[0])] = 1
    seen, target = competition.hidden_entries(shown)(x, y)
    assert torch.equal(seen[..., 1], x[..., 1]) and target[0, 1] == y[0, 1]
    assert not seen[..., [0, 2, 3]].any() and not target[0, [0, 2, 3]].any()


def test_views_and_modes_are_those_of_the_weights():
    target = data.low_rank_matrix([2.0, 1.0], 3)
    left, _, right = torch.linalg.svd(target)
    twice = data.Data("twice", torch.eye(3).repeat(1, 2), target.T, x_test=torch.eye(3).repeat(1, 2), y_test=target.T)
    task = Task(models.Branches((3, 3, 3), activation="linear", bias=False), twice, "mse", deficit=without(0, 1, 2))
    probes = [competition.mode_strengths(left[:, :2], right[:2].T), competition.view_share, "weights"]
    ds = train(task, lr=0.1, init_scale=0.3, deficit_start=0, deficit_length=[0, 300], seed=[0, 1], steps=900, record=probes, record_every=[900])
    for row, strengths, view in zip(ds.weights.values.reshape(4, -1), ds.mode_strengths.values.reshape(4, 2, -1), ds.view_share.values.ravel()):
        W = row.reshape(4, 3, 3)
        A, B = W[1] @ W[0], W[3] @ W[2]
        a, b = (np.diag(left.numpy()[:, :2].T @ M @ right.numpy()[:2].T) for M in (A, B))
        np.testing.assert_allclose(strengths, (a, b), rtol=1e-6)
        centred = [M - M.mean(1, keepdims=True) for M in (A, A + B)]
        assert view == pytest.approx((centred[0] * centred[1]).sum() / (centred[1] ** 2).sum())


def test_views_differ_by_their_noise_alone():
    digits = data.digits(train=20, test=5)
    twice = competition.two_views(digits, 0.0)
    assert torch.equal(twice.x[:, :64], digits.x) and torch.equal(twice.x[:, 64:], digits.x)
    noisy = competition.two_views(data.digits(train=1000), 0.5)
    apart = noisy.x[:, :64] - noisy.x[:, 64:]
    assert apart.std().item() == pytest.approx(0.5 * 2**0.5, rel=0.02) and noisy.x_test.shape[1] == 128


def test_a_view_alone_is_a_branch_with_its_outputs_centred():
    """Against one network at a time, through NumPy's eyes."""
    views = competition.two_views(data.digits(train=50, test=40), 0.5)
    ds = train(Task(models.Branches((64, 10), activation="linear", bias=False), views), lr=0.05, init_scale=0.5, seed=[0, 1], steps=30,
               record=[competition.view_accuracy, "weights"], record_every=[30])  # fmt: skip
    for k in range(2):
        A, B = ds.weights.values[k, -1].reshape(2, 10, 64)
        x = views.x_test.numpy()
        outputs = [seen @ W.T for W, seen in ((A, x[:, :64]), (B, x[:, 64:]))]
        by_hand = [(np.argmax(f - f.mean(0), 1) == views.y_test.numpy()).mean() for f in outputs]
        np.testing.assert_allclose(ds.view_accuracy.values[k, -1], by_hand, atol=1e-12)
        assert by_hand[0] != by_hand[1]


def test_what_lies_beyond_the_rank_is_what_the_other_singular_values_hold():
    task = Task(models.MatrixProduct((6, 6, 6)), data.matrix_completion(data.low_rank_matrix([2.0, 1.0], 6), 30), "mse")
    ds = train(task, lr=1.0, seed=[0, 1], steps=20, record=[competition.beyond(2), "weights"], record_every=[0, 20])
    for weights, beyond in zip(ds.weights.values.reshape(4, 2, 6, 6), ds.beyond_rank.values.ravel()):
        squares = np.sort(np.linalg.eigvalsh((weights[1] @ weights[0]).T @ (weights[1] @ weights[0])))[::-1]
        assert beyond == pytest.approx(squares[2:].sum() / squares.sum(), rel=1e-6)


def test_related_tasks_are_mixtures_of_two_matrices_of_one_size():
    for true_part, other_part in ((0.0, 1.0), (1.0, 0.0), (0.25, 0.75)):
        task = competition.related_tasks(3, 2, true_part, other_part, n=12)
        x, y = task.data.x.double().movedim(0, -1), task.data.y.double().T
        true, other = (data.low_rank_matrix([12 / r**0.5] * r, 12, seed=s) for r, s in ((2, 3), (10, 500_003)))
        shown = task.deficit(x, y)[1]
        rows, columns = x.flatten(0, 1).argmax(0) // 12, x.flatten(0, 1).argmax(0) % 12
        torch.testing.assert_close(y[0], true[rows, columns])
        torch.testing.assert_close(shown[0], (other_part * other + true_part * true)[rows, columns])
        assert y.shape[1] == 72 and true.norm().item() == pytest.approx(other.norm().item()) == pytest.approx(12.0)


def test_a_lead_is_a_difference_of_clocks():
    a = xr.DataArray(np.array([[[0.1, 0.2], [0.4, 0.8]], [[0.1, 0.2], [0.4, 0.8]]]), dims=("depth", "path", "step"), coords={"depth": [1, 2], "step": [0, 10]})
    found = competition.lead(a, [1, 2], 0)
    np.testing.assert_allclose(found.values, [[1, 0.6 / 0.3], [1, 1]])  # the difference doubles, the ratio stays
    assert competition.lead(a, [2, 1], 10).shape == (2, 1)


def test_an_outcome_is_the_end_of_the_flow_and_the_rival_is_not():
    end = competition.penalized([60.0], 3, start=1.0, length=2.0, first=(0.1, 0.12))[:, 0]
    share = end[0] / end.sum()
    assert competition.outcome(1.0, 2.0, 3, first=(0.1, 0.12)) == pytest.approx(share, abs=1e-5)
    assert abs(competition.outcome(1.0, 2.0, 3, first=(0.1, 0.12), conserved=1) - share) > 0.03


def test_networks_are_compared_after_equally_many_steps():
    curve = xr.DataArray(np.arange(2)[:, None] * 100 + np.arange(5), dims=("deficit_length", "step"),
                         coords={"deficit_length": [0, 20], "deficit_start": 0, "step": [0, 10, 20, 30, 40]})  # fmt: skip
    assert competition.after_deficit(curve, 10).values.tolist() == [1, 103]
    with pytest.raises(KeyError):
        competition.after_deficit(curve, 15)


def test_nonsense_is_refused():
    for call, message in [
        (lambda: models.Pathways(0), "depth=0"),
        (lambda: models.Pathways(2, product=-1.0), "product=-1.0 positive"),
        (lambda: models.Branches((3, 2), count=0), "count=0"),
        (lambda: without(), "at least one input"),
        (lambda: competition.race(0.0, 1.0, 2), "positive strengths"),
        (lambda: competition.growth_time(0.5, 0.1, 2), "start=0.5, level=0.1"),
        (lambda: competition.two_views(data.digits(20), -1.0), "noise=-1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
