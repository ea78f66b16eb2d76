"""Curvature of the training loss: Hessian, Gauss-Newton matrix, their eigenvalues and traces.

Everything works on K networks at once, rows of `w` (K, P). One backward pass through the
summed gradients gives every network its own Hessian-vector product, because no network's
loss depends on another's parameters. A network whose parameters or products are not finite
gets NaN and leaves its neighbours as they are. Nothing here touches `w` or any `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from descent import seeding
from descent.probes import Networks, Probe, register
from descent.task import Part, Task

#: a symmetric matrix per network, as the map from vectors (K, P) to products (K, P)
Operator = Callable[[Tensor], Tensor]


def _leaves(task: Task, w: Tensor) -> dict[str, Tensor]:
    """Parameters to differentiate by; rows of w that are not finite are replaced by zeros."""
    if w.ndim != 2 or w.shape[1] != task.parameters:
        raise ValueError(f"w has shape {tuple(w.shape)}; give one row of {task.parameters} parameters per network")
    safe = torch.where(torch.isfinite(w).all(1, keepdim=True), w.detach(), 0.0)
    return {name: p.requires_grad_() for name, p in task.unflatten(safe).items()}


def _flat(tensors: tuple[Tensor, ...] | list[Tensor], networks: int) -> Tensor:
    return torch.cat([t.reshape(networks, -1) for t in tensors], dim=1)


def data_part(task: Task, w: Tensor, part: str | Part) -> Part:
    """A part of the data by name, where and in the precision that `w` is; a `Part` as it is."""
    return part if isinstance(part, Part) else task.part(part, w.device, w.dtype)


def hvp(task: Task, w: Tensor, x: Tensor, y: Tensor) -> Operator:
    """Hessian-vector products of each network's mean loss on (x, y) (Pearlmutter 1994).

    The graph of the first backward pass is kept, so that a product costs one backward pass.

    Returns:
        A function from vectors (K, P) to products (K, P).
    """
    leaves = _leaves(task, w)
    inputs = list(leaves.values())
    with torch.enable_grad():
        losses = task.losses(leaves, x, y)
        gradients = torch.autograd.grad(losses.sum(), inputs, create_graph=True)
    curved = [g for g in gradients if g.requires_grad]  # a linear loss has constant gradients

    def product(v: Tensor) -> Tensor:
        if not curved:
            return torch.zeros_like(v)
        directions = task.unflatten(v).values()
        directions = [d for d, g in zip(directions, gradients) if g.requires_grad]
        products = torch.autograd.grad(
            curved, inputs, directions, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return _flat(products, len(v))

    return product


def _output_curvature(task: Task, outputs: Tensor) -> Callable[[Tensor], Tensor]:
    """The Hessian of each example's loss in the network's outputs, applied to (K, outputs, n)."""
    if task.loss == "mse":
        return lambda u: u
    if task.loss == "cross_entropy":
        p = outputs.detach().softmax(-2)
        return lambda u: p * (u - (p * u).sum(-2, keepdim=True))
    raise ValueError(f"the Gauss-Newton matrix needs the loss 'mse' or 'cross_entropy', not {task.loss!r}")


def gnvp(task: Task, w: Tensor, x: Tensor, y: Tensor | None = None, output_curvature: bool = True) -> Operator:
    """Products with each network's Gauss-Newton matrix, mean over examples of J^T A J (Schraudolph 2002).

    J is the Jacobian of an example's outputs, A the Hessian of its loss in the outputs.

    Args:
        y: not used, the curvature of both losses is that of the outputs alone; here so that
            the arguments are those of `hvp`.
        output_curvature: False puts the identity in the place of A. The matrix then has the
            nonzero eigenvalues of the empirical neural tangent kernel divided by n.

    Raises:
        ValueError: the loss is neither "mse" nor "cross_entropy" and the output curvature is wanted.
    """
    leaves = _leaves(task, w)
    inputs = list(leaves.values())
    with torch.enable_grad():
        outputs = task.model.apply(leaves, x)
        # J^T u is linear in u, so its derivative along v is J v: reverse mode only
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, inputs, u, create_graph=True)
    curve = _output_curvature(task, outputs) if output_curvature else lambda u: u
    n = outputs.shape[-1]

    def product(v: Tensor) -> Tensor:
        (pushed,) = torch.autograd.grad(pulled, u, list(task.unflatten(v).values()), retain_graph=True)
        products = torch.autograd.grad(outputs, inputs, curve(pushed) / n, retain_graph=True)
        return _flat(products, len(v))

    return product


# -- Lanczos -----------------------------------------------------------------------------


class _Lanczos:
    """Tridiagonalization of a symmetric matrix per network, with full re-orthogonalization.

    Each new vector is orthogonalized twice against all earlier ones ("twice is enough",
    Parlett 1998, section 6.9); without it, converged eigenvalues reappear as copies. When the
    Krylov space is exhausted the basis goes on with a random vector.
    """

    def __init__(self, operator: Operator, start: Tensor) -> None:
        self.operator, self.size = operator, 0
        self.basis = start.new_empty(len(start), 8, start.shape[1])
        self.diagonal: list[Tensor] = []
        self.off: list[Tensor] = []
        self.bad = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        self.next = start / start.norm(dim=1, keepdim=True)

    @property
    def vectors(self) -> Tensor:
        """The basis so far, (K, m, P)."""
        return self.basis[:, : self.size]

    def step(self) -> None:
        """Enlarge the basis by one vector, at the price of one product."""
        if self.size == self.basis.shape[1]:
            self.basis = torch.cat([self.basis, torch.empty_like(self.basis)], dim=1)
        self.basis[:, self.size] = self.next
        q, self.size = self.next, self.size + 1
        z = self.operator(q)
        self.bad = self.bad | ~torch.isfinite(z.norm(dim=1))  # the norm, because it can overflow where z does not
        z = torch.where(self.bad[:, None], 0.0, z)
        self.diagonal.append((q * z).sum(1).double())
        size = z.norm(dim=1)
        z = self._orthogonal(z)
        beta = z.norm(dim=1)
        exhausted = beta <= 10 * torch.finfo(z.dtype).eps * size
        if exhausted.any():
            fresh = self._orthogonal(_random(1, self.size, z.shape[1]).to(z).expand_as(z))
            fresh = fresh / fresh.norm(dim=1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
            z, beta = torch.where(exhausted[:, None], fresh, z), torch.where(exhausted, 0.0, beta)
        self.off.append(beta.double())
        self.next = z / torch.where(exhausted, 1.0, beta)[:, None]

    def _orthogonal(self, z: Tensor) -> Tensor:
        for _ in range(2):
            z = z - torch.bmm(torch.bmm(z[:, None], self.vectors.mT), self.vectors)[:, 0]
        return z

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values (K, m), largest first, and the coefficients (K, m, m) of their vectors, in columns."""
        t = torch.diag_embed(torch.stack(self.diagonal, 1))
        if self.size > 1:
            off = torch.stack(self.off[:-1], 1)
            t = t + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        values, coefficients = torch.linalg.eigh(t)
        return values.flip(1), coefficients.flip(2)


