"""Mean-field signal propagation, held to closed forms, adaptive quadrature and wide random networks."""

import numpy as np
import pytest
from scipy.integrate import quad

from descent import theory


def relu_correlation(c):
    """Cho & Saul 2009, the arc-cosine kernel of degree 1."""
    angle = np.arccos(c)
    return (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi


def test_linear_and_relu_maps_have_closed_forms():
    q, c = np.array([0.3, 2.0, 9.0]), np.array([-0.5, 0.2, 0.9])
    np.testing.assert_allclose(theory.variance_map(q, 1.3, 0.4, "linear"), 1.69 * q + 0.16, rtol=1e-9)
    np.testing.assert_allclose(theory.variance_map(q, 1.3, 0.4, "relu"), 1.69 * q / 2 + 0.16, rtol=1e-9)
    np.testing.assert_allclose(theory.correlation_map(c, q, 1.3, 0.0, "linear"), c, rtol=1e-9)
    np.testing.assert_allclose(theory.correlation_map(c, q, 1.3, 0.0, "relu"), relu_correlation(c), atol=2e-3)
    np.testing.assert_allclose(theory.susceptibility(q, 1.3, 0.4, "relu"), 1.69 / 2, rtol=1e-9)
    np.testing.assert_allclose(theory.susceptibility(2.0, 1.3, 0.0, "relu", c), 1.69 * (np.pi - np.arccos(c)) / (2 * np.pi), atol=5e-3)


def test_feature_cosines_iterate_the_closed_form_of_relu_and_keep_linear_ones():
    c = np.array([-0.5, 0.2, 0.9])
    wanted = c
    for layers in (1, 2, 3):
        wanted = relu_correlation(wanted)
        np.testing.assert_allclose(theory.feature_cosines(0.7, c, 1.3, layers, activation="relu"), wanted, atol=4e-3)
    np.testing.assert_allclose(theory.feature_cosines(0.7, c, 1.3, 4, activation="linear"), c, rtol=1e-8)
    # one layer with biases: their variance is shared
    np.testing.assert_allclose(theory.feature_cosines(0.7, c, 1.3, 1, 0.5, "linear"), (1.69 * 0.7 * c + 0.25) / (1.69 * 0.7 + 0.25), rtol=1e-8)


@pytest.mark.parametrize("q", [0.01, 1.0, 16.0])
def test_tanh_maps_are_those_of_adaptive_quadrature(q):
    normal = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    size = quad(lambda z: np.tanh(q**0.5 * z) ** 2 * normal(z), -12, 12, epsabs=1e-12)[0]
    slope = quad(lambda z: np.cosh(q**0.5 * z) ** -4.0 * normal(z), -12, 12, epsabs=1e-12, points=[0])[0]
    np.testing.assert_allclose(theory.variance_map(q, 2.0, 0.1), 4 * size + 0.01, rtol=1e-8)
    np.testing.assert_allclose(theory.susceptibility(q, 2.0), 4 * slope, rtol=1e-8)
    np.testing.assert_allclose(theory.correlation_map(1.0, q, 2.0, 0.1), 1, rtol=1e-6)


def test_a_wide_random_network_follows_the_maps():
    rng, n, weight, bias = np.random.default_rng(0), 4000, 1.7, 0.3
    z = rng.normal(size=(2, n)) * 1.2
    z[1] = 0.6 * z[0] + 0.8 * z[1]
    q, c = 1.44, 0.6
    for _ in range(3):
        W, b = rng.normal(size=(n, n)) * weight / n**0.5, rng.normal(size=n) * bias
        z = np.tanh(z) @ W.T + b
        q, c = theory.variance_map(q, weight, bias), theory.correlation_map(c, q, weight, bias)
        np.testing.assert_allclose((z**2).mean(1), q, rtol=0.1)
        np.testing.assert_allclose(np.corrcoef(z)[0, 1], c, atol=0.06)


def test_fixed_points_and_the_edge_of_chaos():
    weight = np.array([0.5, 1.0, 1.5, 3.0])
    q = theory.variance_fixed_point(weight)
    assert (q[:2] == 0).all()
    np.testing.assert_allclose(theory.variance_map(q, weight), q, atol=1e-10)
    assert ((theory.susceptibility(q, weight) > 1) == (weight > 1)).all()
    np.testing.assert_allclose(theory.correlation_fixed_point(weight), [1, 1, 0, 0], atol=1e-6)
    c = theory.correlation_fixed_point(1.7, 0.3)
    np.testing.assert_allclose(theory.correlation_map(c, theory.variance_fixed_point(1.7, 0.3), 1.7, 0.3), c, atol=1e-8)
    np.testing.assert_allclose(theory.variance_fixed_point([1.0, 1.3, 1.5], 0.3, "relu"), [0.18, 0.09 / (1 - 0.845), np.inf], rtol=1e-9)
    with pytest.raises(ValueError, match="grows without bound"):
        theory.correlation_fixed_point(1.5, 0.3, "relu")


@pytest.mark.parametrize("weight", [0.8, 2.0])
def test_depth_scales_are_the_rates_of_the_iterated_maps(weight):
    bias = 0.3
    xi_q, xi_c = theory.depth_scales(weight, bias)
    q, c = theory.variance_fixed_point(weight, bias), theory.correlation_fixed_point(weight, bias)
    near = q + 1e-4
    rate = (theory.variance_map(near, weight, bias) - q) / 1e-4
    np.testing.assert_allclose(np.log(rate), -1 / xi_q, rtol=1e-2)
    rate = (c - theory.correlation_map(c - 1e-3, q, weight, bias)) / 1e-3
    np.testing.assert_allclose(np.log(rate), -1 / xi_c, rtol=2e-2)


def test_at_the_edge_the_variance_decays_as_one_over_twice_the_depth():
    q = theory.variances(1.0, 1.0, 400)
    np.testing.assert_allclose(2 * np.array([300, 400]) * q[[299, 399]], 1, rtol=0.05)


def test_gradient_sizes_of_linear_networks_have_a_closed_form():
    sizes = theory.gradient_sizes(4.0, 2.0, 10, 3, activation="linear")  # inputs of mean square 1, three factors of 4 shared out
    np.testing.assert_allclose(sizes, np.sqrt(10 * np.full(4, 4.0**3)), rtol=1e-9)


def test_unknown_activations_are_refused():
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        theory.variance_map(1.0, 1.0, activation="gelu")
