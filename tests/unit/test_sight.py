"""What networks get to see of their data, and the noise in their steps, against plain loops and closed forms."""

import numpy as np
import pytest
import torch

from descent import Task, data, models, optimizers, seeding, sweep

LINE = Task(models.MLP((6, 1), activation="linear", bias=False), data.linear_regression(20, [1.0] * 6, noise=0.1), "mse")
BOWL = Task(models.Quadratic((1.0, 4.0)), data.nothing(2), "output")


def train(task, **arguments):
    return sweep(task, **({"record": "weights", "cache": False, "dtype": torch.float64} | arguments))


def plain(task, lr, steps, seed, examples):
    """Gradient descent on the squared error of a linear network, (steps + 1, dim); examples(t) are x (n, dim), y (n,)."""
    w = task.model.init(seeding.Generator(seeding.key(seed, "init"), dtype=torch.float64))["W0"][0].numpy()
    path = [w]
    for t in range(steps):
        x, y = (np.asarray(a, float) for a in examples(t))
        w = w - lr * x.T @ (x @ w - y) / len(y)
        path.append(w)
    return np.stack(path)


def test_label_noise_is_new_at_every_step_and_of_its_size():
    ds = train(LINE, lr=[0.05, 0.1], label_noise=0.3, seed=[3, 4], steps=20, record_every=1)
    x, y = (t.double().numpy() for t in (LINE.data.x, LINE.data.y[:, 0]))

    def noisy(seed):
        draw = lambda t: seeding.normals(seeding.key(torch.tensor(seed), "labels"), torch.tensor(t + 1), len(y)).double().numpy()
        return lambda t: (x, y + 0.3 * draw(t))

    for lr in (0.05, 0.1):
        for seed in (3, 4):
            np.testing.assert_allclose(ds.weights.sel(lr=lr, seed=seed), plain(LINE, lr, 20, seed, noisy(seed)), rtol=1e-6, atol=1e-8)
    quiet = train(LINE, lr=0.1, label_noise=[0.0, 0.3], seed=3, steps=20)
    np.testing.assert_allclose(quiet.weights.sel(label_noise=0.0), train(LINE, lr=0.1, seed=3, steps=20).weights, rtol=1e-12)


def test_langevin_noise_has_the_stationary_variance_of_its_recursion():
    """v = (1 - lr k)^2 v + 2 lr T, so v = 2 T / (k (2 - lr k)); 400 networks, four standard errors."""
    lr, temperature, n = 0.2, 0.05, 400
    ds = train(BOWL, lr=lr, temperature=temperature, seed=range(n), steps=200, record_every=[200])
    expected = np.array([2 * temperature / (k * (2 - lr * k)) for k in (1.0, 4.0)])
    found = ds.weights.isel(step=0).var("seed").values
    np.testing.assert_allclose(found, expected, rtol=4 * (2 / n) ** 0.5)
    assert abs(np.corrcoef(ds.weights.isel(step=0).values.T)[0, 1]) < 4 / n**0.5


def test_gradient_penalty_is_exact_on_a_bowl():
    """There g(w + rho g) = (1 + rho k) g for any rho, so that the step is that of curvature k (1 + penalty k)."""
    ds = train(BOWL, lr=0.05, optimizer="gradient_penalty", penalty=[0.0, 0.5], ascent=[0.01, 1.0], steps=10, record_every=1)
    w0, k, t = ds.weights.isel(step=0), np.array([1.0, 4.0]), np.arange(11)[:, None]
    for penalty in (0.0, 0.5):
        for ascent in (0.01, 1.0):
            here = dict(penalty=penalty, ascent=ascent, seed=0)
            np.testing.assert_allclose(ds.weights.sel(here), w0.sel(here).values * (1 - 0.05 * k * (1 + penalty * k)) ** t, rtol=1e-9)


