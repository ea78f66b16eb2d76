"""Linear regression: predicted curves against training, curvature against the probe."""

import numpy as np
import pytest
import torch

from descent import data, sweep
from descent.regression import LeastSquares


@pytest.mark.parametrize(
    ("problem", "bias"), [(data.digits(train=200), True), (data.linear_regression(30, [1.0] * 8, noise=0.5), False)]
)
def test_predicted_losses_are_the_trained_ones(problem, bias):
    fit = LeastSquares(problem, bias=bias)
    lr = 1.5 / fit.eigenvalues[0]
    run = sweep(fit.task, lr=lr, steps=50, record=["loss", "weights"], record_every=5, seed=[0, 1], dtype=torch.float64, cache=False)
    for seed in range(2):
        predicted = fit.gd_loss(run.weights[seed, 0].values, lr, run.step.values)
        np.testing.assert_allclose(run.loss[seed], predicted, rtol=1e-9)
    assert (run.loss >= fit.least).all()


def test_the_largest_eigenvalue_is_the_sharpness():
    fit = LeastSquares(data.digits(train=200))
    run = sweep(fit.task, lr=0.01, steps=1, record=["sharpness"], dtype=torch.float64, cache=False)
    assert float(run.sharpness[0, 0]) == pytest.approx(fit.eigenvalues[0], rel=1e-3)
    assert fit.positive.size < fit.eigenvalues.size, "some pixels are always blank"
