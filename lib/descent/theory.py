"""Closed forms that experiments are held against.

Functions take numbers or NumPy arrays, broadcast them, and return arrays. `lr` is the
learning rate, `curvature` an eigenvalue of the Hessian, `momentum` that of heavy ball,
`t` a number of updates. For a quadratic, `eigenvalues` (..., P) and the start `w0` (..., P),
measured from the minimum in the basis of eigenvectors, have the axes last and `t` (steps,)
adds a last dimension to the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize
from scipy.special import expit, hyp2f1

Array = NDArray[np.float64]


def _arrays(*values: ArrayLike) -> list[Array]:
    return [np.asarray(v, dtype=float) for v in values]


def _quadratic(eigenvalues: ArrayLike, w0: ArrayLike, t: ArrayLike) -> tuple[Array, Array, Array]:
    """eigenvalues and w0 (..., 1, P) and t (steps, 1), ready to be combined."""
    eigenvalues, w0, t = _arrays(eigenvalues, w0, t)
    return eigenvalues[..., None, :], w0[..., None, :], np.atleast_1d(t)[:, None]


# -- stability and rates of gradient descent and heavy ball ------------------------------


def gd_threshold(lr: ArrayLike) -> Array:
    """2 / lr: the curvature above which gradient descent is unstable, because w <- (1 - lr curvature) w."""
    return 2 / np.asarray(lr, dtype=float)


def heavy_ball_threshold(lr: ArrayLike, momentum: ArrayLike) -> Array:
    """(2 + 2 momentum) / lr, the same for heavy ball (Goh 2017, "Why momentum really works").

    The roots of z^2 - (1 + momentum - lr curvature) z + momentum reach z = -1 there.
    """
    lr, momentum = _arrays(lr, momentum)
    return (2 + 2 * momentum) / lr


def gd_contraction(lr: ArrayLike, curvature: ArrayLike) -> Array:
    """|1 - lr curvature|, by which one step of gradient descent shrinks (or grows) an eigenvector's share."""
    lr, curvature = _arrays(lr, curvature)
    return np.abs(1 - lr * curvature)


def heavy_ball_contraction(lr: ArrayLike, momentum: ArrayLike, curvature: ArrayLike) -> Array:
    """The larger modulus of the roots of z^2 - (1 + momentum - lr curvature) z + momentum.

    It is sqrt(momentum) wherever the roots are complex (Polyak 1964).
    """
    lr, momentum, curvature = _arrays(lr, momentum, curvature)
    b = 1 + momentum - lr * curvature
    root = np.sqrt((b * b - 4 * momentum).astype(complex))
    return np.maximum(np.abs(b + root), np.abs(b - root)) / 2


def optimal_lr(smallest: ArrayLike, largest: ArrayLike) -> Array:
    """2 / (smallest + largest), where both ends of the spectrum contract alike (Polyak 1987, section 1.4)."""
    smallest, largest = _arrays(smallest, largest)
    return 2 / (smallest + largest)


def optimal_rate(condition: ArrayLike) -> Array:
    """(condition - 1) / (condition + 1), gradient descent's contraction per step at `optimal_lr`."""
    condition = np.asarray(condition, dtype=float)
    return (condition - 1) / (condition + 1)


def optimal_heavy_ball(smallest: ArrayLike, largest: ArrayLike) -> tuple[Array, Array, Array]:
    """Learning rate 4 / (sqrt l + sqrt s)^2, momentum ((sqrt l - sqrt s) / (sqrt l + sqrt s))^2 and
    contraction per step sqrt(momentum), the best for a quadratic with extreme eigenvalues s and l (Polyak 1964)."""
    s, l = np.sqrt(_arrays(smallest, largest))
    rate = (l - s) / (l + s)
    return 4 / (l + s) ** 2, rate**2, rate


def gd_loss(eigenvalues: ArrayLike, w0: ArrayLike, lr: ArrayLike, t: ArrayLike) -> Array:
    """Loss of gradient descent on a quadratic after t updates, (..., steps), exactly:
    sum_i lambda_i (1 - lr lambda_i)^(2 t) w0_i^2 / 2."""
    lam, w0, t = _quadratic(eigenvalues, w0, t)
    lr = np.asarray(lr, dtype=float)[..., None, None]
    return (lam * (1 - lr * lam) ** (2 * t) * w0**2).sum(-1) / 2


# -- bounds ------------------------------------------------------------------------------