def test_gradient_penalty_descends_the_penalized_loss():
    """For a small ascent the direction is the gradient of L + penalty |grad L|^2 / 2, by autograd, on a minibatch."""
    task = Task(models.MLP((4, 5, 2)), data.Data("noise", torch.randn(12, 4), torch.randn(12, 2)), "mse")
    ds = train(task, lr=1e-3, optimizer="gradient_penalty", penalty=0.7, ascent=1e-5, steps=1, record_every=1)
    w = torch.tensor(ds.weights.values[:, 0]).requires_grad_()
    part = task.part("train", dtype=torch.float64)
    loss = task.losses(task.unflatten(w), part.x, part.y).sum()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    (wanted,) = torch.autograd.grad(loss + 0.7 * g.square().sum() / 2, w)
    np.testing.assert_allclose(w.detach().numpy() - ds.weights.values[:, 1], 1e-3 * wanted.numpy(), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("batch_size", [None, 5])
def test_a_deficit_lasts_as_long_as_it_should(batch_size):
    def blind(x, y):
        return torch.where(torch.arange(6)[:, None] < 3, 0.0, x), y

    task = Task(LINE.model, LINE.data, "mse", deficit=blind)
    arguments = dict(lr=0.1, seed=[1, 2], batch_size=batch_size, steps=12, record_every=1)
    ds = train(task, deficit_start=[0, 4], deficit_length=[0, 3, 100], **arguments)
    np.testing.assert_allclose(ds.weights.sel(deficit_length=0, deficit_start=4), train(LINE, **arguments).weights, rtol=1e-12)
    x, y = LINE.data.x, LINE.data.y[:, 0]
    for seed in (1, 2):
        for start in (0, 4):
            for length in (3, 100):

                def examples(t):
                    order = torch.arange(20)
                    if batch_size:
                        order = seeding.permutations(seeding.key(seed, "batches"), t // 4, 20)[t % 4 * 5 :][:5]
                    seen = x[order] * ((torch.arange(6) >= 3) | (not start <= t < start + length))
                    return seen, y[order]

                here = ds.weights.sel(deficit_start=start, deficit_length=length, seed=seed)
                np.testing.assert_allclose(here, plain(LINE, 0.1, 12, seed, examples), rtol=1e-6, atol=1e-8)


def test_a_deficit_may_change_labels_too():
    swap = lambda x, y: (x, (y + 1) % 10)
    digits = data.digits(50)
    task = Task(models.MLP((64, 10)), digits, deficit=swap)
    arguments = dict(lr=0.1, steps=5)
    found = train(task, deficit_start=0, deficit_length=9, **arguments)
    wanted = train(Task(models.MLP((64, 10)), data.Data("other", digits.x, (digits.y + 1) % 10)), **arguments)
    np.testing.assert_allclose(found.weights, wanted.weights, rtol=1e-12)


def test_fresh_examples_are_those_of_the_law_and_of_the_seed():
    lr, seeds, B = [0.02, 0.05], [5, 6, 7], 3
    task = Task(LINE.model, data.sparse_regression(20, 6, 2, noise=0.2), "mse")
    ds = train(task, lr=lr, seed=seeds, batch_size=B, sampling="fresh", steps=30, record_every=1)
    for seed in seeds:

        def examples(t):
            x, y = task.data.law(seeding.Generator(seeding.key(seed, "batches"), 16 * t, dtype=torch.float64), B)
            return x, y[:, 0]

        for rate in lr:
            np.testing.assert_allclose(ds.weights.sel(lr=rate, seed=seed), plain(task, rate, 30, seed, examples), rtol=1e-6, atol=1e-8)
    alone = train(task, lr=0.05, seed=6, batch_size=B, sampling="fresh", steps=30, record_every=1)
    np.testing.assert_allclose(alone.weights[0], ds.weights.sel(lr=0.05, seed=6), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("made", [data.linear_regression(5, [4.0, 1.0], noise=0.5), data.sparse_regression(5, 2, 1, noise=0.5)])
def test_laws_have_the_moments_of_their_data(made):
    x, y = made.law(seeding.generator(0, "data"), 20_000)
    fit = torch.linalg.lstsq(x, y).solution
    assert (y - x @ fit).std().item() == pytest.approx(0.5, rel=0.03)
    many = {"linear_regression": lambda: data.linear_regression(20_000, [4.0, 1.0], noise=0.5),
            "sparse_regression": lambda: data.sparse_regression(20_000, 2, 1, noise=0.5)}[made.name]()  # fmt: skip
    torch.testing.assert_close(x.double().std(0), many.x.double().std(0), rtol=0.03, atol=0)
    torch.testing.assert_close(fit.double(), torch.linalg.lstsq(many.x, many.y).solution.double(), rtol=0, atol=0.02)


def test_nonsense_is_refused():
    digits = Task(models.MLP((64, 10)), data.digits(20))
    for task, arguments, message in [
        (digits, dict(sampling="fresh"), "'digits' has none"),
        (digits, dict(label_noise=0.1), "label_noise needs the loss 'mse', not 'cross_entropy'"),
        (LINE, dict(deficit_length=3), "need a task with a deficit"),
        (LINE, dict(label_noise=-1.0), "label_noise=-1.0; allowed"),
        (LINE, dict(temperature=-1.0), "temperature=-1.0; allowed"),
        (LINE, dict(ascent=0.1), "'ascent' is no hyperparameter of"),
        (LINE, dict(optimizer=optimizers.gradient_penalty, ascent=0.0), "ascent=0.0; allowed: a positive number"),
    ]:
        with pytest.raises(ValueError, match=message):
            train(task, steps=2, **arguments)


def test_a_network_that_diverges_harms_no_other():
    arguments = dict(temperature=1e-3, label_noise=0.1, steps=200, optimizer="gradient_penalty", seed=0)
    both = train(LINE, lr=[0.05, 50.0], **arguments)
    assert np.isnan(both.weights.sel(lr=50.0).isel(step=-1)).all()
    np.testing.assert_allclose(both.weights.sel(lr=0.05), train(LINE, lr=0.05, **arguments).weights, rtol=1e-9)
