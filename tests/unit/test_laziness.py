"""Wrappers, closed forms and the perceptron of the chapter on lazy and rich training, against independent oracles."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from sklearn.linear_model import LinearRegression

from descent import Task, data, models, sweep
from descent.laziness import (
    descend_perceptron,
    fit_perceptron,
    linearized,
    pair_flow,
    probe_accuracy,
    projection,
    rank_alignment,
    relative_distance,
    start,
)
from descent.probes import features
from descent.seeding import generator

SMALL = data.parity(data.digits(train=20, test=15), signs=True)
F64 = dict(dtype=torch.float64, cache=False)


def test_the_output_scale_is_chizats_rescaling():
    """u / a follows gradient descent on the loss over a^2 with the output a (h(w) - h(w_0)), computed by plain autograd."""
    a, lr, steps, plain = 5.0, 0.05, 30, models.MLP((64, 8, 1))
    run = sweep(Task(models.LazyMLP((64, 8, 1)), SMALL, loss="mse"), lr=lr, init_scale=a, steps=steps, record=["loss", relative_distance], record_every=steps, **F64)
    w = {n: p.double().requires_grad_() for n, p in plain.init(generator(0, "init")).items()}
    w0, x, y = {n: p.detach().clone() for n, p in w.items()}, SMALL.x.double().T, SMALL.y.double().T
    for _ in range(steps + 1):
        loss = ((a * (plain.apply(w, x) - plain.apply(w0, x)) - y) ** 2).mean() / 2
        moved = sum((w[n] - w0[n]).square().sum() for n in w) ** 0.5 / sum(p.square().sum() for p in w0.values()) ** 0.5
        gradients = torch.autograd.grad(loss / a**2, list(w.values()))
        w = {n: (p - lr * g).detach().requires_grad_() for (n, p), g in zip(w.items(), gradients)}
    assert float(run.loss[0, -1]) == pytest.approx(loss.item(), rel=1e-5)
    assert float(run.relative_distance[0, -1]) == pytest.approx(moved.item(), rel=1e-4)


@pytest.mark.parametrize("batch_size", [None, 5])
def test_its_written_gradient_is_autograds(batch_size):
    words = dict(lr=0.1, init_scale=[0.3, 3.0], seed=[0, 1], batch_size=batch_size, steps=20, record=["loss", "weights"], record_every=20, **F64)
    for model in (models.LazyMLP((64, 6, 5, 1), activation="relu"), models.StartedMLP((64, 6, 1), activation="linear", bias=False, first=projection(6, 64, 3))):
        task = Task(model, SMALL, loss="mse")
        one, other = (sweep(task, autograd=by, **words) for by in (True, False))
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-8)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-9)


def test_what_is_kept_stays():
    run = sweep(Task(models.LazyMLP((64, 4, 1)), SMALL, loss="mse"), lr=0.1, init_scale=2.0, steps=10, record="weights", record_every=10, cache=False)
    P = (run.sizes["parameter"] - 1) // 2
    first, last = run.weights.values[0]
    assert not np.array_equal(first[:P], last[:P]) and np.array_equal(first[P:], last[P:]) and last[-1] == 2.0


def test_linearized_is_gradient_descent_on_a_linear_model():
    """For a network without hidden layer the linearization is the network; and a test prediction is least squares at the end."""
    x = generator(1, "data").normal(40, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    line = Task(models.LazyMLP((3, 1), activation="linear", bias=False), data.Data("line", x[:30], y[:30], x_test=x[30:], y_test=y[30:]), loss="mse")
    run = sweep(line, lr=0.1, seed=[0, 1], steps=500, record=["loss", "test_loss"], record_every=[0, 7, 500], **F64)
    found = linearized(line, start(line, [0, 1]).double(), 0.1, [0, 7, 500])
    np.testing.assert_allclose(found.loss[:, :2], run.loss[:, :2], rtol=1e-5)
    ends = LinearRegression(fit_intercept=False).fit(x[:30], y[:30]).predict(x[30:])[:, 0]
    np.testing.assert_allclose(found.test_outputs[:, -1], [ends, ends], atol=1e-4)
    with pytest.raises(ValueError, match="hinge"):
        linearized(Task(models.LazyMLP((3, 1)), data.half_space(10, 3), loss="hinge"), torch.zeros(1, 9), 0.1, [0])


@pytest.mark.parametrize("kernel", [0.01, 1.0, 7.0])
def test_the_pair_against_an_integrator(kernel):
    a, b = np.array([1.0, 2.0]), np.array([-2.0, 1.0])
    a, b = (v * (kernel / 10) ** 0.5 for v in (a, b))
    flow = solve_ivp(lambda t, w: (1 - w[:2] @ w[2:]) * np.concatenate([w[2:], w[:2]]), (0, 5), [*a, *b], t_eval=[0, 1, 5], rtol=1e-10, atol=1e-12)
    f, K = pair_flow(flow.t, kernel)
    np.testing.assert_allclose(f, (flow.y[:2] * flow.y[2:]).sum(0), atol=1e-7)
    np.testing.assert_allclose(K, (flow.y**2).sum(0), rtol=1e-6)
    assert pair_flow(np.array([1e6]), kernel)[0] == 1
    with pytest.raises(ValueError, match="kernel=0"):
        pair_flow(flow.t, 0)


def test_rank_alignment_against_the_flow_of_both_matrices():
    dim, hidden, rank, norm = 4, 3, 2, 1.5
    beta, W = np.array([0.6, 0.0, 0.8, 0.0]), norm * projection(hidden, dim, rank)(generator(3, "init")).double().numpy()
    share = np.square(np.linalg.svd(W)[2][:rank] @ beta).sum()

    def flow(t, w):
        W, v = w[:-hidden].reshape(hidden, dim), w[-hidden:]
        error = beta - W.T @ v
        return np.concatenate([np.outer(v, error).ravel(), W @ error])

    end = solve_ivp(flow, (0, 60), [*W.ravel(), *np.zeros(hidden)], rtol=1e-9, atol=1e-11).y[:, -1]
    after = end[:-hidden].reshape(hidden, dim)
    before, after = W.T @ W, after.T @ after + end[-hidden:] @ end[-hidden:] * np.eye(dim)
    cosine = (before * after).sum() / np.linalg.norm(before) / np.linalg.norm(after)
    assert rank_alignment(rank, share, norm, dim) == pytest.approx(cosine, abs=1e-5)


def test_a_projection_has_its_rank_norm_and_direction():
    along = np.array([0.0, 3.0, 4.0])
    W = projection(5, 3, 2, along)(generator(0, "init")).double().numpy()
    np.testing.assert_allclose(np.linalg.svd(W)[1], [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    assert np.linalg.norm(np.linalg.svd(W)[2][:2] @ along) == pytest.approx(5, rel=1e-6)
    noisy = torch.stack([projection(5, 3, 2, along, noise=0.3)(generator(s, "init")) - projection(5, 3, 2, along)(generator(s, "init")) for s in range(200)])
    assert float(noisy.square().sum((1, 2)).mean()) == pytest.approx(0.3**2, rel=0.1)
    assert (noisy != 0).all()
    with pytest.raises(ValueError, match="rank=4"):
        projection(5, 3, 4)
    with pytest.raises(ValueError, match="noise=-1"):
        projection(5, 3, 2, noise=-1)
    with pytest.raises(ValueError, match="shape"):
        Task(models.StartedMLP((3, 4, 1), first=projection(5, 3, 2)), data.whitened(4, 3, along), loss="mse")


def test_data():
    points = data.whitened(12, 3, [1.0, 0.0, 2.0])
    np.testing.assert_allclose(points.x.T @ points.x / 12, np.eye(3), atol=1e-12)
    assert torch.equal(data.sign_product(50, 4).y, (data.sign_product(50, 4).x[:, :2].prod(1) > 0).long())
    assert torch.equal(SMALL.y[:, 0], 2.0 * (data.digits(train=20, test=15).y % 2) - 1)
    for careless in (lambda: data.whitened(2, 3, [1.0] * 3), lambda: data.half_space(0, 3), lambda: data.sign_product(5, 1), lambda: data.parity(SMALL)):
        with pytest.raises(ValueError):
            careless()


def test_skipping_the_idle_steps_leaves_the_law_as_it_is():
    """Final weight norms of 100 perceptrons: the engine's own SGD, step by step, against the simulation that skips."""
    points, runs = data.half_space(30, 5, seed=4), 100
    line = Task(models.MLP((5, 1), activation="linear", bias=False), points, loss="hinge")
    engine = sweep(line, lr=1.0, batch_size=2, init_scale=0.0, seed=range(runs), sampling="replacement", steps=4000, record=["loss", "weight_norm"], record_every=4000, cache=False).isel(step=-1)
    assert float(engine.loss.max()) == 0
    skipped = fit_perceptron(points.x.expand(runs, -1, -1), torch.ones(runs), seed=1)
    deviation = float(engine.weight_norm.std()) / runs**0.5
    assert abs(float(engine.weight_norm.mean()) - float(skipped.norm.mean())) < 5 * deviation
    assert skipped.norm.log().std().item() == pytest.approx(float(np.log(engine.weight_norm).std()), rel=0.4)
    assert torch.isnan(fit_perceptron(points.x[None], torch.tensor([1e-6]), seed=1, updates=10).norm).all()