@lru_cache(maxsize=16)
def _random(seed: int, draw: int, size: int) -> Tensor:
    """A vector of standard normal numbers, kept: every measurement asks for the same ones."""
    return seeding.normals(seeding.key(seed, "probe"), draw, size)


def _starts(w: Tensor, warm: Tensor | None) -> Tensor:
    """Start vectors (K, P): one random vector for all networks, or where a network ended last time."""
    random = _random(0, 0, w.shape[1]).double()
    random = (random / random.norm()).to(w).expand_as(w)
    if warm is None:
        return random
    # the random part lets in a direction that has grown since and that `warm` does not contain
    return torch.where(torch.isfinite(warm).all(1, keepdim=True), warm, 0.0) + 0.1 * random


def largest(
    operator: Operator, w: Tensor, k: int = 1, rel: float = 1e-3, max_iterations: int = 200, warm: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The k algebraically largest eigenvalues of a symmetric matrix per network, by Lanczos.

    A network is finished when each of its k Ritz pairs has a residual |H v - theta v| of at
    most `rel` |theta|, or after `max_iterations` products; what it gets does not depend on
    when the others finish. A Ritz value differs from an eigenvalue by at most its residual
    (and, with a gap to the next one, by residual^2 / gap), and never exceeds the largest.

    Returns:
        Eigenvalues (K, k), largest first; unit eigenvectors (K, k, P); a vector (K, P) that a
        later call may take as `warm`. NaN for networks that are not finite.

    Raises:
        ValueError: k is not between 1 and the number of parameters.
    """
    K, P = w.shape
    if not 1 <= k <= P:
        raise ValueError(f"k={k} must lie between 1 and {P}, the number of parameters")
    lanczos = _Lanczos(operator, _starts(w, warm))
    lanczos.bad = ~torch.isfinite(w).all(1)
    values = torch.full((K, k), torch.nan, dtype=torch.float64, device=w.device)
    vectors, again = w.new_full((K, k, P), torch.nan), w.new_full((K, P), torch.nan)
    done, last = torch.zeros_like(lanczos.bad), min(max(max_iterations, k), P)
    floor = 100 * torch.finfo(w.dtype).eps
    while not (done | lanczos.bad).all() and lanczos.size < last:
        lanczos.step()
        if lanczos.size < min(k + 1, P):
            continue
        ritz, coefficients = lanczos.ritz()
        residuals = lanczos.off[-1][:, None] * coefficients[:, -1, :k].abs()
        accepted = torch.maximum(rel * ritz[:, :k].abs(), floor * ritz.abs().amax(1, keepdim=True))
        finished = (residuals <= accepted).all(1) if lanczos.size < last else torch.ones_like(done)
        new = finished & ~done & ~lanczos.bad
        if new.any():
            columns = coefficients[new].to(w.dtype)
            pairs = columns.mT @ lanczos.vectors[new]  # (new, m, P)
            # the lower Ritz vectors stay in, so that an eigenvalue that overtakes the first is found next
            # time; with much less of them a crossing goes unnoticed (see the tests)
            fading = 0.5 ** torch.arange(lanczos.size, device=w.device, dtype=w.dtype)
            values[new], vectors[new], again[new] = ritz[new, :k], pairs[:, :k], fading @ pairs
        done = done | new
    unit = vectors / vectors.norm(dim=2, keepdim=True)
    return torch.where(lanczos.bad[:, None], torch.nan, values).to(w.dtype), unit, again


def top_eigenvalues(
    task: Task, w: Tensor, k: int = 1, part: str | Part = "train", vectors: bool = False, **lanczos: float
) -> Tensor | tuple[Tensor, Tensor]:
    """The k algebraically largest Hessian eigenvalues of each network's loss, (K, k), largest first.

    An eigenvalue that occurs several times in exactly the same value is found once, unless
    the network is so small that its whole Krylov space is searched.

    Args:
        part: on which part of the data.
        vectors: return unit eigenvectors (K, k, P) too.
        **lanczos: `rel`, `max_iterations` and `warm` of `largest`.
    """
    data = data_part(task, w, part)
    values, found, _ = largest(hvp(task, w, data.x, data.y), w, k, **lanczos)
    return (values, found) if vectors else values


def ggn_top_eigenvalue(task: Task, w: Tensor, part: str | Part = "train", **lanczos: float) -> Tensor:
    """The largest eigenvalue of each network's Gauss-Newton matrix, (K,)."""
    data = data_part(task, w, part)
    return largest(gnvp(task, w, data.x, data.y), w, **lanczos)[0][:, 0]


def ntk_top_eigenvalue(task: Task, w: Tensor, part: str | Part = "train", **lanczos: float) -> Tensor:
    """The largest eigenvalue of each network's empirical neural tangent kernel divided by n, (K,).

    For the loss "mse" this is the largest eigenvalue of the Gauss-Newton matrix.
    """
    data = data_part(task, w, part)
    return largest(gnvp(task, w, data.x, output_curvature=False), w, **lanczos)[0][:, 0]


def hessian(task: Task, w: Tensor, part: str | Part = "train", chunk: int = 64) -> Tensor:
    """The whole Hessian (P, P) of one small network with parameters w (P,), `chunk` columns at a time."""
    if w.shape != (task.parameters,):
        raise ValueError(f"w has shape {tuple(w.shape)}; give the {task.parameters} parameters of one network")
    data = data_part(task, w, part)
    directions = torch.eye(len(w), dtype=w.dtype, device=w.device).split(chunk)
    return torch.cat([hvp(task, w.expand(len(d), -1), data.x, data.y)(d) for d in directions])


# -- the whole spectrum ------------------------------------------------------------------


def spectral_density(
    task: Task, w: Tensor, steps: int = 80, vectors: int = 4, part: str | Part = "train", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Hessian spectrum by stochastic Lanczos quadrature (Ghorbani et al. 2019, algorithm 1).

    For a function f, sum_i weights_i f(nodes_i) estimates the mean of f over the P eigenvalues.

    Args:
        steps: Lanczos steps, nodes per random vector.
        vectors: random vectors averaged over.

    Returns:
        Nodes and weights, each (K, vectors * steps); the weights of a network sum to 1.
        Smooth them with `broaden`.
    """
    data = data_part(task, w, part)
    product = hvp(task, w, data.x, data.y)
    g, nodes, weights = seeding.generator(seed, "probe"), [], []
    bad = ~torch.isfinite(w).all(1)
    for _ in range(vectors):
        start = g.normal(w.shape[1]).to(w)
        lanczos = _Lanczos(product, start.expand_as(w))
        for _ in range(min(steps, w.shape[1])):
            lanczos.step()
        values, coefficients = lanczos.ritz()
        bad = bad | lanczos.bad
        nodes.append(values)
        weights.append(coefficients[:, 0].square() / vectors)
    return tuple(torch.where(bad[:, None], torch.nan, torch.cat(t, 1)).to(w.dtype) for t in (nodes, weights))


def broaden(nodes: Tensor, weights: Tensor, at: Tensor, width: float) -> Tensor:
    """The density (K, points) of nodes and weights (K, m), each node a Gaussian of standard deviation `width`."""
    bumps = torch.distributions.Normal(nodes[..., None], width).log_prob(at).exp()
    return (weights[..., None] * bumps).sum(-2)


def trace(
    task: Task, w: Tensor, vectors: int = 30, part: str | Part = "train", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Hessian trace of each network and its standard error, (K,) each, from random signs (Hutchinson 1990)."""
    if vectors < 2:
        raise ValueError(f"vectors={vectors} must be at least 2 for a standard error")
    data = data_part(task, w, part)
    product, samples = hvp(task, w, data.x, data.y), []
    for draws in torch.arange(vectors).split(max(1, seeding.AT_ONCE // w.shape[1])):
        for signs in 2 * seeding.integers(seeding.key(seed, "probe"), draws, 2, w.shape[1]) - 1:
            signs = signs.to(w).expand_as(w)
            samples.append((signs * product(signs)).sum(1))
    samples = torch.stack(samples, 1)
    samples = torch.where(torch.isfinite(w).all(1, keepdim=True), samples, torch.nan)
    return samples.mean(1), samples.std(1) / vectors**0.5


# -- what sweeps record ------------------------------------------------------------------


def _recorded(name: str, operator: Callable[..., Operator], k: int = 1, rel: float = 1e-3) -> Callable[[Networks], Tensor]:
    """A measurement that starts from the vector where its last one ended."""

    def measure(networks: Networks) -> Tensor:
        data = networks.parts["train"]
        product = operator(networks.task, networks.w, data.x, data.y)
        values, _, networks.memory[name] = largest(
            product, networks.w, k, rel, warm=networks.memory.get(name)
        )
        return values

    return measure


def _first(measure: Callable[[Networks], Tensor]) -> Callable[[Networks], Tensor]:
    return lambda networks: measure(networks)[:, 0]


def eigenvalues(k: int, rel: float = 1e-3) -> Probe:
    """A probe "eigenvalues" of the k largest Hessian eigenvalues, along the dimension "eigenvalue".

    Args:
        rel: residual to stop at, as in `largest`; 1e-2 saves about two products in five.
    """
    return Probe("eigenvalues", _recorded("eigenvalues", hvp, k, rel), dims=("eigenvalue",))


def _ntk(task: Task, w: Tensor, x: Tensor, y: Tensor) -> Operator:
    return gnvp(task, w, x, output_curvature=False)


def _trace(networks: Networks) -> Tensor:
    return trace(networks.task, networks.w, part=networks.parts["train"])[0]


register(Probe("sharpness", _first(_recorded("sharpness", hvp))))
register(Probe("ggn_sharpness", _first(_recorded("ggn_sharpness", gnvp))))
register(Probe("ntk_eigenvalue", _first(_recorded("ntk_eigenvalue", _ntk))))
register(Probe("trace", _trace))
