"""Second-order regression, starts drawn by a function, the data made for them."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, plots, sweep
from descent.seeding import generator


def symmetric(outputs, dim, seed=0):
    Q = torch.randn(outputs, dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Q + Q.mT


def test_outputs_against_a_loop():
    Q, J = symmetric(3, 5), torch.randn(3, 5, dtype=torch.float64)
    w = torch.randn(4, 5, dtype=torch.float64)
    z = models.SecondOrderRegression(Q, J).apply({"w": w}, torch.zeros(1, 2))
    assert z.shape == (4, 3, 2)
    for k in range(4):
        for i in range(3):
            expected = J[i] @ w[k] + w[k] @ Q[i] @ w[k] / 2
            torch.testing.assert_close(z[k, i], expected.expand(2))


def test_a_step_of_gradient_descent_by_hand():
    eps, lr, start = 0.1, 0.3, (1.2, 2.0)
    model = models.SecondOrderRegression(torch.tensor([[[1.0, 0.0], [0.0, -eps]]], dtype=torch.float64), start=start)
    ds = sweep(Task(model, data.targets([0.5]), loss="mse"), lr=lr, steps=1, record=["weights", "ntk_eigenvalue"],
               record_every=1, dtype=torch.float64, cache=False)  # fmt: skip
    a, b = start
    residual = (a * a - eps * b * b) / 2 - 0.5
    np.testing.assert_allclose(ds.weights.values[0, 1], [a - lr * residual * a, b + lr * residual * eps * b])
    np.testing.assert_allclose(ds.ntk_eigenvalue.values[0, 0], a * a + eps**2 * b * b)


def test_random_and_saddle_models():
    made, again = (models.SecondOrderRegression.random(4, 50, seed=1) for _ in range(2))
    assert torch.equal(made.quadratic, again.quadratic)
    assert made.linear.std().item() == pytest.approx(50**-0.5, rel=0.15)
    assert made.quadratic.std().item() == pytest.approx(1 / (50 * 2**0.5), rel=0.1)
    z = models.SecondOrderRegression.saddle(0.1).apply({"w": torch.tensor([2.0, 3.0], dtype=torch.float64)}, torch.zeros(1, 1))
    assert z.item() == pytest.approx((4 - 0.1 * 9) / 2)


def test_a_scalar_network_moves_by_the_gradient_of_its_product():
    task = Task(models.ScalarNetwork(3), data.nothing(1), loss="output")
    w = sweep(task, lr=0.1, steps=1, record="weights", record_every=1, dtype=torch.float64, cache=False).weights.values[0]
    assert np.log(w[0]) == pytest.approx([-0.8, 0.0, 0.8], abs=0.25)
    np.testing.assert_allclose(w[1], w[0] - 0.1 * (w[0].prod() - 1) * w[0].prod() / w[0])


def test_a_start_drawn_by_a_function_depends_on_the_seed_alone():
    model = models.Function(lambda w, x: w.square().sum(-2) + 0 * x.sum(-2), dim=2, features=1, start=lambda g: g.uniform(2) + 1)
    task = Task(model, data.nothing(1), loss="output")
    run = dict(steps=1, record="weights", record_every=1, cache=False)
    together, alone = sweep(task, seed=[0, 1], **run), sweep(task, seed=[1], **run)
    assert (together.weights.values[:, 0] >= 1).all()
    np.testing.assert_array_equal(together.weights.values[1], alone.weights.values[0])


@pytest.mark.parametrize(("make", "words"), [
    (lambda: models.SecondOrderRegression(torch.ones(2, 3)), "outputs, dim, dim"),
    (lambda: models.SecondOrderRegression(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])), "symmetric"),
    (lambda: models.SecondOrderRegression(symmetric(2, 3), torch.ones(2, 2)), "linear"),
    (lambda: models.SecondOrderRegression(symmetric(2, 3), start=(1.0,)), "3 weights"),
    (lambda: models.Function(None, 2, start=lambda g: torch.zeros(3)).init(generator(0, "init")), "2 weights"),
    (lambda: data.targets([float("nan")]), "finite"),
    (lambda: data.sparse_regression(10, 5, 6), "support=6"),
    (lambda: plots.images({"a": np.zeros((1, 2, 2)), "b": np.zeros((1, 3, 3))}, alt="a", caption="b"), "one size"),
])  # fmt: skip
def test_refuses(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_sparse_regression():
    made = data.sparse_regression(50, 20, 4, seed=3)
    truth = torch.linalg.lstsq(made.x, made.y).solution[:, 0]
    assert truth[:4].abs().numpy() == pytest.approx(np.ones(4), abs=1e-4)
    assert truth[4:].abs().max() < 1e-4


def test_images_draw_every_row():
    figure = plots.images({"threes": np.eye(8)[None], "fives": np.zeros((2, 8, 8))}, alt="a three and two fives", caption="Three digits.")
    assert "threes" in figure.svg and "fives" in figure.svg and figure.svg == plots.images(
        {"threes": np.eye(8)[None], "fives": np.zeros((2, 8, 8))}, alt="a three and two fives", caption="Three digits.").svg
