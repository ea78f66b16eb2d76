"""The plane of two learning rates: windows, verdicts, and its two solvable models."""

import numpy as np
import pytest
import torch
import xarray as xr

from descent.boxcount import box_dimension, mixed_squares
from descent.seeding import generator
from descent.sweep import sweep
from descent.trainability import (
    CHANGES, EARLY, TAIL, Rates, Window, border_pairs, border_point, bowl_fate, converged, cubic_orbit, descend, dimensions, linear_threshold, linearized, nearest_border,
    network, richest, scalar_fate, square, survey, theory, turned, verdicts, wavy,
)  # fmt: skip

WINDOW = Window(100.0, 50.0, 2.0)
WAVES = Window(10**2.5, 10**2.1, 1.0)


def test_a_window_has_its_decades():
    lr, readout_lr = WINDOW.rates(5)
    np.testing.assert_allclose(lr, [10, 10**1.5, 100, 10**2.5, 1000])
    np.testing.assert_allclose(readout_lr, lr / 2)
    corner = WINDOW.at(0, 1, 0.1)
    assert (corner.lr, corner.readout_lr, corner.decades) == (pytest.approx(10), pytest.approx(500), 0.1)


@pytest.mark.parametrize("change", [{"lr": 0}, {"readout_lr": -1}, {"decades": np.nan}, {"lr": np.inf}])
def test_bad_windows_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Window(**({"lr": 1.0, "readout_lr": 1.0, "decades": 1.0} | change))


def test_the_network_is_the_papers():
    """f(x) = v g(√(2/n) W x) / n on standard Gaussian inputs, where the library's inputs carry the √2."""
    task = network(3)
    params = task.model.init(generator(0, "init"), 1.0)
    x, W, v = task.data.x.double(), params["W0"].double(), params["W1"].double()
    expected = v @ torch.tanh((2 / 16) ** 0.5 * W @ (x / 2**0.5).T) / 16
    torch.testing.assert_close(task.model.apply({k: p.double() for k, p in params.items()}, x.T), expected)
    assert task.parameters == 272 and len(task.data) == 16


@pytest.mark.parametrize("activation, expected", [("relu", lambda z: 2**0.5 * torch.relu(z)), ("linear", lambda z: z)])
def test_other_activations_have_the_papers_scale(activation, expected):
    """α₀ of the paper is √(2/n) for ReLU and √(1/n) for the identity."""
    task = network(3, activation)
    params = {k: p.double() for k, p in task.model.init(generator(0, "init"), 1.0).items()}
    x = task.data.x.double().T
    assert float(x.std()) == pytest.approx(1, abs=0.15)
    torch.testing.assert_close(task.model.apply(params, x), params["W1"] @ expected(params["W0"] @ x / 4) / 16)


def test_survey_trains_the_grid_and_converged_reads_it():
    ds = survey(network(0), WINDOW, 5, 0, steps=60)
    assert ds.step.values.tolist() == [0, *EARLY, 20, *range(40, 61)] and ds.loss.dims == ("lr", "readout_lr", "seed", "step")
    loss = ds.loss.values
    expected = loss[..., -TAIL:].mean(-1) < loss[..., 0]
    np.testing.assert_array_equal(converged(ds).values, expected)
    assert not converged(ds).values[np.isfinite(ds.diverged_at.values)].any() and 0 < expected.mean() < 1


def test_the_border_point_is_on_the_border():
    up = np.add.outer(np.zeros(21), np.arange(21)) < 8
    assert border_point(up, 0.3) == pytest.approx(7.5 / 20)
    with pytest.raises(ValueError, match="no border"):
        border_point(np.ones((9, 9), bool), 0.5)


def test_the_richest_square_is_in_the_dust_and_not_on_the_line():
    inside = np.add.outer(np.zeros(49), np.arange(49)) < 10  # a line below
    inside[30:40, 30:40] = np.random.default_rng(0).random((10, 10)) < 0.5
    across, up = richest(inside)
    assert 30 <= 48 * across <= 39 and 30 <= 48 * up <= 39
    line = np.add.outer(np.zeros(49), np.arange(49)) < 24
    assert richest(line) == pytest.approx((23.5 / 48, 23.5 / 48)), "of equals the nearest to the middle"
    with pytest.raises(ValueError, match="no border"):
        richest(np.zeros((9, 9), bool))


@pytest.mark.parametrize("choose", [richest, nearest_border])
def test_every_window_on_the_way_down_is_a_square_with_border_of_the_last_one(choose):
    way = list(descend(wavy, WAVES, 49, 4, choose))
    assert [window.decades for window, _ in way] == pytest.approx([48.0**-k for k in range(4)])
    for (window, picture), (smaller, _) in zip(way, way[1:]):
        corners = np.array([abs(np.log10(smaller.lr / window.lr)), abs(np.log10(smaller.readout_lr / window.readout_lr))])
        assert (corners < window.decades / 2).all() and 0 < picture.mean() < 1
        ends = wavy(smaller, 2).values
        assert 0 < ends.sum() < 4, "its corners are of both kinds"


