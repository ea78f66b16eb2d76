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
from numpy.typing import ArrayLike

#: the side of the finest squares, in grid spacings
FINEST = 2
#: the side of the coarsest squares, as a part of the picture's
COARSEST = 1 / 8
#: blocks in each direction, of which the jackknife leaves out one at a time
BLOCKS = 4


@dataclass(frozen=True)
class Dimension:
    """What `box_dimension` found.

    Attributes:
        value: the dimension, minus the slope of log N against log s.
        error: `scatter` and `drift` together, the root of the sum of their squares.
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
    return Dimension(_slope(sides, mixed), float(np.hypot(scatter, drift)), float(scatter), drift, sides, mixed)


def _slope(sides: np.ndarray, mixed: np.ndarray) -> float:
    return float(-np.polyfit(np.log(sides), np.log(mixed), 1)[0])


def _block_sums(mesh: np.ndarray) -> np.ndarray:
    """Mixed squares in each block of the picture, (BLOCKS^2,)."""
    return np.array([block.sum() for rows in np.array_split(mesh, BLOCKS) for block in np.array_split(rows, BLOCKS, axis=1)])