def convex_bound(smoothness: ArrayLike, distance: ArrayLike, t: ArrayLike) -> Array:
    """smoothness distance^2 / (2 t): loss above the minimum of a convex function after t updates of
    gradient descent with lr = 1 / smoothness, from `distance` = |w0 - w*| (Beck & Teboulle 2009, theorem 3.1)."""
    smoothness, distance, t = _arrays(smoothness, distance, t)
    return smoothness * distance**2 / (2 * t)


def pl_bound(mu: ArrayLike, smoothness: ArrayLike, gap: ArrayLike, t: ArrayLike) -> Array:
    """(1 - mu / smoothness)^t gap: the same under the Polyak-Lojasiewicz inequality |grad f|^2 / 2 >= mu (f - f*),
    from the initial `gap` f(w0) - f* (Polyak 1963; Karimi, Nutini & Schmidt 2016, theorem 1)."""
    mu, smoothness, gap, t = _arrays(mu, smoothness, gap, t)
    return (1 - mu / smoothness) ** t * gap


def sgd_bound(mu: ArrayLike, lr: ArrayLike, variance: ArrayLike, distance: ArrayLike, t: ArrayLike) -> Array:
    """(1 - lr mu)^t distance^2 + lr variance / mu, a bound on E|w_t - w*|^2 of SGD with additive noise.

    For f mu-strongly convex and L-smooth, lr <= 1 / L and unbiased gradients whose noise has
    total variance at most `variance` (for a minibatch of b: tr Sigma / b). From
    E|w - lr g - w*|^2 = |w - w*|^2 - 2 lr <grad f, w - w*> + lr^2 (|grad f|^2 + variance), with
    <grad f, w - w*> >= f - f* + mu |w - w*|^2 / 2 and |grad f|^2 <= 2 L (f - f*).
    """
    mu, lr, variance, distance, t = _arrays(mu, lr, variance, distance, t)
    return (1 - lr * mu) ** t * distance**2 + lr * variance / mu


# -- the noise of SGD on a quadratic -----------------------------------------------------


def sgd_variance(lr: ArrayLike, curvature: ArrayLike, noise: ArrayLike, batch_size: ArrayLike = 1) -> Array:
    """lr noise / (curvature (2 - lr curvature) batch_size): stationary variance of w along an eigenvector.

    `noise` is the variance of one example's gradient along it; minibatches are drawn with
    replacement. Fixed point of v = (1 - lr curvature)^2 v + lr^2 noise / batch_size; exact.
    NaN from lr = 2 / curvature on, where no stationary state exists.
    """
    lr, curvature, noise, b = _arrays(lr, curvature, noise, batch_size)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lr * curvature < 2, lr * noise / (curvature * (2 - lr * curvature) * b), np.nan)


def sgd_loss(
    lr: ArrayLike, eigenvalues: ArrayLike, noises: ArrayLike, batch_size: ArrayLike = 1
) -> Array:
    """Mean loss of SGD in its stationary state on a quadratic: half the sum over the last axis of
    eigenvalue times `sgd_variance`; exact."""
    lr, b = (v[..., None] for v in _arrays(lr, batch_size))
    return (np.asarray(eigenvalues, dtype=float) * sgd_variance(lr, eigenvalues, noises, b)).sum(-1) / 2


def sgd_expected_loss(
    eigenvalues: ArrayLike, w0: ArrayLike, lr: ArrayLike, noises: ArrayLike, batch_size: ArrayLike, t: ArrayLike
) -> Array:
    """Mean loss of SGD on a quadratic after t updates, (..., steps), exactly.

    Along an eigenvector with q = (1 - lr eigenvalue)^2, E w_t^2 = q^t w0^2 + (1 + q + ... + q^(t-1)) lr^2 noise / b.
    """
    lam, w0, t = _quadratic(eigenvalues, w0, t)
    lr, b = (v[..., None, None] for v in _arrays(lr, batch_size))
    q = (1 - lr * lam) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        kicks = np.where(q == 1, t, (1 - q**t) / (1 - q))
    noises = np.asarray(noises, dtype=float)[..., None, :]
    return (lam * (q**t * w0**2 + kicks * lr**2 * noises / b)).sum(-1) / 2