def test_descent_of_a_perceptron_against_step_by_step():
    points = torch.stack([data.half_space(30, 5, seed=s).x for s in range(4)])
    rates = torch.tensor([0.03, 0.3, 3.0, 30.0])
    fitted = descend_perceptron(points, rates)
    for x, lr, signal, noise, steps in zip(points.double().numpy(), rates.tolist(), *fitted):
        w, signed, count = np.zeros(5), x * np.sign(x[:, :1]), 0
        while (short := signed @ w < 1).any():
            w, count = w + lr * signed[short].sum(0) / 30, count + 1
        assert count == int(steps)
        np.testing.assert_allclose([w[0], np.linalg.norm(w[1:])], [signal, noise], rtol=1e-6)
    assert torch.isnan(descend_perceptron(points, rates, changes=1).norm).all()


def test_a_student_and_its_teacher():
    digits = data.digits(train=100, val=100, test=100)
    task = Task(models.DistilledMLP((64, 8, 4), activation="relu"), digits, loss="output")
    run = sweep(task, lr=0.01, optimizer="adam", seed=[0, 1], steps=50, record=["loss", probe_accuracy], record_every=50, cache=False)
    assert (run.loss[:, -1] < run.loss[:, 0]).all()
    np.testing.assert_array_equal(run.probe_accuracy[:, 0, 1], run.probe_accuracy[:, -1, 1])  # the teacher does not move
    blind = data.Data("labels lost", digits.x, 0 * digits.y, digits.x_val, digits.y_val, digits.x_test, digits.y_test)
    words = dict(lr=0.01, optimizer="adam", seed=[0, 1], steps=1, record=probe_accuracy, cache=False)
    np.testing.assert_array_equal(sweep(Task(task.model, blind, loss="output"), **words).probe_accuracy[:, 0], run.probe_accuracy[:, 0])
    params = task.unflatten(start(task, [0]))
    for i in (0, 1):  # student and teacher: least squares onto the signs of the classes, with the ridge of one
        a, b = (task.model.outputs(params, x.T)[i][0].T.double().numpy() for x in (digits.x_val, digits.x_test))
        b, a = (b - a.mean(0)) / a.std(0), (a - a.mean(0)) / a.std(0)
        signs = 2.0 * np.eye(10)[digits.y_val] - 1
        W = np.linalg.solve(a.T @ a + np.eye(4), a.T @ (signs - signs.mean(0)))
        assert float(run.probe_accuracy[0, 0, i]) == pytest.approx((np.argmax(b @ W + signs.mean(0), 1) == digits.y_test.numpy()).mean(), abs=1e-6)
    student, teacher = task.model.outputs(params, task.part("train").x)
    oracle = torch.nn.functional.cross_entropy(student[0].T, teacher[0].T.softmax(1))
    assert float(run.loss[0, 0]) == pytest.approx(float(oracle), rel=1e-5)


def test_kernel_change_and_alignment():
    g = generator(0, "data")
    a, y = g.normal(2, 6, 6).double(), g.normal(3, 6).double()
    np.testing.assert_allclose(features.kernel_change(3 * a, a), 2)
    C = np.eye(6) - 1 / 6
    centred, target = C @ a[0].numpy() @ C, C @ (y.T @ y).numpy() @ C
    expected = (centred * target).sum() / np.linalg.norm(centred) / np.linalg.norm(target)
    assert float(features.kernel_alignment(a, y)[0]) == pytest.approx(expected)
    task = Task(models.MLP((64, 8, 10)), data.digits(train=20))
    run = sweep(task, lr=0.1, steps=10, record=["kernel_alignment", "kernel_change", "weights"], record_every=10, **F64)
    kernels = features.ntk(task, torch.tensor(run.weights.values[0]), task.part("train", dtype=torch.float64).x, trace=True)
    one_hot = torch.nn.functional.one_hot(task.data.y).double().T
    np.testing.assert_allclose(run.kernel_alignment[0], features.kernel_alignment(kernels, one_hot), rtol=1e-5)
    assert run.kernel_change[0, 0] == 0 and run.kernel_change[0, 1] > 0