def test_a_smooth_wave_passes_for_a_fractal_until_it_is_magnified():
    assert box_dimension(wavy(WAVES, 97)).value > 1.4
    found = dimensions(wavy, WAVES, 49, 4, 0.3)
    assert len(found) == 4 and max(found) < 1.15


def test_square_is_a_square_of_the_column():
    inside = wavy(WAVES, 97, waves=1)
    found = square(WAVES, inside, 0.25)
    assert found.decades == pytest.approx(1 / 96)
    assert np.log10(found.readout_lr / 10**2.1) == pytest.approx(np.sin(2 * np.pi * np.log10(found.lr / 10**2.5)) / 8, abs=1 / 96)


def test_verdicts_are_of_the_survey():
    found = verdicts(network(0), 0)(WINDOW, 4)
    assert found.dims == ("lr", "readout_lr") and found.dtype == bool
    np.testing.assert_array_equal(found.values, converged(survey(network(0), WINDOW, 4, [0], dtype=torch.float64)).values[..., 0])


def test_theory_is_the_threshold():
    window = Window(30.0, 30.0, 4.0)
    found, edge = theory(network(2), 2, window, 9), linear_threshold(network(2), 2, window.rates(9)[0])
    for k, column in enumerate(found.values):
        np.testing.assert_array_equal(column, window.rates(9)[1] < edge[k] if np.isfinite(edge[k]) else np.zeros(9, bool))


def test_each_layer_alone_bears_a_rectangle():
    window = Window(30.0, 30.0, 4.0)
    both, alone = theory(network(2), 2, window, 33).values, theory(network(2), 2, window, 33, alone=True).values
    assert (alone | ~both).all() and (alone & ~both).any(), "it allows more"
    np.testing.assert_array_equal(alone, np.logical_and.outer(alone.any(1), alone.any(0)))
    assert alone.any(0).sum() == both.any(0).sum() and alone.any(1).sum() == both.any(1).sum()


def test_pairs_are_drawn_from_the_squares_with_border():
    seen = []
    look = lambda rates, n: seen.append(rates) or wavy(rates, n)
    picture = wavy(WAVES, 49)
    found = border_pairs(look, WAVES, picture, 3, columns=5, each=7)
    assert found.dims == ("change", "point") and found.shape == (1 + len(CHANGES), 35) and len(seen) == 5
    mesh = mixed_squares(picture, 1)
    for rates in seen:
        np.testing.assert_allclose(rates.lr / rates.lr[0] - 1, [0, *CHANGES], rtol=1e-5, atol=3e-16)
        assert rates.lr[-1] > rates.lr[0], "one unit in the last place"
        across, up = (48 * (np.log10(r / c) + 0.5) for r, c in ((rates.lr[0], WAVES.lr), (rates.readout_lr, WAVES.readout_lr)))
        assert mesh[int(across), up.astype(int)].all()


def test_a_curve_is_crossed_in_proportion_and_noise_by_any_change():
    line = lambda rates, n: wavy(rates, n, waves=0)  # η₂ below a constant: no change of η crosses it
    diagonal = lambda rates, n: xr.DataArray(np.multiply.outer(rates.rates(n)[0], rates.rates(n)[1]) < 10**4.6, dims=("lr", "readout_lr"))
    share = turned(border_pairs(diagonal, WAVES, diagonal(WAVES, 49), 0, columns=40, each=100, changes=(1e-2, 1e-3, 1e-8)))
    assert share.values[0] == pytest.approx(10 * share.values[1], rel=0.5) and share.values[0] > 0.1 and share.values[2] == 0
    assert not turned(border_pairs(line, WAVES, line(WAVES, 49), 0)).any()
    coins = np.random.default_rng(1)
    noise = lambda rates, n: xr.DataArray(coins.random((len(rates.lr), n)) < 0.5, dims=("lr", "readout_lr"))
    np.testing.assert_allclose(turned(border_pairs(noise, WAVES, diagonal(WAVES, 49), 0)), 0.5, atol=0.1)


def test_rates_one_by_one_are_trained_like_those_of_a_window():
    window = survey(network(0), WINDOW, 3, 0, steps=40)
    lr, readout_lr = WINDOW.rates(3)
    single = survey(network(0), Rates(lr[[2, 0]], readout_lr[1:]), 2, 0, steps=40)
    np.testing.assert_array_equal(single.loss.values, window.loss.values[[2, 0], 1:])


