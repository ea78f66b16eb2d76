"""Two-layer networks as measures: the density, the Gibbs law, the knots and the convex program against closed forms and general solvers."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from descent import meanfield as mf
from descent.seeding import generator

W = (np.arange(400) + 0.5) / 50 - 4
X = np.array([-1.0, -0.3, 0.4, 1.0])
Y = np.array([1.0, -0.5, 0.2, 0.8])


def gaussian(mean, variance):
    mass = np.exp(-((W - mean) ** 2) / (2 * variance))
    return mass / mass.sum()


# -- the distributional dynamics


def test_ornstein_uhlenbeck_has_its_closed_form():
    k, heat, times = 0.8, 0.1, np.array([0.0, 0.5, 1.0, 3.0])
    found = mf.flow(gaussian(1.5, 0.04), W, lambda mass: k * W**2 / 2, heat, times, dt=0.005)
    mean = found @ W
    variance = found @ W**2 - mean**2
    np.testing.assert_allclose(mean, 1.5 * np.exp(-k * times), atol=0.005)
    np.testing.assert_allclose(variance, heat / k + (0.04 - heat / k) * np.exp(-2 * k * times), atol=0.003)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    assert found.min() >= 0


def test_a_gibbs_law_is_exactly_at_rest():
    potential = np.cos(2 * W) + W**2 / 4
    mass = np.exp(-potential / 0.3)
    mass /= mass.sum()
    np.testing.assert_allclose(mf.flow(mass, W, lambda _: potential, 0.3, [5.0], dt=0.5)[0], mass, atol=1e-14)


def test_without_heat_mass_runs_downhill_at_the_right_speed():
    found = mf.flow(gaussian(-2, 0.04), W, lambda mass: -0.7 * W, 0.0, [2.0], dt=0.01)[0]
    np.testing.assert_allclose(found @ W, -2 + 1.4, atol=0.01)
    np.testing.assert_allclose(found.sum(), 1)


def test_particles_follow_the_gradient_of_the_potential():
    """width * d loss / d w_i = V'(w_i), by autograd and finite differences, for a particle in each of 30 cells."""
    w = np.linspace(-1.8, 1.8, 30)
    task = mf.step_units(30, 3.0, (-1.0, 1.0))
    inputs = torch.tensor((np.arange(800) + 0.5) / 200 - 2)[None]
    weights = torch.tensor(w, requires_grad=True)
    task.losses(task.unflatten(weights[None]), inputs, torch.zeros(800)).sum().backward()
    fine = np.concatenate([w, w + 1e-5, w - 1e-5])
    mass = np.concatenate([np.full(30, 1 / 30), np.zeros(60)])
    V = mf.step_potential(fine, 3.0, (-1.0, 1.0))(mass)
    np.testing.assert_allclose(30 * weights.grad.numpy(), (V[30:60] - V[60:]) / 2e-5, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"w": W**3}, "evenly"), ({"mass": -gaussian(0, 1)}, "negative"), ({"times": [0.15]}, "multiples"), ({"times": [1.0, 0.5]}, "increasing")],
)
def test_flow_refuses_what_makes_no_sense(change, named):
    arguments = dict(mass=gaussian(0, 1), w=W, potential=lambda m: W, temperature=0.1, times=[1.0], dt=0.1)
    with pytest.raises(ValueError, match=named):
        mf.flow(**arguments | change)


# -- the Gibbs law


def test_gibbs_solves_its_own_equation():
    """The residuals that the law was made of are those of its function, and the integrals over neurons are right."""
    penalty, heat = 0.1, 0.05
    law = mf.gibbs(X, Y, penalty, heat)
    np.testing.assert_allclose(law(X) - Y, law.residuals, atol=1e-7)
    # the same by quadrature over (w, b), a integrated out: mean -psi / penalty, weight exp(psi^2 / 2 penalty heat - ...)
    reach = 8 * np.sqrt(heat / penalty)
    w, b = np.meshgrid(*[np.linspace(-reach, reach, 801)] * 2)
    psi = sum(r_j * np.maximum(w * x_j + b, 0) for r_j, x_j in zip(law.residuals, X)) / 4
    weight = np.exp((psi**2 / penalty - penalty * (w**2 + b**2)) / (2 * heat))
    f = (weight * -psi / penalty * np.maximum(w * 0.4 + b, 0)).sum() / weight.sum()
    np.testing.assert_allclose(f, law(np.array([0.4]))[0], atol=2e-3)