def heavy_ball_expected_loss(
    eigenvalues: ArrayLike, w0: ArrayLike, lr: float, momentum: float, noises: ArrayLike, batch_size: float, t: ArrayLike
) -> Array:
    """Mean loss of SGD with heavy-ball momentum on a quadratic after t updates, (steps,), exactly.

    One update maps (w, v) linearly to (w - lr v', v') with v' = momentum v + gradient, so their
    second moments obey S <- M S M^T + N; they are iterated here. `eigenvalues`, `w0` and
    `noises` (P,) or numbers. Infinite beyond the range of floating point.

    Raises:
        ValueError: a number of updates is negative.
    """
    t = np.atleast_1d(np.asarray(t, dtype=int))
    if t.min() < 0:
        raise ValueError(f"t={t.min()} must be at least 0")
    lam, w0, noises = np.broadcast_arrays(*map(np.atleast_1d, _arrays(eigenvalues, w0, noises)))
    one = np.ones_like(lam)
    move = np.array([[1 - lr * lam, -lr * momentum * one], [lam, momentum * one]]).transpose(2, 0, 1)
    kicks = (noises / batch_size)[:, None, None] * np.array([[lr**2, -lr], [-lr, 1.0]])
    moments = np.zeros_like(move)
    moments[:, 0, 0] = w0**2
    losses = np.empty(t.max() + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for s in range(len(losses)):
            losses[s] = (lam * moments[:, 0, 0]).sum() / 2
            moments = move @ moments @ move.transpose(0, 2, 1) + kicks
    return np.where(np.isnan(losses), np.inf, losses)[t]


def average_variance(curvature: ArrayLike, noise: ArrayLike, t: ArrayLike, batch_size: ArrayLike = 1) -> Array:
    """noise / (curvature^2 t batch_size): variance of the average of t iterates of SGD, for large t.

    Whatever the learning rate, and the least possible (Polyak & Juditsky 1992, theorem 1).
    """
    curvature, noise, t, b = _arrays(curvature, noise, t, batch_size)
    return noise / (curvature**2 * t * b)


def average_variance_exact(
    lr: ArrayLike, curvature: ArrayLike, noise: ArrayLike, t: ArrayLike, batch_size: ArrayLike = 1
) -> Array:
    """Variance of (w_1 + ... + w_t) / t from w_0 = 0 along an eigenvector, for every t.

    Noise xi_s enters the sum as lr xi_s (1 + r + ... + r^(t-s)) with r = 1 - lr curvature;
    summing (1 - r^k)^2 over k = 1 .. t gives the result. For large t it is `average_variance`.
    """
    lr, curvature, noise, t, b = _arrays(lr, curvature, noise, t, batch_size)
    r = 1 - lr * curvature
    total = t - 2 * r * (1 - r**t) / (1 - r) + r**2 * (1 - r ** (2 * t)) / (1 - r**2)
    return noise * total / (curvature**2 * t**2 * b)


# -- scalar networks: the sharpness that gradient flow ends with -------------------------


def scalar_flow_solution(weights: ArrayLike, target: float = 1.0) -> Array:
    """Where gradient flow from `weights` (..., depth) ends on L(w) = (w_1 ... w_depth - target)^2 / 2.

    The flow keeps every w_i^2 - w_j^2, because w_i dw_i/dt is the same for all i, and moves
    the product monotonically towards the target. Along it all squares shift by one number s;
    s is found by bisection.

    Returns:
        The solution, (..., depth).

    Raises:
        ValueError: the flow does not reach the target: a weight is zero or the product and
            the target have opposite signs (some of these cross zero, some end on a saddle).
    """
    w = np.asarray(weights, dtype=float)
    product = w.prod(-1)
    if (product * target <= 0).any():
        raise ValueError(f"the product of the weights must have the sign of target={target} and no weight be zero")
    squares = w**2
    low, high = -squares.min(-1), np.full(product.shape, 2.0 * abs(target) ** (2 / w.shape[-1]))
    for _ in range(200):
        middle = (low + high) / 2
        below = np.sqrt(np.clip(squares + middle[..., None], 0, None)).prod(-1) < abs(target)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.sign(w) * np.sqrt(squares + ((low + high) / 2)[..., None])


def scalar_sharpness(weights: ArrayLike) -> Array:
    """Sharpness of a scalar network that fits its target: target^2 sum_i 1 / w_i^2 = sum_i (prod_{j != i} w_j)^2.

    There the residual vanishes and the Hessian is the outer product of the gradient of
    the product with itself. `weights` (..., depth) must be a solution.
    """
    w = np.asarray(weights, dtype=float)
    return np.square(w.prod(-1, keepdims=True) / w).sum(-1)


def gfs_sharpness(weights: ArrayLike, target: float = 1.0) -> Array:
    """Gradient-flow-solution sharpness of scalar networks: the sharpness of the solution that
    gradient flow from `weights` (..., depth) converges to (Kreisler et al. 2023)."""
    return scalar_sharpness(scalar_flow_solution(weights, target))


# -- the second-order regression model ---------------------------------------------------


def second_order_step(z: ArrayLike, kernel: ArrayLike, eps: ArrayLike, target: ArrayLike = 0.0) -> tuple[Array, Array]:
    """One step of gradient descent on (f - target)^2 / 2 with f = (w_1^2 - eps w_2^2) / 2 (Agarwala et al. 2023).

    With Q = diag(1, -eps) and J = Q w, the residual z = f - target and T_k = J . Q^k J obey exactly
    z <- z - z T_0 + z^2 T_1 / 2 and T_0 <- T_0 - z (2 T_1 - z T_2). In two dimensions T_0 and z say
    it all: T_2 = (1 - eps) T_1 + eps T_0 and T_1 = (1 - eps) T_0 + 2 eps (z + target).

    Args:
        z: learning rate times residual.
        kernel: learning rate times tangent kernel T_0 = w_1^2 + eps^2 w_2^2.
        target: learning rate times target.

    Returns:
        z and kernel after the step.
    """
    z, kernel, eps, target = _arrays(z, kernel, eps, target)
    first = (1 - eps) * kernel + 2 * eps * (z + target)
    second = (1 - eps) * first + eps * kernel
    return z - z * kernel + z**2 * first / 2, kernel - z * (2 * first - z * second)


def second_order_limit(eps: ArrayLike) -> Array:
    """2 - eps / 2: learning rate times the tangent kernel at the end of training that passed the
    edge of stability, for small eps and target 0 (Agarwala et al. 2023, section 2).

    It holds up to terms of order eps^2; the tests iterate `second_order_step` to confirm it.
    """
    return 2 - np.asarray(eps, dtype=float) / 2


# -- gradient flow on linear regression --------------------------------------------------


def flow_loss(eigenvalues: ArrayLike, w0: ArrayLike, time: ArrayLike) -> Array:
    """Loss of gradient flow on a quadratic at the given times, (..., times):
    sum_i lambda_i exp(-2 lambda_i time) w0_i^2 / 2, from dw_i/dt = -lambda_i w_i."""
    lam, w0, time = _quadratic(eigenvalues, w0, time)
    return (lam * np.exp(-2 * lam * time) * w0**2).sum(-1) / 2


def flow_path_length(eigenvalues: ArrayLike, w0: ArrayLike, time: ArrayLike, nodes: int = 200) -> Array:
    """Length of gradient flow's path up to the given times, (..., times).

    The integral of |dw/dt| = sqrt(sum_i lambda_i^2 exp(-2 lambda_i s) w0_i^2), by Gauss-Legendre
    quadrature in log(1 + lambda_max s).
    """
    lam, w0, time = _quadratic(eigenvalues, w0, time)
    x, weights = np.polynomial.legendre.leggauss(nodes)
    scale = lam.max(-1)  # (..., 1)
    end = np.log1p(scale * time[:, 0])  # (..., times)
    u = end[..., None] * (x + 1) / 2
    s = np.expm1(u) / scale[..., None]
    speed = np.sqrt((lam[..., None, :] ** 2 * np.exp(-2 * lam[..., None, :] * s[..., None]) * w0[..., None, :] ** 2).sum(-1))
    return (speed * np.exp(u) / scale[..., None] * weights).sum(-1) * end / 2


# -- modes of deep linear networks -------------------------------------------------------


def _mode(depth: int, *values: ArrayLike) -> list[Array]:
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth={depth!r} must be a positive integer, the number of layers")
    arrays = _arrays(*values)
    if any((v <= 0).any() for v in arrays[:2]):
        raise ValueError("a mode's singular value and its initial strength must be positive")
    return arrays


def _clock(a: Array, s: Array, depth: int) -> Array:
    """A primitive of 1 / (depth a^(2 - 2 / depth) (s - a)) in a, for 0 < a < s."""
    if depth == 1:
        return -np.log(s - a)
    if depth == 2:
        return (np.log(a) - np.log(s - a)) / (2 * s)
    q = 2 / depth - 1
    return a**q / (depth * s * q) * hyp2f1(1, q, 1 + q, a / s)


def saxe_time(singular_value: ArrayLike, start: ArrayLike, strength: ArrayLike, depth: int = 2) -> Array:
    """Time lr * steps that gradient flow takes from the initial strength of a mode to a later one, both below its singular value.

    da/dt = depth a^(2 - 2 / depth) (s - a) for balanced layers (Saxe et al. 2014, eq. 11 for
    depth 2; Arora et al. 2018). Depth 2: log(strength (s - start) / (start (s - strength))) / (2 s); deeper,
    the integral is a hypergeometric function.

    Args:
        singular_value: s of the input-output correlation matrix of whitened data.
        start, strength: the mode's singular value in the network's end-to-end matrix, at first and at last.

    Raises:
        ValueError: a depth that is no positive integer, or values that are not positive.
    """
    s, start, strength = _mode(depth, singular_value, start, strength)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _clock(strength, s, depth) - _clock(start, s, depth)


def saxe_mode(t: ArrayLike, singular_value: ArrayLike, start: ArrayLike, depth: int = 2) -> Array:
    """Strength of a mode after time t = lr * steps, started below its singular value.

    Depth 2 (Saxe et al. 2014, eq. 12): s / (1 + (s / start - 1) exp(-2 s t)). Otherwise `saxe_time` is inverted
    by bisection in log(a / (s - a)), to a relative error of 1e-12.

    Raises:
        ValueError: as `saxe_time`, or a start that is not below the singular value.
    """
    s, start, t = _mode(depth, singular_value, start, t)
    if (start >= s).any():
        raise ValueError("a mode must start below its singular value")
    if depth == 2:
        return s / (1 + (s / start - 1) * np.exp(-2 * s * t))
    s, start, t = np.broadcast_arrays(s, start, t)
    low = np.log(start) - np.log(s - start)
    high = np.maximum(low, 0) + 60.0
    for _ in range(60):
        middle = (low + high) / 2
        late = saxe_time(s, start, np.minimum(s * expit(middle), np.nextafter(s, 0)), depth) > t
        low, high = np.where(late, low, middle), np.where(late, middle, high)
    return s * expit((low + high) / 2)


def early_strength(first: ArrayLike, second: ArrayLike, orthogonal: bool = True) -> Array:
    """Initial strengths (..., modes) with which the modes of a two-layer linear network set out from small random weights.

    While the product is small, p_k = W_1 v_k and q_k = W_2^T u_k obey dp/dt = s q, dq/dt = s p. Of the
    initial weights only z_k = (p_k + q_k) / 2 grows, as exp(s_k t). Once a stronger mode is learned, the gradient removes what
    z_k has along that mode's hidden direction. What is left is z_k made orthogonal to the z of
    all stronger modes (Gram-Schmidt), and the strength is its squared length.

    Args:
        first: p, (..., modes, hidden units), the strongest mode first.
        second: q, (..., modes, hidden units).
        orthogonal: False leaves Gram-Schmidt out: the squared lengths of the z_k themselves.

    Raises:
        ValueError: more modes than hidden units.
    """
    p, q = _arrays(first, second)
    if p.shape[-2] > p.shape[-1]:
        raise ValueError(f"{p.shape[-2]} modes do not fit into {p.shape[-1]} hidden units")
    triangle = np.linalg.qr(np.swapaxes(p + q, -1, -2) / 2, mode="r")
    if not orthogonal:
        return np.square(triangle).sum(-2)
    return np.square(np.diagonal(triangle, axis1=-2, axis2=-1))


# -- mean-field signal propagation -------------------------------------------------------
#
# h = activation(z), z' = W h + b with W ~ N(0, weight^2 / fan-in) and b ~ N(0, bias^2): in wide
# networks every z is Gaussian over the draw of the weights, and two numbers say all about a pair of inputs,
# the variance q of z and the correlation c (Poole et al. 2016, Schoenholz et al. 2017).

#: name -> the function, its first and its second derivative
_SIGNALS = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2, lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2)),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float), np.zeros_like),
    "linear": (lambda z: z, np.ones_like, np.zeros_like),
}
#: nodes of the quadrature, for one and for each of two normal numbers; even, so that none is at a kink
_NODES = 400, 160


