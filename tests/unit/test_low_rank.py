"""Matrices learned rank by rank, against dense linear algebra, numerical integration and what can be solved by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.integrate import solve_ivp

from descent import Task, data, low_rank, models, sweep, theory
from descent.probes.curvature import lowest_eigenvalue
from descent.probes.features import end_to_end, neuron_alignment, stable_rank
from descent.seeding import generator

CORNER = torch.tensor([[True, True], [True, False]])


def corner(R):
    """[[1, R], [R, ?]]: the least rank has R^2 in the corner, the least nuclear norm has 1 (for R > 1)."""
    return data.matrix_completion(torch.tensor([[1.0, R], [R, R * R]]), CORNER)


# -- models and data ---------------------------------------------------------------------


@pytest.mark.parametrize("model, names", [
    (models.MatrixProduct((4, 3, 5, 2)), ["W0", "W1", "W2"]), (models.MatrixProduct((4, 6, 4), symmetric=True), ["U"]),
])  # fmt: skip
def test_a_matrix_product_measures_its_product(model, names):
    x = generator(0, "data").normal(*model.input_shape, 7).double()
    params = {k: p.double() for k, p in model.init(generator(1, "init"), torch.tensor([1.0, 0.5])).items()}
    assert list(params) == names
    dense = [params["U"].numpy() @ params["U"].mT.numpy()] if model.symmetric else [params["W2"] @ params["W1"] @ params["W0"]]
    np.testing.assert_allclose(model.apply(params, x), np.einsum("kij,ijn->kn", np.asarray(dense[0]), x)[:, None], rtol=1e-10)
    ratio = model.matrix(params)[1] / model.matrix(params)[0]
    np.testing.assert_allclose(ratio, 0.5 ** (2 if model.symmetric else 3), rtol=1e-10)


def test_an_identity_start_scales_as_the_depth():
    start = models.MatrixProduct((3, 3, 3, 3), identity=True)
    torch.testing.assert_close(start.matrix(start.init(generator(5, "init"), 0.1)), 1e-3 * torch.eye(3))
    with pytest.raises(ValueError, match="same width"):
        models.MatrixProduct((3, 4, 3), identity=True)


def test_matrix_products_refuse_what_is_none():
    with pytest.raises(ValueError, match=r"widths \(4, 3, 5\)"):
        models.MatrixProduct((4, 3, 5), symmetric=True)
    with pytest.raises(ValueError, match="widths"):
        models.MatrixProduct((4,))


def test_low_rank_matrices_have_their_singular_values():
    for symmetric in (False, True):
        M = data.low_rank_matrix([4, 2, 1], 6, symmetric=symmetric, seed=3)
        np.testing.assert_allclose(np.linalg.svd(M)[1], [4, 2, 1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.eigvalsh(M)[-3:], [1, 2, 4])
    with pytest.raises(ValueError, match="1 to 3 positive singular values"):
        data.low_rank_matrix([1, 1, 1, 1], 3)


def test_the_loss_of_a_linear_map_is_the_distance_of_matrices():
    M = data.low_rank_matrix([3, 1], 4, 5)
    task = Task(models.DeepLinear((5, 6, 4)), data.linear_map(M), "mse")
    w = generator(0, "init").normal(1, task.parameters).double()
    part = task.part("train", dtype=torch.float64)
    W = end_to_end(task, w)
    params = task.unflatten(w)
    torch.testing.assert_close(W, params["W1"] @ params["W0"])
    torch.testing.assert_close(task.losses(params, part.x, part.y), (W - M).square().sum((1, 2)) / 2)


def test_measurements_are_inner_products_and_independent_of_the_matrix():
    M = data.low_rank_matrix([2, 1], 5, symmetric=True, seed=1)
    sensed = data.matrix_sensing(M, 40, symmetric=True, seed=1)
    assert torch.equal(sensed.x, sensed.x.mT)
    np.testing.assert_allclose(sensed.y[:, 0], np.einsum("nij,ij->n", sensed.x, M))
    raw = generator(1, "data").normal(5, 2).double()
    assert not np.isclose(data.matrix_sensing(M, 40, seed=1).x.flatten()[0], raw[0, 0])


def test_completion_shows_the_observed_entries_and_tests_the_others():
    M = data.low_rank_matrix([2, 1], 4, 3)
    for observed in (7, torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) < 0.5):
        made = data.matrix_completion(M, observed)
        n = observed if isinstance(observed, int) else int(observed.sum())
        assert len(made) == n and len(made.x_test) == 12 - n
        assert (torch.cat([made.x, made.x_test]).sum(0) == 1).all()
        np.testing.assert_allclose(made.y[:, 0], (made.x * M).sum((1, 2)))
    with pytest.raises(ValueError, match="observed=13"):
        data.matrix_completion(M, 13)
    with pytest.raises(ValueError, match="boolean matrix"):
        data.matrix_completion(M, torch.ones(3, 3, dtype=torch.bool))


def test_separated_data_has_exactly_its_correlation():
    made = data.separated(5, 0.3, dim=14)
    signed = made.y * made.x
    expected = np.full((10, 10), 0.3) + 0.7 * np.eye(10)
    np.testing.assert_allclose(signed @ signed.T, expected, atol=1e-12)
    with pytest.raises(ValueError, match="correlation=1.0"):
        data.separated(5, 1.0)


def test_digit_pair_is_centred_and_of_unit_norm():
    made = data.digit_pair(0, 1)
    assert len(made) == 360 and set(made.y.flatten().tolist()) == {-1.0, 1.0}
    np.testing.assert_allclose(made.x.norm(dim=1), 1)
    with pytest.raises(ValueError, match="3"):
        data.digit_pair(3, 3)


# -- theory ------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_modes_solve_their_equation(depth):
    s, start, t = 2.0, 0.01, np.linspace(0, 6, 13)
    flow = solve_ivp(lambda t, a: depth * a ** (2 - 2 / depth) * (s - a), (0, 6), [start], t_eval=t, rtol=1e-11, atol=1e-13)
    found = theory.saxe_mode(t, s, start, depth)
    np.testing.assert_allclose(found, flow.y[0], rtol=1e-8)
    np.testing.assert_allclose(theory.saxe_time(s, start, found[:8], depth), t[:8], atol=1e-6)


def test_modes_refuse_what_has_no_solution():
    with pytest.raises(ValueError, match="below its singular value"):
        theory.saxe_mode(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="depth=0"):
        theory.saxe_time(2.0, 0.1, 1.0, depth=0)
    with pytest.raises(ValueError, match="positive"):
        theory.saxe_time(2.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="3 modes do not fit into 2"):
        theory.early_strength(np.ones((3, 2)), np.ones((3, 2)))


def test_initial_strengths_without_gram_schmidt_are_squared_lengths():
    p, q = np.random.default_rng(0).normal(size=(2, 4, 3, 6))
    np.testing.assert_allclose(theory.early_strength(p, q, orthogonal=False), np.square((p + q) / 2).sum(-1))
    assert (theory.early_strength(p, q)[:, 1:] < theory.early_strength(p, q, orthogonal=False)[:, 1:]).all()


def test_a_small_network_follows_its_initial_strengths():
    M = data.low_rank_matrix([3, 1], 5, seed=2)
    task = Task(models.DeepLinear((5, 7, 5)), data.linear_map(M), "mse")
    run = sweep(task, lr=0.005, init_scale=1e-5, seed=[0, 1], steps=4000, record=["matrix", "weights"], record_every=10,
                dtype=torch.float64, cache=False)  # fmt: skip
    strengths = low_rank.mode_strengths(run.matrix, M, 2)
    start = low_rank.initial_strengths(task, run.weights.isel(step=0), M, 2)
    target = xr.DataArray([3.0, 1.0], dims="mode")
    predicted = theory.saxe_time(target, start.transpose("seed", "mode"), target / 2)
    np.testing.assert_allclose(low_rank.first_time(strengths, target / 2).transpose("seed", "mode"), predicted, rtol=0.02)


# -- greedy low-rank learning ------------------------------------------------------------


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_factor_gradients_are_those_of_autograd(depth):
    g = torch.Generator().manual_seed(0)
    widths = [4, *range(2, depth + 1), 3]
    factors = [torch.randn(m, n, dtype=torch.float64, generator=g, requires_grad=True) for n, m in zip(widths, widths[1:])]
    f = low_rank.Quadratic(data.matrix_sensing(torch.ones(3, 4), 9))
    W = factors[0]
    for F in factors[1:]:
        W = F @ W
    A, y = torch.tensor(f.A), torch.tensor(f.y)
    expected = torch.autograd.grad((A @ W.flatten() - y).square().mean() / 2, factors)
    found = low_rank.factor_gradients([F.detach().numpy() for F in factors], f.gradient(W.detach().numpy()))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_with_all_entries_observed_the_greedy_solutions_are_the_best_of_their_rank(depth):
    M = data.low_rank_matrix([4, 2, 1], 5, 4, seed=1)
    whole = data.matrix_completion(M, 20)
    greedy = low_rank.greedy_low_rank(whole, 4, depth=depth, lr=0.5, tol=1e-7, eps=1e-5)
    assert greedy.sizes["rank"] == 4  # it stops when nothing is left
    for rank in range(4):
        np.testing.assert_allclose(greedy.matrix.sel(rank=rank), low_rank.best_rank(M, rank), atol=2e-4)
    np.testing.assert_allclose(greedy.slope[:3], [4 / 20, 2 / 20, 1 / 20], rtol=1e-3)


def test_the_corner_separates_rank_from_nuclear_norm():
    for R in (2.0, 5.0):
        greedy = low_rank.greedy_low_rank(corner(R), 2)
        assert greedy.sizes["rank"] == 2
        np.testing.assert_allclose(greedy.matrix.isel(rank=-1), [[1, R], [R, R * R]], rtol=1e-4)
        np.testing.assert_allclose(low_rank.minimum_nuclear_norm(corner(R)), [[1, R], [R, 1]], rtol=1e-5)


def test_no_other_completion_has_a_smaller_nuclear_norm():
    made = data.matrix_completion(data.low_rank_matrix([3, 1], 6, seed=0), 20)
    W = low_rank.minimum_nuclear_norm(made)
    np.testing.assert_allclose((made.x.numpy() * W).sum((1, 2)), made.y[:, 0], atol=1e-6)
    hidden, least = made.x_test.numpy(), np.linalg.norm(W, "nuc")
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(50):
            assert np.linalg.norm(W + size * np.tensordot(rng.normal(size=len(hidden)), hidden, 1), "nuc") > least - 1e-6


def test_greedy_learning_refuses_nonsense():
    with pytest.raises(ValueError, match="ranks=3"):
        low_rank.greedy_low_rank(corner(2.0), 3)
    with pytest.raises(ValueError, match="tol=1 ends the first round"):
        low_rank.greedy_low_rank(corner(2.0), 1, tol=1.0)
    with pytest.raises(RuntimeError, match="round 1"):
        low_rank.greedy_low_rank(corner(2.0), 1, steps=3)
    with pytest.raises(ValueError, match="measurement matrices"):
        low_rank.Quadratic(data.digits(10))
    twice = data.Data("twice", torch.ones(2, 2, 2), torch.tensor([[1.0], [2.0]]))
    with pytest.raises(ValueError, match="contradict"):
        low_rank.minimum_nuclear_norm(twice)


def test_distance_to_a_path_is_that_to_the_nearest_point_of_its_segments():
    path = np.zeros((3, 1, 2))
    path[1:, 0, 0], path[2, 0, 1] = 1.0, 2.0
    greedy = xr.Dataset({"path": (("point", "row", "column"), path)})
    points = xr.DataArray([[[0.5, -0.3]], [[1.4, 1.0]], [[1.0, 3.0]], [[0.0, 0.0]]], dims=("step", "row", "column"))
    np.testing.assert_allclose(low_rank.distance_to_path(points, greedy) * 5**0.5, [0.3, 0.4, 1.0, 0.0], atol=1e-12)


# -- plateaus ----------------------------------------------------------------------------


def test_the_lowest_curvature_at_a_rank_k_point_is_the_next_singular_value():
    M = data.low_rank_matrix([4, 2, 1], 5, seed=0)
    task = Task(models.DeepLinear((5, 6, 5)), data.linear_map(M), "mse")
    U, s, Vt = np.linalg.svd(M)
    for rank in range(3):
        first, second = np.zeros((6, 5)), np.zeros((5, 6))
        for k in range(rank):
            first[k], second[:, k] = s[k] ** 0.5 * Vt[k], s[k] ** 0.5 * U[:, k]
        w = torch.tensor(np.r_[first.ravel(), second.ravel()])[None]
        assert task.losses_and_gradients(w, *(task.part("train", dtype=torch.float64).__dict__[k] for k in "xy"))[1].norm() < 1e-10
        assert float(lowest_eigenvalue(task, w)) == pytest.approx(-s[rank], rel=1e-9)


def test_plateaus_are_where_the_gradient_is_least_between_modes():
    steps = np.arange(10)
    run = xr.Dataset({"gradient_norm": ("step", [3.0, 2, 9, 8, 1, 9, 9, 9, 4, 9])}, {"step": steps, "lr": 0.5})
    found = low_rank.plateaus(run, xr.DataArray([1.2, 3.6], dims="mode"))
    np.testing.assert_allclose(found.gradient_norm, [2, 1])


def test_first_time_interpolates():
    curve = xr.DataArray([0.0, 1.0, 3.0, 2.0], dims="step", coords={"step": [0, 10, 20, 30], "lr": 0.1})
    assert float(low_rank.first_time(curve, 2.0)) == pytest.approx(1.5)
    assert float(low_rank.first_time(curve, 0.0)) == 0
    assert np.isnan(low_rank.first_time(curve, 5.0))


# -- neurons -----------------------------------------------------------------------------


def test_alignment_asks_each_living_neuron_for_its_own_class():
    x = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, -1.0]])  # three examples as columns
    y = torch.tensor([[1.0, 1.0, -1.0]])
    first = torch.tensor([[[1.0, 1.0], [1.0, 0.0], [-1.0, -1.0], [0.0, 0.0]]])
    second = torch.tensor([[1.0, 1.0, -1.0, 1.0]])
    found = neuron_alignment(first, second, x, y)
    np.testing.assert_allclose(found, [[1, 0.5**0.5, 1, np.nan]], rtol=1e-6)


def test_stable_rank_is_between_one_and_the_rank():
    assert float(stable_rank(torch.eye(4))) == pytest.approx(4)
    assert float(stable_rank(torch.ones(4, 3))) == pytest.approx(1)
    assert float(stable_rank(torch.diag(torch.tensor([2.0, 1.0, 0.0])))) == pytest.approx(1.25)


def test_the_probe_refuses_other_networks():
    task = Task(models.MLP((64, 5, 1)), data.digit_pair(), "mse")
    with pytest.raises(ValueError, match="no biases"):
        sweep(task, steps=1, record="stable_rank", cache=False)
