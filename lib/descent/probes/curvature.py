"""Curvature of the training loss: Hessian, Gauss-Newton matrix, their eigenvalues and traces.

Everything works on K networks at once, rows of `w` (K, P). Products with the Hessian are those of
`descent.backprop` for the models that it writes out. For all others one backward pass through the
summed gradients gives every network its own, because no network's
loss depends on another's parameters. A network whose parameters or products are not finite
gets NaN and leaves its neighbours as they are. Nothing here touches `w` or any `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from descent import seeding
from descent.backprop import CURVATURES, Gradients, slope
from descent.probes import Networks, Probe, register
from descent.task import Part, Task

#: a symmetric matrix per network, as the map from vectors (K, P) to products (K, P); if it has a method
#: `keep(rows)` that gives the map for fewer networks, those that are finished leave a search
Operator = Callable[[Tensor], Tensor]


def _finite(task: Task, w: Tensor) -> Tensor:
    """w, with zeros in the rows that are not finite."""
    if w.ndim != 2 or w.shape[1] != task.parameters:
        raise ValueError(f"w has shape {tuple(w.shape)}; give one row of {task.parameters} parameters per network")
    finite = torch.isfinite(w).all(1, keepdim=True)
    return w if finite.all() else torch.where(finite, w.detach(), 0.0)


def _leaves(task: Task, w: Tensor) -> dict[str, Tensor]:
    """Parameters to differentiate by."""
    return {name: p.detach().requires_grad_() for name, p in task.unflatten(_finite(task, w)).items()}


def _flat(tensors: tuple[Tensor, ...] | list[Tensor], networks: int) -> Tensor:
    return torch.cat([t.reshape(networks, -1) for t in tensors], dim=1)


def data_part(task: Task, w: Tensor, part: str | Part) -> Part:
    """A part of the data by name, where and in the precision that `w` is; a `Part` as it is."""
    return part if isinstance(part, Part) else task.part(part, w.device, w.dtype)


def hvp(task: Task, w: Tensor, x: Tensor, y: Tensor, gradients: Gradients | None = None) -> Operator:
    """Hessian-vector products of each network's mean loss on (x, y) (Pearlmutter 1994).

    For the models whose products are written out in `descent.backprop`, by these. For all others by autograd: the
    graph of the first backward pass is kept, so that a product costs one backward pass.

    Args:
        gradients: what to compute with; give a sweep's own to have its activations used again.

    Returns:
        A function from vectors (K, P) to products (K, P).
    """
    own = gradients or Gradients(task)
    if own.twice:
        return own.products(_finite(task, w), x, y)
    leaves = _leaves(task, w)
    inputs = list(leaves.values())
    with torch.enable_grad():
        outputs = task.model.apply(leaves, x)
        slopes = torch.autograd.grad(outputs, inputs, slope(task.loss, outputs, y) / x.shape[-1], create_graph=True)
    curved = [g for g in slopes if g.requires_grad]  # a linear loss has constant gradients

    def product(v: Tensor) -> Tensor:
        if not curved:
            return torch.zeros_like(v)
        directions = task.unflatten(v).values()
        directions = [d for d, g in zip(directions, slopes) if g.requires_grad]
        products = torch.autograd.grad(
            curved, inputs, directions, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return _flat(products, len(v))

    return product


def gnvp(
    task: Task, w: Tensor, x: Tensor, y: Tensor, gradients: Gradients | None = None, output_curvature: bool = True
) -> Operator:
    """Products with each network's Gauss-Newton matrix, mean over examples of J^T A J (Schraudolph 2002).

    J is the Jacobian of an example's outputs, A the Hessian of its loss in the outputs.

    Args:
        gradients: as for `hvp`.
        output_curvature: False puts the identity in the place of A. The matrix then has the
            nonzero eigenvalues of the empirical neural tangent kernel divided by n.

    Raises:
        ValueError: the loss is linear in the outputs, "output" or "hinge", and the output curvature is wanted.
    """
    if output_curvature and task.loss in ("output", "hinge"):
        raise ValueError(f"the Gauss-Newton matrix needs a loss that bends with the outputs, not {task.loss!r}")
    own = gradients or Gradients(task)
    if own.twice:
        return own.products(_finite(task, w), x, y, gauss_newton=True, output_curvature=output_curvature)
    leaves = _leaves(task, w)
    inputs = list(leaves.values())
    with torch.enable_grad():
        outputs = task.model.apply(leaves, x)
        # J^T u is linear in u, so its derivative along v is J v: reverse mode only
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = torch.autograd.grad(outputs, inputs, u, create_graph=True)
    curve = CURVATURES[task.loss](outputs.detach()) if output_curvature else lambda u: u
    n = outputs.shape[-1]

    def product(v: Tensor) -> Tensor:
        (pushed,) = torch.autograd.grad(pulled, u, list(task.unflatten(v).values()), retain_graph=True)
        products = torch.autograd.grad(outputs, inputs, curve(pushed) / n, retain_graph=True)
        return _flat(products, len(v))

    return product


def _ntk(task: Task, w: Tensor, x: Tensor, y: Tensor, gradients: Gradients | None = None) -> Operator:
    return gnvp(task, w, x, y, gradients, output_curvature=False)


# -- eigenvalues -------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _random(seed: int, draw: int, size: int) -> Tensor:
    """A random unit vector, kept: every measurement asks for the same ones."""
    drawn = seeding.normals(seeding.key(seed, "probe"), draw, size).double()
    return drawn / drawn.norm()


class _Subspace:
    """An orthonormal basis per network, what the network's symmetric matrix makes of it, and the matrix inside it.

    Growing it from a random vector by the last image, or by the residual of a Ritz pair, is the Lanczos
    method. Each new vector is orthogonalized against all earlier ones, twice if the first time took much of it
    ("twice is enough", Parlett 1998, section 6.9); without it, converged eigenvalues reappear as copies. When nothing
    new is left of a vector, a random one takes its place.
    """

    def __init__(self, operator: Operator, like: Tensor) -> None:
        K, P = like.shape
        self.operator, self.size = operator, 0
        self._vectors, self._images = like.new_empty(K, 8, P), like.new_empty(K, 8, P)
        self.inside = torch.zeros(K, 0, 0, dtype=torch.float64, device=like.device)
        self.bad = ~torch.isfinite(like).all(1)

    @property
    def vectors(self) -> Tensor:
        """The basis, (K, m, P)."""
        return self._vectors[:, : self.size]

    @property
    def images(self) -> Tensor:
        """What the matrix makes of it, (K, m, P)."""
        return self._images[:, : self.size]

    def add(self, z: Tensor) -> None:
        """Enlarge the basis by the direction of z (K, P), at the price of one product."""
        if self.size == self._vectors.shape[1]:
            self._vectors, self._images = (torch.cat([t, torch.empty_like(t)], 1) for t in (self._vectors, self._images))
        self._vectors[:, self.size] = q = self._new(z)
        image = self.operator(q)
        self.bad = self.bad | ~torch.isfinite(image.norm(dim=1))  # the norm, because it can overflow where they do not
        self._images[:, self.size] = torch.where(self.bad[:, None], 0.0, image) if self.bad.any() else image
        self.size += 1
        column = torch.bmm(self.vectors, self._images[:, self.size - 1, :, None]).double()
        self.inside = torch.cat([torch.cat([self.inside, column[:, :-1]], 2), column.mT], 1)

    def keep(self, rows: Tensor) -> None:
        """Go on with these networks only."""
        self.operator = self.operator.keep(rows)
        self._vectors, self._images, self.inside, self.bad = (t[rows] for t in (self._vectors, self._images, self.inside, self.bad))

    def _new(self, z: Tensor) -> Tensor:
        """z without its part in the basis, as a unit vector."""
        before, eps = z.norm(dim=1, keepdim=True), torch.finfo(z.dtype).eps
        z = self._rest(z)
        rest = z.norm(dim=1, keepdim=True)
        if not (rest > 0.7 * before).all():  # so much is gone that what is left may not be orthogonal
            z = self._rest(z)
            rest = z.norm(dim=1, keepdim=True)
        spent = ~(rest > 10 * eps * before)
        if spent.any():
            random = _random(1, self.size, z.shape[1]).to(z).expand_as(z)
            z = torch.where(spent, self._rest(self._rest(random)), z)
            rest = z.norm(dim=1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
        return z / rest

    def _rest(self, z: Tensor) -> Tensor:
        if not self.size:
            return z
        return torch.baddbmm(z[:, None], torch.bmm(z[:, None], self.vectors.mT), self.vectors, alpha=-1)[:, 0]

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values (K, m), largest first, and the coefficients (K, m, m) of their vectors, in rows."""
        values, coefficients = torch.linalg.eigh(self.inside)
        return values.flip(1), coefficients.mT.flip(1)

    def pairs(self, coefficients: Tensor, theta: Tensor, rows: Tensor | slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Some of the unit Ritz vectors of some networks, and their residuals, (K, c, P) each."""
        mixed = coefficients[rows].to(self._vectors.dtype)
        vectors, images = torch.bmm(mixed, self.vectors[rows]), torch.bmm(mixed, self.images[rows])
        return vectors, images - theta[rows, :, None].to(vectors.dtype) * vectors


#: examples, times networks, that are searched together on a CPU
TOGETHER = 2**14
#: residuals by which the eigenvalue after those that are wanted is taken to exceed its Ritz value at most
REACH = 2.0
#: length of the random part of where others are looked for, so that nothing stays hidden for ever
EXPLORE = 0.1


class Warm(NamedTuple):
    """Where a search for k eigenvalues ended, for the next one to start from.

    Attributes:
        vectors: the first k + 1 eigenvectors, one power iteration further, (K, k + 1, P).
        moved: what they have moved by since the search before, (K, k + 1, P).
        rest: what the search came across besides, (K, P).
    """

    vectors: Tensor
    moved: Tensor
    rest: Tensor


def largest(
    operator: Operator,
    w: Tensor,
    k: int = 1,
    rel: float = 1e-3,
    max_iterations: int = 200,
    warm: Warm | None = None,
    vectors: bool = False,
) -> tuple[Tensor, Tensor, Warm]:
    """The k algebraically largest eigenvalues of a symmetric matrix per network, by Rayleigh-Ritz in a growing subspace.

    From one random vector the subspace grows by residuals, which is the Lanczos method. With `warm` it begins
    with where the last call's eigenvectors seem to be going, the one after them included, and with what else
    that call came across, so that an eigenvalue that overtakes is found.

    A Ritz value never exceeds the largest eigenvalue. From an eigenvalue it differs by at most its residual
    r = |H v - theta v|, and by at most r^2 / gap, gap being the distance to the rest of the spectrum (Kato 1949, Temple
    1928; Parlett 1998, section 11.7). A network is finished when r is at most `rel` |theta| for each of its k
    pairs; with `warm`, when that or r^2 / gap is, the rest of the spectrum being taken to lie at most `REACH` residuals
    above its Ritz value; or after `max_iterations` products. What it gets does not depend on when the others finish.

    Args:
        vectors: stop by r alone also with `warm`: a Ritz vector is off by r / gap, its value by that squared.

    Returns:
        Eigenvalues (K, k), largest first; unit eigenvectors (K, k, P); what a later call may take as `warm`. NaN
        for networks that are not finite.

    Raises:
        ValueError: k is not between 1 and the number of parameters.
    """
    K, P = w.shape
    if not 1 <= k <= P:
        raise ValueError(f"k={k} must lie between 1 and {P}, the number of parameters")
    space, last = _Subspace(operator, w), min(max(max_iterations, k), P)
    random = _random(0, 0, P).to(w).expand_as(w)
    starts = [random] if warm is None else [*(warm.vectors + warm.moved).unbind(1), warm.rest]
    values, found = w.new_full((K, k), torch.nan, dtype=torch.float64), w.new_full((K, k, P), torch.nan)
    further, rest = w.new_full((K, k + 1, P), torch.nan), torch.zeros_like(w)
    rows, done = torch.arange(K, device=w.device), space.bad
    while not done.all() and space.size < last:
        if space.size < len(starts):
            space.add(starts[space.size][rows])
        else:  # by the residual of the first wanted pair that is not good enough yet, or else of the one after them
            which = torch.where(good[:, :k].all(1), good.shape[1] - 1, good.int().argmin(1))
            space.add(residuals.gather(1, which[:, None, None].expand(-1, 1, P))[:, 0])
        m, done = space.size, done | space.bad
        theta, coefficients = space.ritz()
        pairs, residuals = space.pairs(coefficients[:, : k + 1], theta[:, : k + 1])
        errors, spread = residuals.norm(dim=2).double(), torch.maximum(theta[:, 0].abs(), theta[:, 0] - theta[:, -1])
        allowed = torch.maximum(rel * theta[:, : k + 1].abs(), 100 * torch.finfo(w.dtype).eps * spread[:, None])
        good = errors <= allowed
        if m > k and warm is not None and not vectors:
            below = theta[:, :k] - (theta[:, 1 : k + 1] + REACH * errors[:, 1:])
            above = F.pad(theta[:, : k - 1] - theta[:, 1:k], (1, 0), value=torch.inf)
            good[:, :k] |= errors[:, :k].square() <= allowed[:, :k] * torch.minimum(below, above)
        if m < min(max(k, len(starts)), last):
            continue
        new = ~done & (good[:, :k].all(1) | (m == last))
        if not new.any():
            continue
        at, done = rows[new], done | new
        values[at], found[at] = theta[new, :k], pairs[new, :k]
        every, changes = space.pairs(coefficients, theta, new)
        ahead = every + changes / spread[new].clamp(min=torch.finfo(w.dtype).tiny)[:, None, None].to(w.dtype)
        fading = 0.5 ** torch.arange(max(m - k - 1, 0), device=w.device, dtype=w.dtype)
        further[at, : min(m, k + 1)], rest[at] = ahead[:, : k + 1], fading @ ahead[:, k + 1 :]
        if hasattr(operator, "keep") and 4 * done.count_nonzero() >= len(done):
            left = ~done
            space.keep(left)
            rows, done, good, residuals = rows[left], done[left], good[left], residuals[left]
    moved = torch.zeros_like(further)
    if warm is not None:  # they go on as they have moved, unless they have changed places
        cosine = (further * warm.vectors).sum(2, keepdim=True)
        moved = torch.where(cosine.abs() > 0.7, further - cosine.sign() * warm.vectors, 0.0)
    return values.to(w.dtype), found, Warm(further, moved, rest + EXPLORE * random)


def _cached(w: Tensor, examples: int) -> tuple[Tensor, ...]:
    """The networks, in parts so small that on a CPU their activations stay in its cache; w itself if that is one part."""
    size = max(1, TOGETHER // examples)
    return w.split(size) if w.device.type == "cpu" and len(w) > size else (w,)


def _search(operator: Callable[..., Operator], task: Task, w: Tensor, part: str | Part, k: int, **search: float) -> tuple[Tensor, Tensor]:
    """Values (K, k) and vectors (K, k, P) that `largest` finds for `operator(task, w, x, y)`."""
    data = data_part(task, w, part)
    found = [largest(operator(task, some, data.x, data.y), some, k, **search)[:2] for some in _cached(w, len(data))]
    values, vectors = zip(*found)
    return torch.cat(values), torch.cat(vectors)


def top_eigenvalues(
    task: Task, w: Tensor, k: int = 1, part: str | Part = "train", vectors: bool = False, **search: float
) -> Tensor | tuple[Tensor, Tensor]:
    """The k algebraically largest Hessian eigenvalues of each network's loss, (K, k), largest first.

    An eigenvalue that occurs several times in exactly the same value is found once, unless
    the network is so small that its whole Krylov space is searched.

    Args:
        part: on which part of the data.
        vectors: return unit eigenvectors (K, k, P) too.
        **search: `rel` and `max_iterations` of `largest`.
    """
    values, found = _search(hvp, task, w, part, k, vectors=vectors, **search)
    return (values, found) if vectors else values


def ggn_top_eigenvalue(task: Task, w: Tensor, part: str | Part = "train", **search: float) -> Tensor:
    """The largest eigenvalue of each network's Gauss-Newton matrix, (K,)."""
    return _search(gnvp, task, w, part, 1, **search)[0][:, 0]


def ntk_top_eigenvalue(task: Task, w: Tensor, part: str | Part = "train", **search: float) -> Tensor:
    """The largest eigenvalue of each network's empirical neural tangent kernel divided by n, (K,).

    For the loss "mse" this is the largest eigenvalue of the Gauss-Newton matrix.
    """
    return _search(_ntk, task, w, part, 1, **search)[0][:, 0]


def hessian(task: Task, w: Tensor, part: str | Part = "train", chunk: int = 64) -> Tensor:
    """The whole Hessian (P, P) of one small network with parameters w (P,), `chunk` columns at a time."""
    if w.shape != (task.parameters,):
        raise ValueError(f"w has shape {tuple(w.shape)}; give the {task.parameters} parameters of one network")
    data = data_part(task, w, part)
    directions = torch.eye(len(w), dtype=w.dtype, device=w.device).split(chunk)
    return torch.cat([hvp(task, w.expand(len(d), -1), data.x, data.y)(d) for d in directions])


#: parameters up to which the lowest eigenvalue is taken from the whole Hessian
WHOLE = 2000


def lowest_eigenvalue(task: Task, w: Tensor, part: str | Part = "train") -> Tensor:
    """The algebraically smallest eigenvalue of each network's Hessian, (K,), from the whole matrix: negative at a saddle.

    Raises:
        ValueError: more than `WHOLE` parameters.
    """
    if task.parameters > WHOLE:
        raise ValueError(f"the whole Hessian of {task.parameters} parameters is too large; at most {WHOLE}")
    data, lowest = data_part(task, w, part), w.new_full((len(w),), torch.nan)
    for i in torch.isfinite(w).all(1).nonzero()[:, 0].tolist():
        lowest[i] = torch.linalg.eigvalsh(hessian(task, w[i], data))[0]
    return lowest


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
        space = _Subspace(product, w)
        space.add(g.normal(w.shape[1]).to(w).expand_as(w))
        while space.size < min(steps, w.shape[1]):
            space.add(space.images[:, -1])
        values, coefficients = space.ritz()
        bad = bad | space.bad
        nodes.append(values)
        weights.append(coefficients[..., 0].square() / vectors)
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
    """A measurement that starts from the vectors where its last one ended."""

    def measure(networks: Networks) -> Tensor:
        task, data = networks.task, networks.parts["train"]
        parts = _cached(networks.w, len(data))
        # the sweep's own gradients, which on the full batch are taken at the same place
        own = {"gradients": networks.gradients} if len(parts) == 1 else {}
        memory = networks.memory.setdefault(name, [None] * len(parts))
        values = []
        for i, w in enumerate(parts):
            found, _, memory[i] = largest(operator(task, w, data.x, data.y, **own), w, k, rel, warm=memory[i])
            values.append(found)
        return torch.cat(values)

    return measure


def _first(measure: Callable[[Networks], Tensor]) -> Callable[[Networks], Tensor]:
    return lambda networks: measure(networks)[:, 0]


def eigenvalues(k: int, rel: float = 1e-3) -> Probe:
    """A probe "eigenvalues" of the k largest Hessian eigenvalues, along the dimension "eigenvalue".

    Args:
        rel: error to stop at, as in `largest`.
    """
    return Probe("eigenvalues", _recorded("eigenvalues", hvp, k, rel), dims=("eigenvalue",))


def _trace(networks: Networks) -> Tensor:
    return trace(networks.task, networks.w, part=networks.parts["train"])[0]


register(Probe("sharpness", _first(_recorded("sharpness", hvp))))
register(Probe("ggn_sharpness", _first(_recorded("ggn_sharpness", gnvp))))
register(Probe("ntk_eigenvalue", _first(_recorded("ntk_eigenvalue", _ntk))))
register(Probe("trace", _trace))
register(Probe("lowest_curvature", lambda n: lowest_eigenvalue(n.task, n.w, n.parts["train"])))