def _signal(activation: str) -> tuple:
    if activation not in _SIGNALS:
        raise ValueError(f"unknown activation {activation!r}; choose from {sorted(_SIGNALS)}")
    return _SIGNALS[activation]


def _normal_nodes(count: int) -> tuple[Array, Array]:
    """Evenly spaced nodes: for analytic functions under a Gaussian as exact as Gauss-Hermite ones, and closer together
    in the middle, where the slope of tanh(4 z) has a narrow peak."""
    z = 8 * ((np.arange(count) + 0.5) / (count / 2) - 1)
    weights = np.exp(-(z**2) / 2)
    return z, weights / weights.sum()


def _mean(f, q: Array) -> Array:
    """E f(sqrt(q) z) for a standard normal z."""
    z, weights = _normal_nodes(_NODES[0])
    return f(np.sqrt(q)[..., None] * z) @ weights


def _mean_of_two(f, q: Array, c: Array) -> Array:
    """E f(u) f(v) for normal u, v of variance q and correlation c."""
    z, weights = _normal_nodes(_NODES[1])
    q, c = (a[..., None, None] for a in np.broadcast_arrays(q, c))
    u = np.sqrt(q) * z[:, None]
    v = c * u + np.sqrt(q * np.clip(1 - c**2, 0, None)) * z
    return np.einsum("...ij,i,j->...", f(u) * f(v), weights, weights)


