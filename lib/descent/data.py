"""Data sets: small real ones without a download, larger ones on request, synthetic ones.

Every function returns a `Data`: tensors with the samples first, split into training,
validation and test parts. What is drawn at random depends on the argument `seed` alone.
"""

from __future__ import annotations

import gzip
import math
import os
import pickle
import struct
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from descent.seeding import Generator, generator, key


@dataclass(frozen=True)
class Data:
    """A data set in up to three parts.

    Attributes:
        name: what it is, for the recipe of a Dataset.
        x, y: training inputs (n, *features) and targets, class labels (n,) or values (n, outputs).
        x_val, y_val, x_test, y_test: the other parts; None if there are none.
        law: `(generator, n) -> (x, y)` draws n further training examples, in at most 16 draws, for
            sweeps that show each example once; None if there is no more than what is here.
        truth: (features,) the weights of a linear law, None if the law is another or not known.
    """

    name: str
    x: Tensor
    y: Tensor
    x_val: Tensor | None = None
    y_val: Tensor | None = None
    x_test: Tensor | None = None
    y_test: Tensor | None = None
    law: Callable[[Generator, int], tuple[Tensor, Tensor]] | None = None
    truth: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def classes(self) -> int | None:
        """Number of classes, or None when the targets are real values.

        The largest label of all parts decides: a small training part may lack it.
        """
        if self.y.is_floating_point():
            return None
        return 1 + max(int(y.max()) for y in (self.y, self.y_val, self.y_test) if y is not None)


def _split(name: str, x: Tensor, y: Tensor, train: int, val: int, test: int | None, seed: int) -> Data:
    """Shuffle with `seed` and cut into parts; `test=None` takes all that is left."""
    for part, size in (("train", train), ("val", val), ("test", test)):
        least = 1 if part == "train" else 0
        if size is not None and (not isinstance(size, int) or size < least):
            raise ValueError(f"{name}: {part}={size!r} must be an integer of at least {least}")
    if train + val + (test or 0) > len(x):
        raise ValueError(f"{name} has {len(x)} examples; train={train}, val={val}, test={test} asks for more")
    order = generator(seed, "data").permutation(len(x))
    end = len(x) if test is None else train + val + test
    a, b, c = order[:train], order[train : train + val], order[train + val : end]
    parts = [(x[i], y[i]) if len(i) else (None, None) for i in (b, c)]
    return Data(name, x[a], y[a], *parts[0], *parts[1])


