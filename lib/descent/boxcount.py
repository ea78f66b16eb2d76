"""The box-counting dimension of the border between two kinds of points in a picture, with an error bar.

A picture is a square grid of points of a plane, each inside a set or outside. Cut it into squares of side s, in grid
spacings; the points on an edge belong to the squares on both sides of it. A square with points of both kinds is
*mixed*: the border passes through it. Where the border has the box-counting dimension D, the number of mixed squares
goes as N(s) ~ s^-D (Falconer, "Fractal Geometry", section 2.1): D = 1 for a smooth curve, D = 2 for a border that
comes near every point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path
from numpy.typing import ArrayLike

#: the side of the finest squares, in grid spacings
FINEST = 2
#: the side of the coarsest squares, as a part of the picture's
COARSEST = 1 / 8
#: blocks in each direction, of which the jackknife leaves out one at a time
BLOCKS = 4
#: what falls between the points moves the dimension by up to this much, either way: the largest miss on `known_sets` of 49 points a side
SAMPLING = 0.17


@dataclass(frozen=True)
class Dimension:
    """What `box_dimension` found.

    Attributes:
        value: the dimension, minus the slope of log N against log s.
        error: `scatter`, `drift` and `SAMPLING` together, the root of the sum of their squares.
        scatter: standard error from leaving out one of 4 x 4 blocks of the picture after another (jackknife).
        drift: half the difference between the slopes of the finer and of the coarser half of the sides.
        sides: of the squares, in grid spacings, (S,).
        mixed: mixed squares of each side, (S,).
    """

    value: float
    error: float
    scatter: float
    drift: float
    sides: np.ndarray
    mixed: np.ndarray

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


def scales(points: int) -> np.ndarray:
    """Sides of the squares for a picture with so many points a side: all that fit without rest, from `FINEST` to `COARSEST`."""
    side = points - 1
    return np.array([s for s in range(FINEST, int(COARSEST * side) + 1) if side % s == 0], dtype=int)


def mixed_squares(inside: ArrayLike, side: int) -> np.ndarray:
    """Which squares of the mesh have points of both kinds, (squares, squares).

    Args:
        inside: (n, n) booleans.
        side: of the squares, in grid spacings; divides n - 1.
    """
    inside = np.asarray(inside)
    squares = np.lib.stride_tricks.sliding_window_view(inside, (side + 1, side + 1))[::side, ::side]
    return squares.any((2, 3)) & ~squares.all((2, 3))


def box_dimension(inside: ArrayLike) -> Dimension:
    """The box-counting dimension of the border between the points that are `inside` and the others.

    The sides of the squares depend on the size of the picture alone, never on what is in it. A side of 2^k + 1 or
    3 x 2^k + 1 points has several.

    Args:
        inside: (n, n) booleans, on a square grid of points.

    Raises:
        ValueError: not such a picture, fewer than four sides of squares fit, or there is no border.
    """
    inside = np.asarray(inside)
    if inside.ndim != 2 or inside.shape[0] != inside.shape[1] or inside.dtype != bool:
        raise ValueError(f"inside has shape {inside.shape} and type {inside.dtype}; allowed: (n, n) booleans")
    sides = scales(len(inside))
    if len(sides) < 4:
        raise ValueError(f"{len(inside)} points a side have squares of sides {sides.tolist()} only; allowed: four or more, as for 129 or 193 points")
    meshes = [mixed_squares(inside, s) for s in sides]
    mixed = np.array([mesh.sum() for mesh in meshes])
    if not mixed[0]:
        raise ValueError("all points are of one kind: there is no border")
    blocks = np.array([_block_sums(mesh) for mesh in meshes])  # (sides, blocks)
    kept = np.array([_slope(sides, left) for left in (mixed[:, None] - blocks).T if left.all()])
    scatter = np.sqrt((len(kept) - 1) * kept.var()) if len(kept) else np.inf
    half = (len(sides) + 1) // 2
    drift = abs(_slope(sides[:half], mixed[:half]) - _slope(sides[-half:], mixed[-half:])) / 2
    return Dimension(_slope(sides, mixed), float(np.hypot(np.hypot(scatter, drift), SAMPLING)), float(scatter), drift, sides, mixed)


def known_sets(points: int) -> dict[str, tuple[np.ndarray, float]]:
    """Pictures of borders of known dimension, {name: ((points, points) booleans, dimension)}, to judge `box_dimension` by.

    A straight line and a circle; the Koch snowflake's edge, log 4 / log 3; the Sierpinski triangle, log 3 / log 2, and
    carpet, log 8 / log 3, which are their own edges; points drawn at random.
    """
    side = points - 1
    i, j = np.meshgrid(np.arange(points), np.arange(points), indexing="ij")
    carpet = np.ones((points, points), dtype=bool)
    u, v = i, j
    while u.any() or v.any():
        carpet &= (u % 3 != 1) | (v % 3 != 1)
        u, v = u // 3, v // 3
    shuffled = np.random.default_rng(0).random((points, points)) < 0.5
    return {
        "line": (i * np.cos(0.37) + j * np.sin(0.37) > 0.55 * side, 1.0),
        "circle": (np.hypot(i - side / 2, j - side / 2) < 0.35 * side, 1.0),
        "Koch snowflake": (_inside(_koch(6), points), np.log(4) / np.log(3)),
        "Sierpinski triangle": (i & j == 0, np.log(3) / np.log(2)),
        "Sierpinski carpet": (carpet, np.log(8) / np.log(3)),
        "noise": (shuffled, 2.0),
    }


def held_out(points: int) -> tuple[np.ndarray, float]:
    """A picture of a border of dimension 3/2 that had no part in fixing `SAMPLING` or the range: the quadratic Koch island, eight pieces for four."""
    corners = np.array([0, 1, 1 + 1j, 1j, 0])
    for _ in range(4):
        start, along = corners[:-1], np.diff(corners) / 4
        steps = np.cumsum([0, 1, 1j, 1, -1j, -1j, 1, 1j])  # and one more along, to the next corner
        corners = np.append((start[:, None] + along[:, None] * steps).ravel(), corners[-1])
    return _inside(corners, points), 1.5


def _koch(levels: int) -> np.ndarray:
    """Corners of the Koch snowflake in the complex plane, closed."""
    corners = np.array([0, np.exp(1j * np.pi / 3), 1, 0])
    for _ in range(levels):
        start, third = corners[:-1], np.diff(corners) / 3
        bump = start + third * (1 + np.exp(1j * np.pi / 3))
        corners = np.append(np.stack([start, start + third, bump, start + 2 * third], 1).ravel(), corners[-1])
    return corners


def _inside(corners: np.ndarray, points: int) -> np.ndarray:
    """Which points of a grid that just holds a polygon are inside it."""
    size = 1.05 * max(np.ptp(corners.real), np.ptp(corners.imag))
    middle = complex(np.ptp(corners.real) / 2 + corners.real.min(), np.ptp(corners.imag) / 2 + corners.imag.min())
    axis = size * (np.arange(points) / (points - 1) - 0.5)
    x, y = np.meshgrid(axis + middle.real, axis + middle.imag, indexing="ij")
    return Path(np.c_[corners.real, corners.imag]).contains_points(np.c_[x.ravel(), y.ravel()]).reshape(points, points)


def _slope(sides: np.ndarray, mixed: np.ndarray) -> float:
    return float(-np.polyfit(np.log(sides), np.log(mixed), 1)[0])


def _block_sums(mesh: np.ndarray) -> np.ndarray:
    """Mixed squares in each block of the picture, (BLOCKS^2,)."""
    return np.array([block.sum() for rows in np.array_split(mesh, BLOCKS) for block in np.array_split(rows, BLOCKS, axis=1)])