def test_the_bowl_is_descended_along_its_gradient():
    """By autograd, with ripples so high that a few steps decide; and where it has none the border is at 2."""
    window, start = Window(1.9, 1.7, 0.4), (4.0, 6.5)
    found = bowl_fate(window, 7, 400.0, start, steps=4)
    assert 0.2 < found.mean() < 0.8
    for i, j in np.ndindex(7, 7):
        w, rates = torch.tensor(start, dtype=torch.float64), torch.tensor([found.lr.values[i], found.readout_lr.values[j]])
        loss = lambda w: (w @ w) / 2 + 400 * torch.cos(w[0]) * torch.cos(w[1])
        bounded = True
        for _ in range(4):
            w = w - rates * torch.func.grad(loss)(w)
            bounded &= bool(w @ w < 1e6)
        assert bounded == found.values[i, j]
    plain = bowl_fate(Window(2.0, 2.0, 0.4), 6, 0.0, start)
    np.testing.assert_array_equal(plain.values, np.logical_and.outer(plain.lr.values < 2, plain.readout_lr.values < 2))


def test_the_linearization_is_the_networks_first_order():
    """Its output is f(x; w0) + J dw: compared with a finite difference of the network."""
    task = network(1)
    params = {k: p.double() for k, p in task.model.init(generator(1, "init"), 1.0).items()}
    x = task.part("train", dtype=torch.float64).x
    linear = linearized(task, 1)
    step = {k: 1e-5 * torch.randn(p.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for k, p in params.items()}
    moved = task.model.apply({k: p + step[k] for k, p in params.items()}, x) - task.model.apply(params, x)
    flat = {"a": step["W0"].flatten(), "b": step["W1"].flatten()}
    found = linear.model.apply(flat, linear.data.x.double().T)
    torch.testing.assert_close(found, moved, rtol=1e-3, atol=1e-10)
    torch.testing.assert_close(linear.data.y.double(), task.data.y.double() - task.model.apply(params, x).T, rtol=1e-5, atol=1e-6)


def test_the_linear_threshold_is_where_the_eigenvalue_is_two():
    task = network(2)
    linear = linearized(task, 2)
    x = linear.data.x.double()
    first, last = (part @ part.T / 16 for part in (x[:, :256], x[:, 256:]))
    lr = np.array([0.1, 10.0, 100.0])
    edge = linear_threshold(task, 2, lr)
    for rate, readout in zip(lr, edge):
        assert torch.linalg.eigvalsh(rate * first + readout * last)[-1].item() == pytest.approx(2, rel=1e-4)
    assert np.isnan(linear_threshold(task, 2, 2.1 / torch.linalg.eigvalsh(first)[-1].item()))
    runs = sweep(linear, lr=lr.tolist(), readout_lr=[0.97 * edge[0], 1.03 * edge[0]], seed=0, steps=800, record_every=[0, 800], cache=False)
    assert runs.loss.isel(lr=0, readout_lr=0, seed=0, step=-1) < runs.loss.isel(lr=0, readout_lr=0, seed=0, step=0)
    assert not runs.loss.isel(lr=0, readout_lr=1, seed=0, step=-1) < runs.loss.isel(lr=0, readout_lr=1, seed=0, step=0)


def test_the_cubic_map_triples_the_angle():
    angle = np.linspace(0.1, 1.4, 7)
    orbit = cubic_orbit(np.sqrt(2) * np.cos(angle), 2.0, 6)
    for t in range(7):
        np.testing.assert_allclose(orbit[t], (-1) ** t * np.sqrt(2) * np.cos(3**t * angle), atol=1e-9)


def test_the_cubic_map_is_the_scalar_network_on_its_diagonal():
    fate = scalar_fate(Window(1.0, 1.0, 1.0), 9, start=(0.4, 0.4), steps=100)
    for k, lr in enumerate(fate.lr.values):
        w = cubic_orbit(0.4, lr, 100)
        if np.isfinite(w).all():
            assert fate.late_loss.values[k, k] == pytest.approx(((w[-TAIL:] ** 2 - 1) ** 2).mean() / 2, rel=1e-6, abs=1e-12)
        else:
            assert np.isfinite(fate.diverged_at.values[k, k]) and not fate.inside.values[k, k]


def test_the_scalar_network_is_what_sweep_trains():
    from descent import Task, data, models

    fate = scalar_fate(Window(0.3, 0.3, 1.0), 5, start=(-0.5, 0.8), steps=100)
    loss = lambda w, x: (w[..., 0, :] * w[..., 1, :] - 1).square() / 2
    model = models.Function(loss, dim=2, start=lambda g: torch.tensor([-0.5, 0.8]))
    lr = float(fate.lr.values[2])
    run = sweep(Task(model, data.nothing(2), loss="output"), lr=lr, steps=100, record_every=list(range(81, 101)), dtype=torch.float64, cache=False)
    assert fate.late_loss.values[2, 2] == pytest.approx(float(run.loss.mean()), rel=1e-9, abs=1e-15)