def test_cold_gibbs_is_the_convex_optimum_and_pulls_at_most_one():
    inputs = np.stack([X, np.ones(4)], 1)
    law = mf.gibbs(X, Y, 0.02, 1e-7)
    gates = mf.gates_of(inputs, generator(0, "probe").normal(100, 2).double().numpy())
    v = mf.convex_program(inputs, Y, gates, 0.02)
    np.testing.assert_allclose(law.residuals, mf.program_residuals(inputs, Y, v), atol=3e-3)
    assert law.pull.max() < 1
    assert law.pull.max() > 0.999


def test_gibbs_refuses_what_makes_no_sense():
    for change, named in (({"penalty": 0}, "penalty"), ({"temperature": -1.0}, "temperature"), ({"x": np.zeros(4)}, "different"), ({"y": Y[:2]}, "length")):
        with pytest.raises(ValueError, match=named):
            mf.gibbs(**dict(x=X, y=Y, penalty=0.1, temperature=0.1) | change)


# -- networks on a line and their knots


def test_outputs_are_those_of_the_network():
    model = mf.planar_network(7)
    params = model.init(generator(0, "init"), torch.ones(3))
    flat = torch.cat([p.reshape(3, -1) for p in params.values()], 1)
    x = np.linspace(-1, 1, 5)
    wanted = model.apply(params, torch.tensor(np.stack([x, np.ones(5)]), dtype=torch.float32))[:, 0]
    np.testing.assert_allclose(mf.outputs(flat.numpy(), 7, x), wanted, rtol=1e-5, atol=1e-6)
    place, change = mf.kinks(flat.numpy(), 7)
    inside = np.sort(place[0][abs(place[0]) < 1])
    step, k = 1e-4, inside[0]
    # other kinks are farther than the step
    rise = mf.outputs(flat.numpy(), 7, np.array([k - step, k, k + step]))[0]
    np.testing.assert_allclose((rise[0] - 2 * rise[1] + rise[2]) / step, change[0][place[0] == k][0], rtol=1e-3)


def test_knots_of_hand_made_functions():
    x = np.linspace(-1, 1, 5)
    place, change = np.array([-0.5, 0.2, 0.21, 0.7, 3.0]), np.array([1.0, -1.0, -1.0, 0.05, 9.0])
    np.testing.assert_allclose(mf.knots(place, change, x), [-0.5, 0.205])  # 0.7 holds 1.6 %; 3.0 is outside
    np.testing.assert_allclose(mf.knots(place, change, x, share=0.01), [-0.5, 0.205, 0.7])
    # opposite kinks next to each other in one cell cancel, in two cells are two knots
    np.testing.assert_allclose(mf.knots(np.array([0.0, 0.001, 0.5]), np.array([1.0, -1.0, 1.0]), x), [0.5])
    np.testing.assert_allclose(mf.knots(np.array([0.0, 0.1]), np.array([1.0, -1.0]), x), [0.0, 0.1])
    np.testing.assert_array_equal(mf.knots_between(np.array([-0.5, -0.2, 0.1]), x, margin=0.01), [1, 2, 1, 0])
    assert mf.spread(place, change, x) == pytest.approx(0.04)
    smooth = np.linspace(-1, 1, 10_001)
    assert mf.spread(smooth, np.ones(10_001), x) > 0.85
    with pytest.raises(ValueError, match="share=2"):
        mf.knots(place, change, x, share=2)
    with pytest.raises(ValueError, match="cell=0"):
        mf.knots(place, change, x, cell=0)


# -- the convex program


def plane(n, seed=0):
    g = generator(seed, "data")
    return g.normal(n, 2).double().numpy(), g.normal(n).double().numpy()


