"""Chaotic maps, random recurrent networks and reservoirs, held to closed forms and to autograd."""

import numpy as np
import pytest
import torch

from descent import Task, chaos, data, models
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


@pytest.mark.parametrize(("steps", "width"), [(1, 0.3), (6, 0.1)])
def test_descents_follow_the_gradient_of_the_blurred_objective_on_average(steps, width):
    exact, values = chaos.descents(1.1, 0.7, width, steps, lr=0.2, updates=1, samples=400, runs=200, seed=3)
    wanted = 1.1 - 0.2 * (chaos.smoothed_slope(1.1, width, steps) + 1.1 - 0.7)
    for path in (exact, values):
        assert path.shape == (2, 200) and (path[0] == 1.1).all()
        assert abs(path[1].mean() - wanted) < 4.5 * path[1].std() / 200**0.5
    # one sample each is one estimate, whose spread `slope_estimates` knows
    singles = chaos.descents(0.7, 0.7, width, steps, lr=1.0, updates=1, samples=1, runs=20000, seed=3)
    for path, estimates in zip(singles, chaos.slope_estimates(0.7, width, steps, 20000, seed=4)):
        assert path[1].std() == pytest.approx(estimates[-1].std(), rel=0.03)


def test_one_unit_has_a_cliff_of_the_slope_of_a_geometric_series():
    task = chaos.one_unit(12)
    params = task.model.init(generator(7, "init"))
    w, b = params["w"].double()
    assert 1.5 <= w <= 2 and -0.3 <= b <= -0.05
    part = task.part("train", dtype=torch.float64)
    assert task.example_losses({"w": torch.stack([w, b])}, part.x, part.y).item() == pytest.approx(float(chaos.unit_loss(w, b, 12)), rel=1e-6)
    # at b = 0 the state is 0 and d state / d b = 1 + w + ... + w^11, times the residual -1/2
    slope = (chaos.unit_loss(1.5, 1e-7, 12) - chaos.unit_loss(1.5, -1e-7, 12)) / 2e-7
    assert slope == pytest.approx(-0.5 * (1.5**12 - 1) / 0.5, rel=1e-4)
    assert chaos.unit_loss(0.3, 0.2, 2) == pytest.approx((np.tanh(0.3 * np.tanh(0.2) + 0.2) - 0.5) ** 2 / 2)


def test_readout_curvature_is_the_top_eigenvalue_of_the_readouts_hessian():
    task = Task(models.RNN(2, 6, 1, 5), data.adding(40, 5), "mse")
    params, part = task.model.init(generator(2, "init"), 1.3), task.part("train")

    def loss(readout):
        return task.example_losses(params | {"V": readout[None, :-1], "c": readout[-1:, None]}, part.x, part.y).mean()

    hessian = torch.func.hessian(loss)(torch.cat([params["V"][0], params["c"][0]]))
    assert chaos.readout_curvature(task, 1.3, [2])[0] == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-5)


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


def test_gradients_through_time_are_powers_of_the_matrix():
    model = models.RNN(3, 12, 2, 9, activation="linear", start=chaos.unit_radius(12))
    found = chaos.gradients_through_time(model, [0.7, 1.0], [5])
    params = {name: p.double() for name, p in model.init(generator(5, "init")).items()}
    assert torch.linalg.eigvals(params["W"]).abs().max().item() == pytest.approx(1, rel=1e-5)
    for radius in (0.7, 1.0):
        for lag in (0, 1, 8):
            wanted = (params["V"] @ torch.linalg.matrix_power(params["W"], lag) @ params["U"]).norm() * radius**lag
            assert float(found.sel(radius=radius, lag=lag, seed=5)) == pytest.approx(wanted.item(), rel=1e-5)


def test_driven_gradients_through_time_carry_the_slopes_of_the_states():
    model = models.RNN(2, 8, 3, 6, start=chaos.unit_radius(8))
    found = chaos.gradients_through_time(model, [1.3], [4], drive=1.5)
    params = {name: p.double() for name, p in model.init(generator(4, "init"), 1.3).items()}
    x = 1.5 * generator(4, "data").normal(6, 2).double()
    J, states = params["V"], model.states(params, x[..., None])
    for lag in range(6):
        J = J @ torch.diag(1 - states[-1 - lag][:, 0] ** 2)
        assert float(found.sel(radius=1.3, seed=4, lag=lag)) == pytest.approx((J @ params["U"]).norm().item(), rel=1e-6)
        J = J @ params["W"]
    assert chaos.largest_stretch(model, [1.3], [4])[0, 0] == pytest.approx(np.linalg.svd(params["W"], compute_uv=False)[0], rel=1e-5)


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
