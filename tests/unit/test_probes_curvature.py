"""Curvature probes against dense float64 matrices made by torch.func."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, jacrev

from descent import Task, data, models, sweep
from descent.backprop import Gradients
from descent.probes import curvature
from descent.seeding import generator

DIGITS, FEW = data.digits(train=40), data.digits(train=12)
TASKS = {
    "tanh mse": Task(models.MLP((64, 3, 10)), DIGITS, loss="mse"),
    "elu cross-entropy": Task(models.MLP((64, 3, 10), activation="elu"), DIGITS),
    "ntk": Task(models.MLP((64, 3, 10), parametrization="ntk", output_scale=2.0), DIGITS, loss="mse"),
    "cnn": Task(models.CNN((1, 8, 8), (2, 2)), FEW),
    "batch norm": Task(models.CNN((1, 8, 8), (2, 2), batch_norm=True), FEW, loss="mse"),
}
each_task = pytest.mark.parametrize("name", TASKS)


def networks(task: Task, scales=(0.5, 1.0, 2.0)) -> torch.Tensor:
    params = task.model.init(generator(1, "init"), torch.tensor(scales))
    return task.flatten(params, 1).double()


def loss_of(task: Task):
    part, _ = task.part("train", dtype=torch.float64), task.layout  # made before torch.func transforms anything
    return lambda w: task.losses(task.unflatten(w[None]), part.x, part.y)[0]


@functools.cache
def networks_and_hessians(name: str) -> tuple[torch.Tensor, np.ndarray]:
    w = networks(TASKS[name])
    return w, dense_hessians(TASKS[name], w)


def dense_hessians(task: Task, w: torch.Tensor) -> np.ndarray:
    # not torch.func.hessian: forward mode over batch_norm's backward is wrong in PyTorch 2.13 (not even symmetric)
    return torch.stack([jacrev(grad(loss_of(task)))(row) for row in w]).numpy()


def symmetric(eigenvalues, seed=0):
    """An operator with known eigenvalues and its matrix (1, P, P), float64."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    matrix = torch.tensor(q * np.array(eigenvalues) @ q.T)[None]
    return (lambda v: (matrix @ v[..., None])[..., 0]), torch.zeros(1, len(eigenvalues), dtype=torch.float64)


@each_task
def test_top_eigenvalues_are_those_of_the_dense_hessian(name):
    task = TASKS[name]
    w, H = networks_and_hessians(name)
    dense = np.linalg.eigvalsh(H)[:, ::-1]
    values, vectors = curvature.top_eigenvalues(task, w, k=3, rel=1e-6, vectors=True)
    np.testing.assert_allclose(values, dense[:, :3], rtol=1e-8)
    np.testing.assert_allclose(np.einsum("kij,klj->kli", H, vectors), values[..., None] * vectors, atol=1e-5 * dense.max())
    default = curvature.top_eigenvalues(task, w.float())[:, 0]
    np.testing.assert_allclose(default, dense[:, 0], rtol=1e-3)


@each_task
def test_dense_hessian_and_products(name):
    task = TASKS[name]
    (w, H), part = networks_and_hessians(name), task.part("train", dtype=torch.float64)
    np.testing.assert_allclose(curvature.hessian(task, w[1]), H[1], atol=1e-10)
    v = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(
        curvature.hvp(task, w, part.x, part.y)(v), np.einsum("kij,kj->ki", H, v), atol=1e-9
    )


def test_the_largest_is_algebraic_not_in_magnitude():
    operator, w = symmetric([-100.0, -50.0, *np.linspace(-1, 0.5, 40), 1.0])
    values, _, _ = curvature.largest(operator, w, k=2, rel=1e-6)
    np.testing.assert_allclose(values[0], [1.0, 0.5], rtol=1e-6)
    # a network whose Hessian is dominated by negative curvature: the loss "output" at a maximum
    task = Task(models.Function(lambda w, x: -w[..., :1, :].square().sum(-2) * 50 + 0.5 * w[..., 1, :] ** 2, 2), data.nothing(2), "output")
    np.testing.assert_allclose(curvature.top_eigenvalues(task, torch.zeros(1, 2)), [[1.0]], rtol=1e-5)


