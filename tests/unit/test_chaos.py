"""Chaotic maps, random recurrent networks and reservoirs, held to closed forms and to autograd."""

import numpy as np
import pytest
import torch

from descent import chaos, models
from descent.seeding import generator


def test_the_logistic_map_at_four_is_the_doubling_of_an_angle():
    u = np.linspace(0.1, 1.4, 7)
    states, slopes = chaos.logistic(np.sin(u) ** 2, 4.0, 12)
    t = np.arange(13)[:, None]
    np.testing.assert_allclose(states, np.sin(2.0**t * u) ** 2, atol=1e-9)
    wanted = np.log(np.abs(2.0**t * np.sin(2.0 ** (t + 1) * u) / np.sin(2 * u)))  # by the chain rule through x0 = sin^2 u
    np.testing.assert_allclose(slopes, wanted, atol=1e-5)


@pytest.mark.parametrize("r", [1.5, 2.8, 4.0])
def test_lyapunov_exponents_of_the_logistic_map(r):
    slopes = chaos.logistic(generator(0, "data").uniform(2000).double().numpy(), r, 400)[1].mean(1)
    assert (slopes[400] - slopes[100]) / 300 == pytest.approx(chaos.logistic_exponent(r), rel=0.01)


@pytest.mark.parametrize("call", [lambda: chaos.logistic_exponent(3.7), lambda: chaos.logistic(0.5, 4.1, 3), lambda: chaos.logistic(1.5, 4.0, 3)])
def test_the_logistic_map_refuses(call):
    with pytest.raises(ValueError, match="r"):
        call()


def test_smoothed_slope_is_the_derivative_of_the_average():
    z, weights = np.polynomial.hermite_e.hermegauss(150)
    weights /= weights.sum()
    F = lambda u, t: np.sin(2.0**t * (u + 0.1 * z)) ** 2 @ weights
    for t in range(4):
        assert chaos.smoothed_slope(0.7, 0.1, t) == pytest.approx((F(0.7 + 1e-5, t) - F(0.7 - 1e-5, t)) / 2e-5, abs=1e-6)
    steps = np.arange(30)
    assert (np.abs(chaos.smoothed_slope(np.linspace(0, 3, 50)[:, None], 0.1, steps)) <= 1 / (0.2 * np.e**0.5)).all()


def test_both_estimates_have_the_smoothed_slope_as_their_mean():
    paths, scores = chaos.slope_estimates(0.7, 0.05, 6, 40000, seed=0)
    wanted = chaos.smoothed_slope(0.7, 0.05, np.arange(7))
    for found in (paths, scores):
        assert (np.abs(found.mean(1) - wanted) < 4.5 * found.std(1) / 200).all()
    z = generator(0, "data").normal(40000).double().numpy()
    np.testing.assert_allclose(paths, 2.0 ** np.arange(7)[:, None] * np.sin(2.0 ** np.arange(1, 8)[:, None] * (0.7 + 0.05 * z)), atol=1e-6)


def test_tangent_growth_is_the_size_of_the_jacobian():
    W, x = 2 * chaos.coupling(20, 0), generator(0, "data").normal(3, 20).double()
    v = generator(1, "data").normal(3, 20).double()

    def run(x):
        for _ in range(9):
            x = torch.tanh(torch.as_tensor(W) @ x)
        return x

    states, growth = chaos.tangent_growth(W, x.numpy(), v.numpy(), 9)
    for i in range(3):
        end, moved = torch.func.jvp(run, (x[i],), (v[i] / v[i].norm(),))
        np.testing.assert_allclose(states[i], end, rtol=1e-9)
        assert growth[-1, i] == pytest.approx(moved.norm().log().item(), rel=1e-9)


def test_lyapunov_spectrum_of_a_contracting_network_is_that_of_its_matrix():
    W = 0.5 * chaos.coupling(30, 1)
    wanted = np.sort(np.log(np.abs(np.linalg.eigvals(W))))[::-1]
    found = chaos.lyapunov_spectrum(W, generator(0, "data").normal(30).double().numpy(), 6000, 30)
    assert found.sum() == pytest.approx(wanted.sum(), rel=1e-6)  # log |det W|
    assert found[0] == pytest.approx(wanted[0], abs=0.01)


def test_gradients_through_time_are_powers_of_the_matrix():
    model = models.RNN(3, 12, 2, 9, activation="linear", start=chaos.unit_radius(12))
    found = chaos.gradients_through_time(model, [0.7, 1.0], [5])
    params = {name: p.double() for name, p in model.init(generator(5, "init")).items()}
    assert torch.linalg.eigvals(params["W"]).abs().max().item() == pytest.approx(1, rel=1e-5)
    for radius in (0.7, 1.0):
        for lag in (0, 1, 8):
            wanted = (params["V"] @ torch.linalg.matrix_power(params["W"], lag) @ params["U"]).norm() * radius**lag
            assert float(found.sel(radius=radius, lag=lag, seed=5)) == pytest.approx(wanted.item(), rel=1e-5)


def test_a_delay_line_remembers_as_many_steps_as_it_has_units():
    drive = 2 * generator(0, "data").uniform(1200).double().numpy() - 1
    shift = np.eye(10, k=-1)
    states = np.zeros((1200, 1, 10))
    for t in range(1200):
        states[t, 0] = shift @ states[t - 1, 0] if t else 0
        states[t, 0, 0] = drive[t]
    # the first unit holds the present input, which does not count
    assert chaos.memory_capacity(states, drive, delays=30)[0] == pytest.approx(9, abs=0.2)
    with pytest.raises(ValueError, match="too few"):
        chaos.memory_capacity(states[:220], drive[:220], delays=30)


def test_reservoirs_run_side_by_side_as_alone_and_feedback_meets_its_aim():
    network = chaos.echo_state(0, size=50, steps=900)
    together, _ = chaos.reservoir([0.5, 1.2], *network)
    alone, gains = chaos.reservoir([1.2], *network)
    np.testing.assert_allclose(together[:, 1], alone[:, 0], rtol=1e-9, atol=1e-12)
    assert (gains == 1.2).all()
    x = np.tanh(1.2 * network[0] @ alone[7, 0] + network[1] * network[2][8])
    np.testing.assert_allclose(alone[8, 0], x, rtol=1e-9)
    # almost without input the branching ratio of a quiet reservoir is gain times spectral radius
    W, _, drive = network
    tuned = chaos.reservoir([0.3], W, 1e-6 * np.ones(50), drive, rate=0.02, aim=0.9)[1]
    assert tuned[-200:].mean() == pytest.approx(0.9, rel=0.03)