def digits(train: int = 1000, val: int = 0, test: int | None = None, seed: int = 0) -> Data:
    """8 x 8 images of handwritten digits, 1,797 of them, bundled with scikit-learn.

    Inputs (n, 64) hold the ink between 0 and 1, standardized as a whole (one mean, one
    standard deviation, both of the training part).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.tensor(bunch.data / 16, dtype=torch.float32)
    whole = _split("digits", x, torch.tensor(bunch.target), train, val, test, seed)
    return _standardized(whole)


def digit_pair(positive: int = 0, negative: int = 1) -> Data:
    """All `digits` of two classes: inputs (n, 64) centred over both and of unit norm, targets (n, 1) of +1 and -1.

    Raises:
        ValueError: the classes are not two different digits.
    """
    from sklearn.datasets import load_digits

    if positive == negative or not {positive, negative} <= set(range(10)):
        raise ValueError(f"digit_pair: give two different digits from 0 to 9, not {positive!r} and {negative!r}")
    bunch = load_digits()
    chosen = (bunch.target == positive) | (bunch.target == negative)
    x = torch.tensor(bunch.data[chosen])
    x = x - x.mean(0)
    y = torch.tensor(np.where(bunch.target[chosen] == positive, 1.0, -1.0))
    return Data(f"digits {positive} and {negative}", x / x.norm(dim=1, keepdim=True), y[:, None])


def parity(data: Data, signs: bool = False) -> Data:
    """Even classes against odd ones: labels 0 and 1, or with `signs` targets -1 and 1, (n, 1)."""

    def change(y: Tensor | None) -> Tensor | None:
        if y is None:
            return None
        return (2.0 * (y % 2) - 1)[:, None] if signs else y % 2

    if data.classes is None:
        raise ValueError(f"parity needs class labels; {data.name!r} has real targets")
    return Data(f"{data.name}, parity", data.x, change(data.y), data.x_val, change(data.y_val), data.x_test, change(data.y_test))


def mnist1d(train: int = 4000, val: int = 0, test: int | None = None, seed: int = 0) -> Data:
    """MNIST-1D (Greydanus & Kobak): 5,000 curves of 40 points in 10 classes, generated on the spot."""
    from mnist1d.data import get_dataset_args, make_dataset

    made = make_dataset(get_dataset_args())
    x = torch.tensor(np.concatenate([made["x"], made["x_test"]]), dtype=torch.float32)
    y = torch.tensor(np.concatenate([made["y"], made["y_test"]]), dtype=torch.int64)
    return _standardized(_split("mnist1d", x, y, train, val, test, seed))


def _standardized(data: Data) -> Data:
    mean, deviation = data.x.mean(), data.x.std()
    parts = {
        k: None if v is None else (v - mean) / deviation
        for k, v in (("x", data.x), ("x_val", data.x_val), ("x_test", data.x_test))
    }
    return Data(data.name, y=data.y, y_val=data.y_val, y_test=data.y_test, **parts)


# -- larger real data, on request --------------------------------------------------------

#: where Debian's package `dataset-fashion-mnist` puts its files
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR_MD5 = {"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"}


def _download(url: str, name: str, md5: str, hint: str) -> Path:
    """A file from the download cache, fetched and checked if it is not there yet.

    The cache is the operating system's, or the folder named by `DESCENT_DATA`.

    Raises:
        FileNotFoundError: absent and not to be had; the message names both ways to get it.
        ValueError: what arrived does not have the known checksum.
    """
    import pooch

    folder = os.environ.get("DESCENT_DATA") or pooch.os_cache("descent")
    try:
        return Path(pooch.retrieve(url + name, known_hash=f"md5:{md5}", fname=name, path=folder, progressbar=False))
    except OSError as error:
        raise FileNotFoundError(f"{name} is not on this machine and {url + name} did not answer. {hint}") from error


def _idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file: big-endian shape, then bytes."""
    raw = gzip.decompress(path.read_bytes())
    ndim = raw[3]
    shape = struct.unpack(f">{ndim}I", raw[4 : 4 + 4 * ndim])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def fashion_mnist(train: int = 10_000, val: int = 0, test: int | None = 10_000, seed: int = 0) -> Data:
    """Fashion-MNIST (Xiao et al. 2017): 28 x 28 images of clothes, (n, 1, 28, 28), 10 classes.

    Read from Debian's package `dataset-fashion-mnist` if it is installed, else downloaded
    once into a cache and checked. The test part comes from the official test images.

    Raises:
        FileNotFoundError: neither is possible; the message names both ways.
    """
    hint = (
        "Either install Debian's package `dataset-fashion-mnist`, or connect once to the internet, "
        "or put the file into the folder named by DESCENT_DATA."
    )

    def load(name: str) -> np.ndarray:
        local = DEBIAN_FASHION / name
        return _idx(local if local.exists() else _download(FASHION_URL, name, FASHION_MD5[name], hint))

    images = [torch.tensor(load(f"{part}-images-idx3-ubyte.gz")).float().unsqueeze(1) / 255 for part in ("train", "t10k")]
    labels = [torch.tensor(load(f"{part}-labels-idx1-ubyte.gz")).long() for part in ("train", "t10k")]
    return _official("fashion_mnist", images, labels, train, val, test, seed)