def test_converged_eigenvalues_do_not_reappear():
    operator, w = symmetric([100.0, 50.0, 20.0, *np.linspace(0, 1, 97)])
    values, _, _ = curvature.largest(operator, w, k=3)
    np.testing.assert_allclose(values[0], [100, 50, 20], rtol=1e-3)
    space = curvature._Subspace(operator, w)
    space.add(torch.ones_like(w))
    while space.size < 80:
        space.add(space.images[:, -1])
    ritz = space.ritz()[0][0].numpy()
    assert [(abs(ritz - v) < 0.1).sum() for v in (100, 50, 20)] == [1, 1, 1]
    gram = space.vectors @ space.vectors.mT
    np.testing.assert_allclose(gram[0], np.eye(80), atol=1e-12)


def test_multiple_eigenvalues_in_an_exhausted_krylov_space():
    task = Task(models.Quadratic((3.0, 3.0, 1.0)), data.nothing(3), "output")
    values = curvature.top_eigenvalues(task, torch.ones(2, 3), k=3)
    np.testing.assert_allclose(values, [[3, 3, 1]] * 2, rtol=1e-5)


def test_warm_start_follows_crossing_eigenvalues():
    """The two largest eigenvalues change places while their vectors stay: nothing may be missed."""
    warm, products = None, 0
    for s in np.linspace(0, 1, 41):
        operator, w = symmetric([10.0, 5.0 + 10.0 * s, 4.0 + 16 * s**2, *np.linspace(-1, 1, 60)])

        def counted(v, operator=operator):
            nonlocal products
            products += 1
            return operator(v)

        values, _, warm = curvature.largest(counted, w, warm=warm)
        assert values[0, 0] == pytest.approx(max(10, 5 + 10 * s, 4 + 16 * s**2), rel=2e-3)
    assert products < 41 * 9


