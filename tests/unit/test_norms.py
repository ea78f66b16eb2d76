"""Norms of float32 numbers whose squares leave float32, against float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent import Task, data, models, sweep
from descent.norms import clipped, in_range, norm
from descent.probes import noise
from descent.seeding import generator

exponents = st.floats(-36, 37)


@given(exponents, st.integers(1, 40), st.integers(0, 9))
def test_norm_and_clipping_agree_with_float64(exponent, size, seed):
    v = generator(seed, "probe").normal(2, size) * 10.0**exponent
    found, right = norm(v), v.double().norm(dim=1)
    np.testing.assert_allclose(found, right, rtol=1e-6)
    for most in (1e-3 * right.min().item(), right.mean().item(), math.inf):
        factor = (most / right[:, None]).clamp(max=1.0)
        np.testing.assert_allclose(clipped(v, torch.full((2, 1), most)), v.double() * factor, rtol=1e-5, atol=1e-37)


@given(st.floats(-12, 15), st.integers(1, 3000))
def test_ordinary_numbers_keep_their_bits(exponent, size):
    v, most = generator(0, "probe").normal(3, size) * 10.0**exponent, torch.full((3, 1), 10.0**exponent)
    plain = v.norm(dim=1)
    if in_range(plain, size).all():
        assert torch.equal(norm(v), plain) and torch.equal(clipped(v, most), v * (most / plain[:, None]).clamp(max=1.0))


def test_the_range_covers_what_training_meets():
    assert in_range(torch.tensor([1e-12, 1e15]), 100_000).all() and in_range(torch.tensor([1e-100, 1e100], dtype=torch.float64), 100_000).all()


def test_norms_of_nothing_and_of_no_number():
    v = torch.tensor([[0.0, 0.0], [math.inf, 1.0], [math.nan, 1.0], [3e38, 3e38]])
    assert norm(v).tolist()[:2] == [0, math.inf] and norm(v)[2].isnan() and norm(v)[3] == math.inf  # 4.2e38 is no float32
    assert clipped(v, torch.ones(4, 1))[0].tolist() == [0, 0] and not clipped(v, torch.ones(4, 1))[1:3].isfinite().all(1).any()
    assert clipped(v, torch.ones(4, 1))[3].tolist() == pytest.approx([0.5**0.5] * 2)  # and yet it can be clipped


@pytest.mark.parametrize("optimizer", ["sgd", "heavy_ball", "nesterov"])
@pytest.mark.parametrize("size", [1.0, 1e18, 1e20, 3e37])
def test_a_steep_gradient_is_clipped_to_the_norm_it_may_have(size, optimizer):
    task = Task(models.Quadratic((size, size), start=(1.0, 1.0)), data.nothing(2), "output")
    more = {"momentum": 0.0} if optimizer in ("heavy_ball", "nesterov") else {}
    ds = sweep(task, lr=0.1, clip=[1.0, 0.5], optimizer=optimizer, steps=1, record="weights", cache=False, **more)
    np.testing.assert_allclose(ds.weights.values[:, 0, -1], [[1 - 0.1 * c / 2**0.5] * 2 for c in (1, 0.5)], rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop", "adam", "adamw"])
def test_rules_that_square_the_gradient(optimizer):
    """A square that overflows is divergence, not a network that stands still; a gradient clipped before does no harm."""
    task = Task(models.Quadratic((1e20, 1e20), start=(1.0, 1.0)), data.nothing(2), "output")
    ds = sweep(task, lr=0.01, optimizer=optimizer, steps=5, record="weights", cache=False)
    assert ds.diverged_at.item() <= 2
    ds = sweep(task, lr=0.01, optimizer=optimizer, clip=1.0, steps=5, record="weights", cache=False)
    assert np.isnan(ds.diverged_at.item()) and (ds.weights.values[0, -1] < 0.99).all()


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-10, 1.0, 1e15, 1e18])  # from 1e19 on the loss itself is infinite
def test_probes_of_norms(size):
    task = Task(models.Quadratic((1.0, 1.0), start=(size, 2 * size)), data.nothing(2), "output")
    ds = sweep(task, lr=0.5, steps=1, record=["gradient_norm", "weight_norm", "distance", "overlap"], cache=False)
    start = 5**0.5 * size
    for name, right in {"gradient_norm": [start, start / 2], "weight_norm": [start, start / 2], "distance": [0, start / 2]}.items():
        np.testing.assert_allclose(ds[name].values[0], right, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(ds.overlap.values[0], [1, 0.5], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e10])
def test_the_noise_scale_does_not_know_the_size_of_the_gradient(size):
    """Inputs and targets times s make the gradients s^2 times as large, and their relative spread the same."""
    d = data.linear_regression(20, [1.0, 2.0, 3.0], noise=0.5)
    scales = []
    for s in (1.0, size):
        task = Task(models.DeepLinear((3, 1)), data.Data("scaled", s * d.x, s * d.y), "mse")
        w = task.flatten(task.model.init(generator(0, "init"), torch.ones(2)), 1)
        scales.append(noise.noise_scale(task, w))
    np.testing.assert_allclose(*scales, rtol=1e-4)


def test_gradients_that_vanish_through_layers_have_a_size():
    """A deep linear network: the gradient in a matrix is that at init scale 1, times the scale of the other matrices."""
    task = Task(models.DeepLinear((3, 4, 4, 2)), data.gaussian(10, 3), "cross_entropy")
    ds = sweep(task, init_scale=[1e-12, 1.0], steps=1, record="layer_gradient_size", record_every=[0], cache=False)
    small, right = ds.layer_gradient_size.values[:, 0, 0].astype(float)
    np.testing.assert_allclose(small / 1e-24, right, rtol=1e-5)