def test_convex_program_against_a_general_solver():
    inputs, y = plane(5)
    gates, mu = mf.gates_of(inputs, generator(1, "probe").normal(4, 2).double().numpy()), 0.05
    v = mf.convex_program(inputs, y, gates, mu, iterations=20_000)
    sign = np.array([1.0, -1.0])[:, None, None]

    def objective(flat):
        u = flat.reshape(2, 4, 2)
        f = (gates * (u @ inputs.T) * sign).sum((0, 1))
        return np.square(f - y).mean() / 2 + mu * np.sqrt(np.square(u).sum(-1) + 1e-14).sum()

    cone = {"type": "ineq", "fun": lambda flat: ((2 * gates - 1) * (flat.reshape(2, 4, 2) @ inputs.T)).ravel()}
    start = 0.1 * generator(2, "probe").normal(16).double().numpy()
    solved = minimize(objective, start, constraints=[cone], method="SLSQP", options={"maxiter": 2000, "ftol": 1e-12})
    assert ((2 * gates - 1) * (v @ inputs.T)).min() > -1e-6
    np.testing.assert_allclose(objective(v.ravel()), solved.fun, rtol=1e-4)
    np.testing.assert_allclose(mf.network_objective(inputs, y, v, mu), objective(v.ravel()), rtol=1e-5)


def test_one_example_has_a_closed_form():
    """min (c - 2)^2 / 2 + mu c / |x| for one unit along x: c = 2 - mu / |x|."""
    x = np.array([[0.6, 0.8]]) * 1.5
    v = mf.convex_program(x, np.array([2.0]), np.array([[True]]), 0.3, iterations=5000)
    np.testing.assert_allclose(v[0, 0] @ x[0], 2 - 0.3 / 1.5**2 * 1.5, atol=1e-5)
    np.testing.assert_allclose(v[1], 0, atol=1e-8)


def test_the_bound_meets_the_program_and_no_network_goes_below():
    inputs, y = plane(8, seed=3)
    gates, mu = mf.gates_of(inputs, generator(1, "probe").normal(400, 2).double().numpy()), 0.05
    gates = np.unique(gates, axis=0)
    v = mf.convex_program(inputs, y, gates, mu, iterations=20_000)
    best = mf.network_objective(inputs, y, v, mu)
    bound = mf.lower_bound(inputs, y, mf.program_residuals(inputs, y, v), mu)
    assert bound <= best <= bound * 1.001
    # a bound from bad residuals is a bound, too
    assert mf.lower_bound(inputs, y, -y, mu) <= best
    # brute force over directions: the shrunk residuals are allowed
    with pytest.raises(ValueError, match="3 features"):
        mf.lower_bound(np.ones((2, 3)), np.ones(2), np.ones(2), mu)


def test_several_programs_at_once_are_those_one_by_one():
    inputs, y = plane(6)
    gates = mf.gates_of(inputs, generator(1, "probe").normal(3, 5, 2).double().numpy())
    together = mf.convex_program(inputs, y, gates, 0.05, iterations=200)
    for g, v in zip(gates, together):
        np.testing.assert_allclose(mf.convex_program(inputs, y, g, 0.05, iterations=200), v, atol=1e-9)


def test_data_made_for_three_knots_have_them_and_no_pull_above_one():
    x = np.array([-3.0, -2.4, -1.8, -1.2, 1.2, 1.8, 2.4, 3.0])
    for at in (0.2, 0.9):
        law = mf.gibbs(x, mf.three_knots(x, 3, at, 0.01), 0.01, 1e-6)
        found = mf.knots(*law.kinks, x, cell=0.01)
        assert mf.knots_between(found, x, margin=0.12).max() == 3
        assert abs(found - (-1.2 + 2.4 * at)).min() < 0.03 and law.pull.max() <= 1
    with pytest.raises(ValueError, match="nowhere more"):
        mf.three_knots(x, 3, 0.5, 0.01)


def test_descent_ends_at_the_optimum_of_the_convex_program():
    g = generator(3, "data")
    inputs, targets = g.normal(6, 3).double().numpy(), g.normal(6).double().numpy()
    gates = np.unique(mf.gates_of(inputs, g.normal(4000, 3).double().numpy()), axis=0)
    best = mf.network_objective(inputs, targets, mf.convex_program(inputs, targets, gates, 0.05, iterations=4000), 0.05)
    assert mf.descended(100, inputs, targets, 0.05, rates=(0.3, 1.0), seed=[0, 1]) == pytest.approx(best, rel=0.01)