@pytest.mark.parametrize("name", ["tanh mse", "elu cross-entropy", "cnn", "batch norm"])
def test_gauss_newton_and_ntk_are_those_of_the_dense_jacobian(name):
    task = TASKS[name]
    w, part = networks(task), task.part("train", dtype=torch.float64)
    v = torch.randn(w.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = curvature.gnvp(task, w, part.x, part.y)(v)
    ggn, ntk = (f(task, w, rel=1e-6) for f in (curvature.ggn_top_eigenvalue, curvature.ntk_top_eigenvalue))
    for i, row in enumerate(w):
        outputs = task.model.apply(task.unflatten(row[None]), part.x)[0]
        J = jacrev(lambda r: task.model.apply(task.unflatten(r[None]), part.x)[0])(row)  # (outputs, n, P)
        p = outputs.softmax(0)
        A = torch.diag_embed(p.T) - p.T[:, :, None] * p.T[:, None, :]  # (n, outputs, outputs)
        A = A if task.loss == "cross_entropy" else torch.eye(len(p), dtype=p.dtype).expand_as(A)
        dense = torch.einsum("anp,nab,bnq->pq", J, A, J) / len(part)
        np.testing.assert_allclose(product[i], dense @ v[i], atol=1e-9)
        assert ggn[i] == pytest.approx(np.linalg.eigvalsh(dense)[-1], rel=1e-8)
        kernel = torch.einsum("anp,bmp->anbm", J, J).reshape(p.numel(), -1) / len(part)
        assert ntk[i] == pytest.approx(np.linalg.eigvalsh(kernel)[-1], rel=1e-8)


def test_gauss_newton_needs_a_curved_loss():
    task = Task(models.Quadratic((1.0,)), data.nothing(1), "output")
    with pytest.raises(ValueError, match="bends with the outputs, not 'output'"):
        curvature.ggn_top_eigenvalue(task, torch.ones(1, 1))


def test_spectral_density_integrates_the_spectrum():
    task = TASKS["elu cross-entropy"]
    w, H = networks_and_hessians("elu cross-entropy")
    H = torch.tensor(H)
    nodes, weights = curvature.spectral_density(task, w, steps=30, vectors=20, seed=5)
    # Gaussian quadrature with m nodes gives v^T H^p v exactly up to p = 2 m - 1
    g = generator(5, "probe")
    v = torch.stack([g.normal(w.shape[1]).double() for _ in range(20)])
    v = v / v.norm(dim=1, keepdim=True)
    for power in range(6):
        exact = torch.einsum("vi,kij,vj->k", v, torch.linalg.matrix_power(H, power), v) / 20
        np.testing.assert_allclose((weights * nodes**power).sum(1), exact, rtol=1e-9)
    dense = np.linalg.eigvalsh(H)
    # and over random vectors the mean of H^2 over the spectrum, within four standard errors
    error = np.sqrt(2 * (dense**4).sum(1) / 20) / (dense**2).sum(1)
    assert (abs((weights * nodes**2).sum(1).numpy() / (dense**2).mean(1) - 1) < 4 * error).all()
    np.testing.assert_allclose(nodes.amax(1), dense[:, -1], rtol=1e-6)
    grid = torch.linspace(-40, 80, 8000, dtype=torch.float64)
    np.testing.assert_allclose(torch.trapezoid(curvature.broaden(nodes, weights, grid, 0.1), grid), 1, atol=1e-6)


@each_task
def test_trace_lies_within_its_standard_error(name):
    task = TASKS[name]
    w, H = networks_and_hessians(name)
    mean, error = (t.numpy() for t in curvature.trace(task, w, vectors=100))
    assert (abs(mean - H.trace(axis1=1, axis2=2)) < 4 * error).all()
    # random signs see the entries off the diagonal only
    off = H - np.stack([np.diag(np.diag(h)) for h in H])
    np.testing.assert_allclose(error, np.sqrt(2 * (off**2).sum((1, 2)) / 100), rtol=0.3)


@pytest.mark.parametrize("probe", ["sharpness", "ggn_sharpness", "ntk_eigenvalue", "trace"])
def test_alone_as_in_a_grid_and_beside_a_diverging_network(probe):
    task, settings = TASKS["tanh mse"], dict(steps=20, record=probe, record_every=5, cache=False)
    grid = sweep(task, lr=[0.05, 0.2, 1e6], **settings)
    alone = sweep(task, lr=[0.05, 0.2], **settings)
    np.testing.assert_allclose(grid[probe][:2], alone[probe], rtol=2e-5)
    assert np.isfinite(alone[probe]).all() and np.isnan(grid[probe][2, 0, -1])


def test_rows_that_are_not_finite_are_harmless():
    task = TASKS["cnn"]
    w = networks(task, (1.0, 1.0, 1.0, 1.0))
    clean = curvature.top_eigenvalues(task, w[:1], k=2)
    w[1, 3], w[2], w[3, 0] = torch.nan, torch.inf, 1e300
    values = curvature.top_eigenvalues(task, w, k=2)
    np.testing.assert_allclose(values[:1], clean, rtol=1e-12)
    assert torch.isnan(values[1:3]).all()
    for made in (*curvature.trace(task, w), *curvature.spectral_density(task, w, steps=5)):
        assert torch.isfinite(made[0]).all() and torch.isnan(made[1:3]).all()


def test_curvature_beyond_float32_is_nan_and_harmless():
    task = Task(models.Function(lambda w, x: (w**4).sum(-2) + 0 * x[..., 0, :], 3), data.nothing(3), "output")
    w = torch.tensor([[1.0, 2.0, 3.0], [1e12, 1e11, 1e12], [3.0, 2.0, 0.0]])
    values = curvature.top_eigenvalues(task, w)[:, 0]
    np.testing.assert_allclose(values, [108, np.nan, 108], rtol=1e-5)


def test_nothing_is_changed():
    task = TASKS["tanh mse"]
    w = networks(task).requires_grad_()
    before = w.detach().clone()
    curvature.top_eigenvalues(task, w)
    curvature.ggn_top_eigenvalue(task, w)
    curvature.trace(task, w, vectors=2)
    curvature.spectral_density(task, w, steps=3, vectors=1)
    assert torch.equal(w, before) and w.grad is None and w.requires_grad
    assert not curvature.top_eigenvalues(task, w).requires_grad


def test_recorded_sharpness_is_the_dense_one_all_along_a_run():
    task = TASKS["tanh mse"]
    run = sweep(task, lr=[0.3], steps=60, record=["sharpness", curvature.eigenvalues(2), "weights"], record_every=10, cache=False)
    w = torch.tensor(run["weights"].values.reshape(-1, task.parameters)).double()
    dense = np.linalg.eigvalsh(dense_hessians(task, w))[:, ::-1]
    assert run["eigenvalues"].dims[-1] == "eigenvalue"
    np.testing.assert_allclose(run["sharpness"].values.ravel(), dense[:, 0], rtol=1e-3)
    np.testing.assert_allclose(run["eigenvalues"].values.reshape(-1, 2), dense[:, :2], rtol=2e-3)


def test_bad_arguments_are_named():
    task = TASKS["tanh mse"]
    w = networks(task)
    with pytest.raises(ValueError, match="k=0 must lie between 1 and"):
        curvature.top_eigenvalues(task, w, k=0)
    with pytest.raises(ValueError, match=r"w has shape \(3, 2\)"):
        curvature.top_eigenvalues(task, w[:, :2])


# -- examples that are as good as learned ----------------------------------------------------


def saturated(loss, sign, z, dtype, autograd, hidden=False):
    """Largest Hessian and Gauss-Newton eigenvalues of a network whose single example has the margin sign * z."""
    target = torch.tensor([[1.0]]) if loss == "logistic" else torch.tensor([1])
    last = [[sign * z]] if loss == "logistic" else [[0.0], [sign * z]]
    widths = (1, 1, len(last)) if hidden else (1, len(last))
    task = Task(models.MLP(widths, bias=False), data.Data("one", torch.ones(1, 1), target), loss)
    w = torch.tensor([[*([0.7] if hidden else []), *np.ravel(last)]], dtype=dtype)
    part, own = task.part("train", dtype=dtype), Gradients(task, autograd)
    return [curvature.largest(f(task, w, part.x, part.y, own), w)[0].item() for f in (curvature.hvp, curvature.gnvp)]


@pytest.mark.parametrize("autograd", [False, True], ids=["written out", "autograd"])
@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
@settings(max_examples=30, deadline=None)
@given(z=st.floats(1, 80), sign=st.sampled_from([-1, 1]), double=st.booleans())
def test_curvature_where_a_probability_rounds_to_one(loss, autograd, z, sign, double):
    z = float(np.float32(z if double else z / 2))  # beyond z = 43 the squares of the curvature, in norms, underflow in float32
    right = np.exp(-z) / (1 + np.exp(-z)) ** 2 * (2 if loss == "cross_entropy" else 1)
    found = saturated(loss, sign, z, torch.float64 if double else torch.float32, autograd)
    np.testing.assert_allclose(found, right, rtol=1e-10 if double else 2e-5)


@pytest.mark.parametrize("autograd", [False, True], ids=["written out", "autograd"])
@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
@pytest.mark.parametrize("z", [5.0, 12.0, 20.0, 30.0, 40.0])
def test_curvature_below_what_is_learned(loss, autograd, z):
    """The second derivatives of the layers count too, weighted with the loss's slope, which may not round away either."""
    single, double = (saturated(loss, 1, z, dtype, autograd, hidden=True) for dtype in (torch.float32, torch.float64))
    np.testing.assert_allclose(single, double, rtol=1e-4)


def test_a_learned_neighbour_leaves_the_others_and_the_gradient_as_they_are():
    task = Task(models.MLP((3, 4, 2)), data.gaussian(8, 3))
    w = torch.randn(2, task.parameters, generator=torch.Generator().manual_seed(0))
    w[0] = torch.cat([torch.zeros(16), torch.zeros(8), torch.tensor([40.0, 0.0])])  # certain of class 0, rightly where there is no other
    task = replace(task, data=replace(task.data, y=torch.zeros(8, dtype=torch.int64)))
    part, own = task.part("train"), Gradients(task)
    before = own(w, part.x, part.y)[1].clone()
    v = torch.ones_like(w)
    both, alone = curvature.hvp(task, w, part.x, part.y, own)(v), curvature.hvp(task, w[1:], part.x, part.y)(v[1:])
    assert torch.equal(both[1:], alone) and torch.equal(own(w, part.x, part.y)[1], before)