def cifar10(train: int = 45_000, val: int = 5_000, test: int | None = 10_000, seed: int = 0) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 32 x 32 colour photographs, (n, 3, 32, 32), 10 classes.

    Downloaded once into a cache and checked.

    Raises:
        FileNotFoundError: absent and offline; the message says what to do.
    """
    (name, md5), = CIFAR_MD5.items()
    hint = "Connect once to the internet, or put the file into the folder named by DESCENT_DATA."
    images, labels = {}, {}
    with tarfile.open(_download(CIFAR_URL, name, md5, hint)) as archive:
        for member in archive.getmembers():
            part = Path(member.name).name
            if part.startswith("data_batch_") or part == "test_batch":
                batch = pickle.load(archive.extractfile(member), encoding="bytes")
                images[part], labels[part] = batch[b"data"], batch[b"labels"]
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    arrays = [np.concatenate([images[b] for b in batches]), images["test_batch"]]
    targets = [np.concatenate([labels[b] for b in batches]), np.array(labels["test_batch"])]
    pixels = [torch.tensor(a).reshape(-1, 3, 32, 32).float() / 255 for a in arrays]
    return _official("cifar10", pixels, [torch.tensor(t).long() for t in targets], train, val, test, seed)


def _official(
    name: str, images: list[Tensor], labels: list[Tensor], train: int, val: int, test: int | None, seed: int
) -> Data:
    """Training and validation parts from the official training images, test part from the test images."""
    fitted = _split(name, images[0], labels[0], train, val, 0, seed)
    size = len(images[1]) if test is None else test
    held = _split(name, images[1], labels[1], size, 0, 0, seed) if size else None
    return _standardized(
        Data(name, fitted.x, fitted.y, fitted.x_val, fitted.y_val, *((held.x, held.y) if held else (None, None)))
    )


# -- synthetic data ----------------------------------------------------------------------


def _numbers(name: str, **sizes: int) -> None:
    for key, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}: {key}={value!r} must be a positive integer")


def tilts(n: int, deviations: float | Sequence[float], dim: int | None = None, seed: int = 0) -> Data:
    """Gradient noise for `models.Quadratic` and `models.Function`: n Gaussian vectors (n, dim).

    They are shifted to have mean exactly zero, so that the average loss is the bare
    function, and rescaled to have exactly the given standard deviation along each axis.

    Args:
        deviations: standard deviation per axis, or one for all `dim` axes.
    """
    axes = torch.as_tensor(deviations, dtype=torch.float64).reshape(-1)
    axes = axes.expand(dim) if dim is not None and len(axes) == 1 else axes
    _numbers("tilts", n=n)
    if n < 2 or (axes < 0).any():
        raise ValueError(f"tilts: n={n} must be at least 2 and deviations={deviations!r} must not be negative")
    x = generator(seed, "data").normal(n, len(axes)).double()
    x = (x - x.mean(0)) / x.std(0, correction=0)
    return Data("tilts", x * axes, torch.zeros(n, dtype=torch.int64))


def nothing(dim: int) -> Data:
    """One example of zeros, for functions that need no data."""
    _numbers("nothing", dim=dim)
    return Data("nothing", torch.zeros(1, dim), torch.zeros(1, dtype=torch.int64))


def sources(count: int) -> Data:
    """One example on which all sources agree, x = (1, ..., 1) with target 1, for `models.Pathways`."""
    _numbers("sources", count=count)
    return Data("sources", torch.ones(1, count), torch.ones(1, 1))


def targets(values: Sequence[float]) -> Data:
    """One example whose input is zero and whose targets are `values`, for models that ignore their input."""
    y = torch.as_tensor(values, dtype=torch.float64).reshape(1, -1)
    if not y.numel() or not torch.isfinite(y).all():
        raise ValueError(f"targets: {values!r} must be finite numbers, at least one")
    return Data("targets", torch.zeros(1, 1), y)


def gaussian(n: int, dim: int, separation: float = 2.0, test: int = 0, seed: int = 0) -> Data:
    """Two Gaussian classes of unit variance with means `separation` apart along the first axis."""
    _numbers("gaussian", n=n, dim=dim)
    g = generator(seed, "data")
    y = g.integers(2, n + test)
    x = g.normal(n + test, dim)
    x[:, 0] += separation * (y - 0.5)
    return _cut("gaussian", x, y, n)


def xor_clusters(n: int, dim: int, separation: float = 2.0, noise: float = 0.0, test: int = 0, seed: int = 0) -> Data:
    """Four Gaussian clusters at (+-separation, 0) and (0, +-separation): class 0 on the first
    axis, class 1 on the second, the other dim - 2 axes pure noise.

    Args:
        noise: probability that a training label is flipped.
    """
    _numbers("xor_clusters", n=n, dim=dim)
    if dim < 2 or not 0 <= noise <= 1:
        raise ValueError(f"xor_clusters: dim={dim} must be at least 2 and noise={noise} lie between 0 and 1")
    g = generator(seed, "data")
    y = g.integers(2, n + test)
    sign = 2.0 * g.integers(2, n + test) - 1
    x = g.normal(n + test, dim)
    x[torch.arange(n + test), y] += separation * sign
    flipped = g.uniform(n + test) < noise
    flipped[n:] = False
    return _cut("xor_clusters", x, torch.where(flipped, 1 - y, y), n)


def linear_regression(
    n: int, spectrum: Sequence[float], noise: float = 0.0, test: int = 0, seed: int = 0
) -> Data:
    """y = x . w* + noise with Gaussian x of covariance diag(spectrum) and |w*| = 1, targets (n, 1)."""
    _numbers("linear_regression", n=n)
    spectrum = torch.as_tensor(spectrum, dtype=torch.float64)
    if (spectrum < 0).any() or noise < 0:
        raise ValueError(f"linear_regression: spectrum={spectrum.tolist()} and noise={noise} must not be negative")
    g = generator(seed, "data")
    truth = g.normal(len(spectrum)).double()
    truth = truth / truth.norm()
    x = g.normal(n + test, len(spectrum)).double() * spectrum.sqrt()
    y = x @ truth
    y[:n] += noise * g.normal(n).double()
    return replace(_cut("linear_regression", x, y[:, None], n), law=_linear(truth, spectrum.sqrt(), noise), truth=truth)


def sparse_regression(n: int, dim: int, support: int, noise: float = 0.0, test: int = 0, seed: int = 0) -> Data:
    """y = x . w* + noise with standard normal x; the first `support` of the `dim` weights w* are +-1, the others 0."""
    _numbers("sparse_regression", n=n, dim=dim, support=support)
    if support > dim or noise < 0:
        raise ValueError(f"sparse_regression: support={support} must be at most dim={dim} and noise={noise} not negative")
    g = generator(seed, "data")
    truth = torch.zeros(dim)
    truth[:support] = 2.0 * g.integers(2, support) - 1
    x = g.normal(n + test, dim)
    y = x @ truth
    y[:n] += noise * g.normal(n)
    return replace(_cut("sparse_regression", x, y[:, None], n), law=_linear(truth, torch.ones(dim), noise), truth=truth)


def _linear(truth: Tensor, deviations: Tensor, noise: float) -> Callable[[Generator, int], tuple[Tensor, Tensor]]:
    """The law of y = x . truth + noise with independent Gaussian x."""
    exact = {dtype: (truth.to(dtype), deviations.to(dtype)) for dtype in (torch.float32, torch.float64)}

    def law(generator: Generator, n: int) -> tuple[Tensor, Tensor]:
        truth, deviations = exact[generator.dtype]
        x = generator.normal(n, len(truth)) * deviations
        y = x @ truth
        return x, (y + noise * generator.normal(n) if noise else y)[:, None]

    return law


def half_space(n: int, dim: int, seed: int = 0) -> Data:
    """Standard normal points x (n, dim) of the classes x_1 > 0 and x_1 < 0."""
    if n < 1 or dim < 1:
        raise ValueError(f"half_space: n={n} and dim={dim} must be positive integers")
    x = generator(seed, "data").normal(n, dim)
    return Data("half_space", x, (x[:, 0] > 0).long())


def sign_product(n: int, dim: int, test: int = 0, seed: int = 0) -> Data:
    """Standard normal points x (n, dim) of the classes x_1 x_2 > 0 and x_1 x_2 < 0: a parity of two of the axes."""
    if n < 1 or dim < 2:
        raise ValueError(f"sign_product: n={n} must be positive and dim={dim} at least 2")
    x = generator(seed, "data").normal(n + test, dim)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return Data("sign_product", x[:n], y[:n], x_test=x[n:] if test else None, y_test=y[n:] if test else None)


def whitened(n: int, dim: int, target: Sequence[float], seed: int = 0) -> Data:
    """Inputs x (n, dim) with X^T X / n exactly the identity, and targets x . target, (n, 1).

    Raises:
        ValueError: fewer points than dimensions, or a target of another size.
    """
    if n < dim or len(target) != dim:
        raise ValueError(f"whitened: n={n} must be at least dim={dim}, and target has {len(target)} numbers")
    x = torch.linalg.qr(generator(seed, "data").normal(n, dim).double()).Q * n**0.5
    return Data("whitened", x, x @ torch.tensor(target, dtype=torch.float64)[:, None])


def teacher_student(n: int, dim: int, hidden: int = 4, noise: float = 0.0, test: int = 0, seed: int = 0) -> Data:
    """Gaussian inputs labelled by a random two-layer tanh network with `hidden` units, targets (n, 1)."""
    _numbers("teacher_student", n=n, dim=dim, hidden=hidden)
    g = generator(seed, "data")
    first = g.normal(hidden, dim) / math.sqrt(dim)
    second = g.normal(hidden) / math.sqrt(hidden)
    x = g.normal(n + test, dim)
    y = torch.tanh(x @ first.T) @ second
    y[:n] += noise * g.normal(n)
    return _cut("teacher_student", x, y[:, None], n)


def low_rank_matrix(singular_values: Sequence[float], rows: int, columns: int | None = None, symmetric: bool = False, seed: int = 0) -> Tensor:
    """A matrix (rows, columns) with the given non-zero singular values and random singular vectors, float64.

    Args:
        columns: as many as rows by default.
        symmetric: the same singular vectors on both sides, which makes the matrix positive semidefinite.
    """
    columns = rows if columns is None else columns
    _numbers("low_rank_matrix", rows=rows, columns=columns)
    values = torch.as_tensor(singular_values, dtype=torch.float64)
    if not 1 <= len(values) <= min(rows, columns) or (values <= 0).any() or symmetric and rows != columns:
        raise ValueError(
            f"low_rank_matrix: give 1 to {min(rows, columns)} positive singular values, not {singular_values!r}, "
            f"and a square if symmetric, not {rows} x {columns}"
        )
    g = generator(seed, "data")
    left, right = (torch.linalg.qr(g.normal(n, len(values)).double())[0] for n in (rows, columns))
    return (left * values) @ (left if symmetric else right).T


def linear_map(matrix: Tensor) -> Data:
    """Whitened inputs of a linear teacher: n = columns examples sqrt(n) e_i, with the targets sqrt(n) matrix e_i.

    The second-moment matrix of the inputs is the identity, so that the loss "mse" of a linear model
    with the end-to-end matrix W is |W - matrix|_F^2 / 2 (Saxe et al. 2014).
    """
    matrix = _matrix("linear_map", matrix)
    n = matrix.shape[1]
    return Data("linear_map", n**0.5 * torch.eye(n, dtype=torch.float64), n**0.5 * matrix.T.contiguous())


def matrix_sensing(matrix: Tensor, n: int, noise: float = 0.0, symmetric: bool = False, seed: int = 0) -> Data:
    """n measurements <A_i, matrix> with standard normal A_i (n, rows, columns), targets (n, 1).

    Args:
        noise: standard deviation of Gaussian noise on the targets.
        symmetric: A_i is replaced by its symmetric part.
    """
    matrix = _matrix("matrix_sensing", matrix)
    _numbers("matrix_sensing", n=n)
    if noise < 0 or symmetric and matrix.shape[0] != matrix.shape[1]:
        shape = tuple(matrix.shape)
        raise ValueError(f"matrix_sensing: noise={noise} must not be negative, and a symmetric matrix is square, not {shape}")
    g = Generator(key(seed, "data"), draws=2)  # the two before are those of `low_rank_matrix`
    A = g.normal(n, *matrix.shape).double()
    A = (A + A.mT) / 2 if symmetric else A
    y = (A * matrix).sum((1, 2)) + noise * g.normal(n).double()
    return Data("matrix_sensing", A, y[:, None])


def matrix_completion(matrix: Tensor, observed: int | Tensor, seed: int = 0) -> Data:
    """Entries of a matrix as measurements: x (n, rows, columns) holds a single 1 each, targets (n, 1); the others are the test part.

    Args:
        observed: how many entries are observed, drawn at random, or a boolean matrix of the same shape.
    """
    matrix = _matrix("matrix_completion", matrix)
    if isinstance(observed, Tensor):
        if observed.shape != matrix.shape or observed.dtype != torch.bool or not observed.any():
            raise ValueError(f"matrix_completion: observed must be a boolean matrix {tuple(matrix.shape)} with an entry that is True")
        order, n = observed.flatten().int().argsort(descending=True, stable=True), int(observed.sum())
    else:
        _numbers("matrix_completion", observed=observed)
        if observed > matrix.numel():
            raise ValueError(f"matrix_completion: observed={observed}, but the matrix has {matrix.numel()} entries")
        order, n = generator(seed, "data").permutation(matrix.numel()), observed
        order = torch.cat([order[:n].sort().values, order[n:].sort().values])
    x = torch.eye(matrix.numel(), dtype=torch.float64)[order].unflatten(1, matrix.shape)
    return _cut("matrix_completion", x, matrix.flatten()[order][:, None], n)


def _matrix(name: str, matrix: Tensor) -> Tensor:
    matrix = torch.as_tensor(matrix, dtype=torch.float64)
    if matrix.ndim != 2 or not matrix.numel() or not torch.isfinite(matrix).all():
        raise ValueError(f"{name}: give a matrix of finite numbers, not a tensor of shape {tuple(matrix.shape)}")
    return matrix


def separated(n: int, correlation: float, dim: int | None = None, seed: int = 0) -> Data:
    """2 n unit vectors, n with target +1 and n with -1, such that y_i y_j <x_i, x_j> is `correlation` for every pair.

    They are y_i (sqrt(c) e_0 + sqrt(1 - c) e_i) with random orthonormal e_0, ..., e_2n: the data of
    Min et al. 2023 (assumption 1) with mu = c exactly.

    Args:
        dim: dimension of the inputs, by default 2 n + 1, the least that is possible.
    """
    dim = 2 * n + 1 if dim is None else dim
    _numbers("separated", n=n, dim=dim)
    if not 0 < correlation < 1 or dim < 2 * n + 1:
        raise ValueError(f"separated: correlation={correlation} must lie strictly between 0 and 1, and dim={dim} be at least {2 * n + 1}")
    axes = torch.linalg.qr(generator(seed, "data").normal(dim, 2 * n + 1).double())[0].T
    y = torch.ones(2 * n, 1, dtype=torch.float64)
    y[n:] = -1
    x = correlation**0.5 * axes[0] + (1 - correlation) ** 0.5 * axes[1:]
    return Data("separated", y * x, y)


def adding(n: int, length: int, test: int = 0, seed: int = 0) -> Data:
    """The adding task: sequences (n, length, 2) of numbers from [0, 1) with two of them marked, targets (n, 1) their sum.

    The first entry of a step is the number, the second the mark, 1 or 0; one mark lies in each half of the
    sequence (Hochreiter & Schmidhuber 1997, experiment 4, in the form of Pascanu et al. 2013). A constant output of 1
    has a mean squared error of 1/6.

    Raises:
        ValueError: a length below 2, which has no two halves.
    """
    _numbers("adding", n=n, length=length)
    if length < 2:
        raise ValueError(f"adding: length={length} must be at least 2")
    g, rows = generator(seed, "data"), torch.arange(n + test)
    values, marks = g.uniform(n + test, length), torch.zeros(n + test, length)
    half = length // 2
    for place in (g.integers(half, n + test), half + g.integers(length - half, n + test)):
        marks[rows, place] = 1.0
    return _cut("adding", torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True), n)


def _cut(name: str, x: Tensor, y: Tensor, n: int) -> Data:
    """The first n examples for training, the rest for testing."""
    held = (x[n:], y[n:]) if len(x) > n else (None, None)
    return Data(name, x[:n], y[:n], x_test=held[0], y_test=held[1])