def variance_map(q: ArrayLike, weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """Variance of the next layer's z, weight^2 E activation(sqrt(q) z)^2 + bias^2 (Poole et al. 2016, eq. 3)."""
    q, weight, bias = _arrays(q, weight, bias)
    phi = _signal(activation)[0]
    return weight**2 * _mean(lambda z: phi(z) ** 2, q) + bias**2


def correlation_map(
    c: ArrayLike, q: ArrayLike, weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh"
) -> Array:
    """Correlation of the next layer's z of two inputs that both have variance q here (Poole et al. 2016, eq. 5)."""
    c, q, weight, bias = _arrays(c, q, weight, bias)
    covariance = weight**2 * _mean_of_two(_signal(activation)[0], q, c) + bias**2
    return covariance / variance_map(q, weight, bias, activation)


def susceptibility(
    q: ArrayLike, weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh", c: ArrayLike = 1.0
) -> Array:
    """chi = weight^2 E activation'(u) activation'(v) for variance q and correlation c (Schoenholz et al. 2017, eq. 5).

    With c = 1 it is chi_1: the factor by which one layer multiplies the mean square of a gradient on its way back, and of
    a small difference of two inputs on its way forth. `bias` plays no part but through q.
    """
    q, weight, c = _arrays(q, weight, c)
    slope = _signal(activation)[1]
    if (c == 1).all():
        return weight**2 * _mean(lambda z: slope(z) ** 2, q)
    return weight**2 * _mean_of_two(slope, q, c)


def variance_fixed_point(weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """q*, the variance that deep layers tend to: the largest q with `variance_map`(q) = q; infinite if there is none.

    Found by bisection. It is unique but for q = 0, which without biases is always one.
    """
    weight, bias = np.broadcast_arrays(*_arrays(weight, bias))
    grows = lambda q: variance_map(q, weight, bias, activation) > q
    low, high = np.zeros(weight.shape), weight**2 + bias**2 + 1.0
    for _ in range(20):
        high = np.where(grows(high), 4 * high, high)
    endless = grows(high)
    for _ in range(100):
        middle = (low + high) / 2
        up = grows(middle)
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return np.where(endless, np.inf, np.where(low == 0, 0.0, high))


def correlation_fixed_point(weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """c*, the correlation that two inputs tend to in deep layers: 1 where chi_1 <= 1, in the ordered phase, and less
    beyond, in the chaotic phase (Poole et al. 2016, section 2). By bisection at the variance q*."""
    weight, bias = np.broadcast_arrays(*_arrays(weight, bias))
    q = variance_fixed_point(weight, bias, activation)
    if not np.isfinite(q).all():
        raise ValueError("the variance grows without bound for some of these weights and biases; there is no c*")
    low, high = np.zeros(weight.shape), np.full(weight.shape, 1 - 1e-6)
    safe = np.where(q > 0, q, 1.0)
    for _ in range(40):
        middle = (low + high) / 2
        up = correlation_map(middle, safe, weight, bias, activation) > middle
        low, high = np.where(up, middle, low), np.where(up, high, middle)
    return np.where((susceptibility(q, weight, bias, activation) <= 1) | (q == 0), 1.0, (low + high) / 2)


def depth_scales(weight: ArrayLike, bias: ArrayLike = 0.0, activation: str = "tanh") -> tuple[Array, Array]:
    """(xi_q, xi_c): layers after which the distance of the variance from q*, and of the correlation from c*, has fallen
    by the factor e (Schoenholz et al. 2017, eqs. 7 and 9). xi_c is infinite at the edge of chaos, where chi_1 = 1.
    """
    weight, bias = _arrays(weight, bias)
    phi, slope, bend = _signal(activation)
    q, c = variance_fixed_point(weight, bias, activation), correlation_fixed_point(weight, bias, activation)
    along = susceptibility(q, weight, bias, activation) + weight**2 * _mean(lambda z: phi(z) * bend(z), q)
    across = np.where(c == 1, susceptibility(q, weight, bias, activation), susceptibility(q, weight, bias, activation, np.minimum(c, 1 - 1e-9)))
    with np.errstate(divide="ignore"):
        return -1 / np.log(along), -1 / np.log(np.minimum(across, 1.0))


def variances(q: ArrayLike, weight: ArrayLike, layers: int, bias: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """The variance of z in the layers 1, ..., `layers`, of which the first has variance q, (..., layers)."""
    q, weight, bias = np.broadcast_arrays(*_arrays(q, weight, bias))
    found = [q]
    for _ in range(layers - 1):
        found.append(variance_map(found[-1], weight, bias, activation))
    return np.stack(found, -1)


def feature_cosines(
    square: float, cosine: ArrayLike, weight: ArrayLike, layers: int, bias: ArrayLike = 0.0, activation: str = "tanh"
) -> Array:
    """Cosine of the last hidden activations of two inputs in a wide network of `layers` hidden layers at its start.

    Args:
        square: mean square of an input's features, the same for both inputs.
        cosine: of the two inputs.
    """
    cosine, weight, bias = np.broadcast_arrays(*_arrays(cosine, weight, bias))
    q = weight**2 * square + bias**2
    c = (weight**2 * square * cosine + bias**2) / q
    for _ in range(layers - 1):
        c, q = correlation_map(c, q, weight, bias, activation), variance_map(q, weight, bias, activation)
    phi = _signal(activation)[0]
    return _mean_of_two(phi, q, c) / _mean(lambda z: phi(z) ** 2, q)


def gradient_sizes(q: ArrayLike, weight: ArrayLike, width: int, layers: int, bias: ArrayLike = 0.0, activation: str = "tanh") -> Array:
    """Root mean square size of the gradient of an output in each weight matrix of a wide network at its start, (..., layers + 1).

    Matrix l turns activations of mean square (q_l - bias^2) / weight^2 into z of variance q_l, so that its gradient has the
    mean square fan-in (q_l - bias^2) / weight^2 times chi(q_l) ... chi(q_layers), what is left of the output's
    derivative on its way back.

    Args:
        q: variance of z in the first hidden layer.
        width: units of the inputs and of each of the `layers` hidden layers.
    """
    weight, bias = _arrays(weight, bias)
    forth = variances(q, weight, layers + 1, bias, activation)
    chi = np.stack([susceptibility(forth[..., l], weight, bias, activation) for l in range(layers)], -1)
    back = np.concatenate([np.cumprod(chi[..., ::-1], -1)[..., ::-1], np.ones_like(chi[..., :1])], -1)
    return np.sqrt(width * (forth - bias[..., None] ** 2) / weight[..., None] ** 2 * back)


# -- which interpolator: smallest hyperbolic entropy, l1 norm, l2 norm -------------------


def hyperbolic_entropy(beta: ArrayLike, scale: ArrayLike) -> Array:
    """sum_i beta_i asinh(beta_i / 2 scale_i^2) - sqrt(beta_i^2 + 4 scale_i^4) + 2 scale_i^2, over the last axis.

    What gradient flow of a diagonal linear network u^2 - v^2 from u = v = scale keeps smallest among
    the interpolators (Woodworth et al. 2020, theorem 1; theirs times scale^2). Its gradient is
    asinh(beta / 2 scale^2): for a large scale it is |beta|^2 / 4 scale^2, for a small one
    |beta|_1 log(1 / scale^2) to leading order. Zero at beta = 0.
    """
    beta, scale = _arrays(beta, scale)
    s = 2 * scale**2
    # sqrt(beta^2 + s^2) - s without the rounding error of the difference
    return (beta * np.arcsinh(beta / s) - beta**2 / (np.hypot(beta, s) + s)).sum(-1)


def min_hyperbolic_entropy(x: ArrayLike, y: ArrayLike, scale: ArrayLike) -> Array:
    """The interpolator x beta = y of smallest hyperbolic entropy, (dim,).

    Stationarity says beta = 2 scale^2 sinh(x^T nu) with one multiplier per example, which x beta = y
    determines: the gradient of the convex dual sum_i 2 scale_i^2 cosh((x^T nu)_i) - nu . y is zero.
    We follow this root from scales so large that the dual is a parabola down to those asked for; nu is
    nearly linear in their logarithm, and is extrapolated from one to the next.

    Args:
        x: inputs (n, dim) of full row rank, n <= dim.
        y: targets (n,) or (n, 1).
        scale: positive, one number or one per coordinate (dim,).

    Raises:
        ValueError: shapes that do not fit, or a scale that is not positive.
        RuntimeError: the targets are missed by more than 1e-8 of the largest.
    """
    x, y = _underdetermined(x, y)
    scale = np.broadcast_to(np.asarray(scale, dtype=float), x.shape[1:])
    if not (scale > 0).all():
        raise ValueError(f"scale={scale.min()} must be positive")
    q, r = np.linalg.qr(x.T)  # q^T beta = r^-T y says the same with orthonormal rows
    t = np.linalg.solve(r.T, y)
    largest = max(1.0, 2 * np.sqrt(np.abs(t).max()) / scale.min())
    factors = np.geomspace(largest, 1.0, 2 + int(2 * np.log(largest)))
    nu, step = np.linalg.solve(q.T * (2 * (largest * scale) ** 2) @ q, t), 0.0
    for s in 2 * (factors[:, None] * scale) ** 2:
        miss, slope = lambda nu: q.T @ (s * np.sinh(q @ nu)) - t, lambda nu: (q.T * (s * np.cosh(q @ nu))) @ q  # noqa: B023
        with np.errstate(over="ignore", invalid="ignore"):
            found = optimize.root(miss, nu + step, jac=slope, tol=1e-14).x
        step, nu = found - nu, found
    beta = 2 * scale**2 * np.sinh(q @ nu)
    missed = np.abs(x @ beta - y).max() / np.abs(y).max()
    if not missed <= 1e-8:
        raise RuntimeError(f"the targets are missed by {missed:.1e} of the largest at scale {scale.min():.1e}")
    return beta


def min_l1(x: ArrayLike, y: ArrayLike) -> Array:
    """The interpolator x beta = y of smallest sum_i |beta_i|, (dim,), by linear programming (basis pursuit: Chen et al. 1998).

    beta = p - m with p, m >= 0 and the sum of both smallest. Raises ValueError as `min_hyperbolic_entropy` does.
    """
    x, y = _underdetermined(x, y)
    found = optimize.linprog(np.ones(2 * x.shape[1]), A_eq=np.hstack([x, -x]), b_eq=y, method="highs")
    return found.x[: x.shape[1]] - found.x[x.shape[1] :]


def dual_margin(x: ArrayLike, truth: ArrayLike) -> float:
    """mu, how near basis pursuit is to taking a coordinate off the support of `truth`: below 1, it recovers `truth` (Fuchs 2004).

    The smallest possible max over i off the support of |(x^T nu)_i|, over all nu with (x^T nu)_i = sign(truth_i) on it: a linear program.

    Args:
        x: inputs (n, dim), linearly independent where `truth` is not 0.
        truth: coefficients (dim,).

    Raises:
        ValueError: shapes that do not fit, or a truth without zeros.
        RuntimeError: no nu has these signs.
    """
    x, truth = _arrays(x, truth)
    on = truth != 0
    if x.ndim != 2 or truth.shape != x.shape[1:] or on.all():
        raise ValueError(f"x of shape {x.shape} and truth of shape {truth.shape}; give (n, dim) and (dim,), with a zero in truth")
    n, rest = len(x), x[:, ~on].T
    bound = -np.ones((len(rest), 1))
    found = optimize.linprog(
        np.r_[np.zeros(n), 1.0], A_ub=np.block([[rest, bound], [-rest, bound]]), b_ub=np.zeros(2 * len(rest)),
        A_eq=np.c_[x[:, on].T, np.zeros(on.sum())], b_eq=np.sign(truth[on]), bounds=(None, None), method="highs",
    )  # fmt: skip
    if not found.success:
        raise RuntimeError(f"no multipliers have the signs of truth: {found.message}")
    return float(found.fun)


def min_l2(x: ArrayLike, y: ArrayLike) -> Array:
    """The interpolator x beta = y of smallest |beta|^2, (dim,): x^T (x x^T)^-1 y. Raises ValueError as `min_hyperbolic_entropy` does."""
    x, y = _underdetermined(x, y)
    return np.linalg.lstsq(x, y, rcond=None)[0]


def _underdetermined(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """x (n, dim) and y (n,) of a linear system with at most as many equations as unknowns."""
    x, y = _arrays(x, y)
    if x.ndim != 2 or y.shape not in ((len(x),), (len(x), 1)):
        raise ValueError(f"x of shape {x.shape} and y of shape {y.shape}; give (n, dim) and (n,) or (n, 1)")
    if np.linalg.matrix_rank(x) < len(x):
        raise ValueError(f"the {len(x)} rows of x {x.shape} are not linearly independent: there may be no interpolator")
    return x, y.reshape(-1)
