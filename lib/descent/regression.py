"""Linear regression, where everything about gradient descent is known in advance."""

from __future__ import annotations

import numpy as np

from descent import theory
from descent.data import Data
from descent.models import MLP
from descent.task import Task


class LeastSquares:
    """A linear model with squared error on the given data; class labels become one-hot targets.

    The loss is quadratic. Its Hessian is the second-moment matrix of the inputs (with the
    constant 1 appended if there is a bias), once for each output.

    Attributes:
        task: the `Task` to train.
        eigenvalues: of the second-moment matrix, descending, (features,), float64.
        axes: its eigenvectors, columns of (features, features).
        positive: the eigenvalues that are not zero up to rounding.
        minimizer: weights (features, outputs) of least norm with the least loss.
        least: the least loss.
    """

    def __init__(self, data: Data, bias: bool = True) -> None:
        x = data.x.double().numpy().reshape(len(data), -1)
        y = data.y.double().numpy() if data.classes is None else np.eye(data.classes)[data.y.numpy()]
        self.task = Task(MLP((x.shape[1], y.shape[1]), activation="linear", bias=bias), data, "mse")
        x = np.c_[x, np.ones(len(x))] if bias else x
        self.bias = bias
        self.axes, self.eigenvalues, _ = np.linalg.svd(x.T @ x / len(x))
        self.positive = self.eigenvalues[self.eigenvalues > 1e-9 * self.eigenvalues[0]]
        self.minimizer = np.linalg.lstsq(x, y)[0]
        self.least = np.square(x @ self.minimizer - y).sum(1).mean() / 2

    def gd_loss(self, weights: np.ndarray, lr: float, step: np.ndarray) -> np.ndarray:
        """Loss of gradient descent after the given numbers of steps, (steps,), exactly.

        Args:
            weights: the start, as the probe "weights" records it, (P,).
        """
        features, outputs = self.minimizer.shape
        w = weights[: outputs * (features - self.bias)].reshape(outputs, -1)
        w = np.c_[w, weights[w.size :]] if self.bias else w
        return self.least + theory.gd_loss(self.eigenvalues, (w - self.minimizer.T) @ self.axes, lr, step).sum(0)
