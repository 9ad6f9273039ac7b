"""Grids, species and the operators on their fields: the only place that knows edges and spacing.

A field is a numpy array or a torch tensor [..., H, W]; what comes back is of the same kind. x runs along a row (the
last axis), y from row to row. An axis of length 1 has no neighbours: it is one dimension less.

    periodic   the opposite edge follows an edge
    mirror     no flux: ghost cells repeat the edge, so that the Laplacian stays self-adjoint
    open       nothing is known beyond

Beyond an open edge, and outside a mask, nothing is known. Operators take a wall without flux there, so that a field can
be carried on in time; `Grid.inside` tells the cells whose neighbours are known, which alone are learnt from.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np

from p2d.errors import UserError, refuse_unknown

Edge = Literal["periodic", "mirror", "open"]
Operator = Literal["5-point", "9-point", "spectral", "8th-order"]
AXES = {"y": -2, "x": -1}
# Weights of the neighbours of an edge and of a corner, over the spacing squared. The 9-point stencil is isotropic to
# fourth order (Patra & Karttunen 2006, "Stencils with isotropic discretization error").
STENCILS: dict[str, tuple[float, float]] = {"5-point": (1.0, 0.0), "9-point": (4 / 6, 1 / 6)}
# Weights of the neighbours 1 to 4 cells away of central differences of eighth order (Fornberg 1988).
SECOND, FIRST = (8 / 5, -1 / 5, 8 / 315, -1 / 560), (4 / 5, -1 / 5, 4 / 105, -1 / 280)
REACH = {"5-point": 1, "9-point": 1, "spectral": 0, "8th-order": len(SECOND)}  # in cells; of none, all of the grid
MOST_SPECIES = 8


@dataclass(frozen=True)
class Species:
    """A species of a field.

    Attributes:
        name: as in equations.
        unit: of its values, '' where it has none or it is not known.
        low, high: the range of its values, in its unit.
    """

    name: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0

    @property
    def span(self) -> float:
        """From the lowest to the highest value."""
        return self.high - self.low


@dataclass(frozen=True)
class Scaling:
    """The affine map of each species between values c and training coordinates x = (c - shift) / scale.

    Attributes:
        shift, scale: of each of C species.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def to_training(self, values: Any) -> Any:
        """Training coordinates of values [..., C, H, W]."""
        shift, scale = self._like(values)
        return (values - shift) / scale

    def to_values(self, x: Any) -> Any:
        """Values of training coordinates [..., C, H, W]."""
        shift, scale = self._like(x)
        return x * scale + shift

    def velocity_to_training(self, velocity: Any) -> Any:
        """Rates of change of training coordinates, of rates of change of values [..., C, H, W]."""
        return velocity / self._like(velocity)[1]

    def velocity_to_values(self, velocity: Any) -> Any:
        """Rates of change of values, of rates of change of training coordinates [..., C, H, W]."""
        return velocity * self._like(velocity)[1]

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON types."""
        return {"shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaling:
        """The scaling of a card, or of a checkpoint; version 2 has one for both species, x = scale c + shift."""
        shift, scale = values["shift"], values["scale"]
        if isinstance(scale, float | int):
            return cls((-shift / scale,) * 2, (1 / scale,) * 2)
        return cls(tuple(map(float, shift)), tuple(map(float, scale)))

    def _like(self, fields: Any) -> tuple[Any, Any]:
        shape = (len(self.scale), 1, 1)
        if isinstance(fields, np.ndarray):
            return tuple(np.array(v, fields.dtype).reshape(shape) for v in (self.shift, self.scale))  # type: ignore[return-value]
        return tuple(fields.new_tensor(v).reshape(shape) for v in (self.shift, self.scale))


@dataclass(frozen=True)
class Mask:
    """Which cells of a grid are part of the field.

    Attributes:
        shape: rows and columns.
        packed: one bit a cell, row by row.
    """

    shape: tuple[int, int]
    packed: bytes

    @classmethod
    def of(cls, cells: np.ndarray) -> Mask:
        """The mask of these cells, [H, W], where they are not 0.

        Raises:
            UserError: not rows and columns, or no cell at all.
        """
        if cells.ndim != 2 or not cells.any():
            raise UserError(f"a mask has shape {list(cells.shape)}, {int(cells.any())} cells in it; it must be [H, W]")
        return cls((cells.shape[0], cells.shape[1]), np.packbits(cells != 0).tobytes())

    @cached_property
    def cells(self) -> np.ndarray:
        """The cells, bool [H, W]."""
        return np.unpackbits(np.frombuffer(self.packed, np.uint8), count=math.prod(self.shape)).reshape(self.shape) > 0


@dataclass(frozen=True)
class Grid:
    """Where the cells of a field are.

    Attributes:
        shape: rows and columns.
        spacing: from cell to cell, in `unit`.
        edges: of the rows' axis (y) and of the columns' (x).
        unit: of length; '' for cells.
        mask: the cells that are part of the field; None: all.

    Raises:
        UserError: no cells, a spacing that is not above 0, edges that are not known, or a mask of another shape.
    """

    shape: tuple[int, int]
    spacing: float = 1.0
    edges: tuple[Edge, Edge] = ("periodic", "periodic")
    unit: str = ""
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise UserError(f"a grid of {self.shape[0]} x {self.shape[1]} has no cells; it needs 1 or more each way")
        if not (math.isfinite(self.spacing) and self.spacing > 0):
            raise UserError(f"spacing = {self.spacing} is not possible: it must be a finite number above 0")
        for edge in self.edges:
            refuse_unknown("edges", edge, get_args(Edge))
        if self.mask and self.mask.shape != self.shape:
            raise UserError(f"the mask has shape {list(self.mask.shape)}; it must be the grid's, {list(self.shape)}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        values = {"shape": list(self.shape), "spacing": self.spacing, "edges": list(self.edges), "unit": self.unit}
        if self.mask:
            values["mask"] = base64.b64encode(zlib.compress(self.mask.packed)).decode()
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Grid:
        """The grid of a card."""
        rows, columns = values["shape"]
        packed = values.get("mask")
        bits = zlib.decompressobj().decompress(base64.b64decode(packed), rows * columns // 8 + 2) if packed else b""
        if packed and len(bits) != -(-rows * columns // 8):
            raise ValueError("a mask of another size")
        mask = Mask((rows, columns), bits) if packed else None
        return cls((rows, columns), values["spacing"], tuple(values["edges"]), values["unit"], mask)

    @property
    def is_closed(self) -> bool:
        """Whether all neighbours of all cells are known: no open edge, no mask."""
        return self.mask is None and "open" not in self.edges

    @property
    def in_cells(self) -> Grid:
        """The same grid with lengths counted in cells."""
        return replace(self, spacing=1.0, unit="")

    def sized(self, shape: tuple[int, ...]) -> Grid:
        """The same grid for fields of this shape, [..., H, W]; with a mask it has one size only."""
        size = (shape[-2], shape[-1])
        return self if size == self.shape else replace(self, shape=size)

    def masked(self, field: Any) -> Any:
        """A field [..., H, W] with 0 outside the mask, where there is one."""
        if self.mask is None:
            return field
        cells = self.mask.cells
        if isinstance(field, np.ndarray):
            return np.where(cells, field, 0)
        import torch

        return torch.where(torch.from_numpy(cells).to(field.device), field, 0)

    def inside(self, reach: int) -> np.ndarray:
        """The cells whose neighbours up to so many rows and columns away are known, bool [H, W]."""
        from scipy.ndimage import minimum_filter  # on use: the command line must start without it

        known = self.mask.cells if self.mask else np.ones(self.shape, bool)
        beyond = {"periodic": "wrap", "mirror": "reflect", "open": "constant"}
        size = [1 if length == 1 else 2 * reach + 1 for length in self.shape]
        return minimum_filter(known.view(np.uint8), size, mode=[beyond[edge] for edge in self.edges]) > 0

    def refuse_operator(self, operator: str, reach: int = 1) -> None:
        """Refuse an operator that is not known, does not fit the edges, or reaches further than the grid.

        Args:
            reach: of nested stencils, in cells.
        """
        refuse_unknown("operator", operator, get_args(Operator))
        if operator == "spectral":
            if not self.is_closed:
                masked = " with a mask" * bool(self.mask)
                raise UserError(
                    f"the spectral operator does not fit {' and '.join(self.edges)} edges{masked}: it needs "
                    "periodic or mirror ones; take 5-point, 9-point or 8th-order"
                )
            return
        reach *= REACH[operator]
        for name, size in zip(("height", "width"), self.shape, strict=True):
            if 1 < size < 2 * reach + 1:
                raise UserError(
                    f"{name} = {size} is too small for a stencil that reaches {reach} cells: "
                    f"it must be {2 * reach + 1} or above, or 1 for one dimension"
                )

    def shifted(self, field: Any, rows: int, columns: int) -> Any:
        """The neighbours of each cell, so many rows down and columns to the right of it."""
        made = field
        for axis, by, edge in ((-2, rows, self.edges[0]), (-1, columns, self.edges[1])):
            if by and field.shape[axis] > 1:
                made = _shifted(made, by, axis, edge)
        if self.mask is None:
            return made
        known = replace(self, mask=None).shifted(self.mask.cells, rows, columns)
        if isinstance(field, np.ndarray):
            return np.where(known, made, field)
        import torch

        return torch.where(torch.from_numpy(known).to(field.device), made, field)

    def laplacian(self, field: Any, operator: Operator = "5-point") -> Any:
        """Laplacian of a field."""
        if operator == "spectral":
            return self._in_modes(field, lambda grid: grid.symbol("spectral"))
        near = self.around(field, REACH[operator])
        if operator == "8th-order":
            total = 0.0
            for n, weight in enumerate(SECOND, 1):
                for by in ((0, -n), (0, n), (-n, 0), (n, 0)):
                    total = total + weight * (near(*by) - field)
            return total / self.spacing**2
        edge, corner = STENCILS[operator]
        total = sum((near(*by) for by in ((0, 1), (-1, 0), (1, 0))), start=near(0, -1))
        if corner:
            corners = sum((near(i, j) for i in (-1, 1) for j in (-1, 1)), start=0.0)
            total = edge * total + corner * corners
        total = total - 4 * (edge + corner) * field
        return total if self.spacing == 1 else total / self.spacing**2

    def around(self, field: Any, reach: int) -> Callable[[int, int], Any]:
        """The neighbours of each cell up to so many rows and columns away, as `shifted` gives them."""
        if not isinstance(field, np.ndarray) or self.mask is not None:
            return lambda rows, columns: self.shifted(field, rows, columns)
        # All neighbours are views of one copy with ghost cells: much faster than a copy for each.
        with_ghosts, (height, width) = field, field.shape[-2:]
        for axis, edge in zip((-2, -1), self.edges, strict=True):
            with_ghosts = _with_ghosts(with_ghosts, reach, axis, edge)

        def near(rows: int, columns: int) -> np.ndarray:
            top, left = reach + rows, reach + columns
            return with_ghosts[..., top : top + height, left : left + width]

        return near

    def gradients(self, f: Any, g: Any, operator: Operator = "5-point") -> Any:
        """grad f . grad g = (lap(f g) - f lap g - g lap f) / 2: of stencils, the mean over both sides of a cell."""
        if operator == "spectral":
            return sum(self.derivative(f, axis, operator) * self.derivative(g, axis, operator) for axis in AXES)
        first, second = self.laplacian(f, operator), self.laplacian(g, operator)
        return (self.laplacian(f * g, operator) - f * second - g * first) / 2

    def derivative(self, field: Any, axis: str, operator: Operator = "5-point") -> Any:
        """Derivative along 'x' or 'y': the central difference, or the exact one of the modes."""
        if operator == "spectral":
            return self._in_modes(field, lambda grid: 1j * grid.wavenumbers()[axis == "x"])
        i, j = (0, 1) if axis == "x" else (1, 0)
        weights = FIRST if operator == "8th-order" else (0.5,)
        total = 0.0
        for n, weight in enumerate(weights, 1):
            total = total + weight * (self.shifted(field, n * i, n * j) - self.shifted(field, -n * i, -n * j))
        return total / self.spacing

    def operators(self, operator: Operator = "5-point") -> dict[str, Callable[..., Any]]:
        """The operators of expressions on this grid, by name."""
        return {
            "lap": lambda f: self.laplacian(f, operator),
            "grad": lambda f, g: self.gradients(f, g, operator),
            "d": lambda f, axis: self.derivative(f, axis, operator),
        }

    def wavenumbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Along y and x, of the modes of rfft2, in radians per unit of length: [H, 1] and [1, W / 2 + 1].

        The highest mode of an even axis is left out, as its derivative is not known.
        """
        height, width = self.shape
        rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
        return tuple(np.where(np.abs(k) == 0.5, 0.0, 2 * np.pi * k / self.spacing) for k in (rows, columns))  # type: ignore[return-value]

    def symbol(self, operator: Operator) -> np.ndarray:
        """Eigenvalues of the Laplacian over the modes of rfft2, [H, W / 2 + 1], of a periodic grid."""
        height, width = self.shape
        rows = 2 * np.pi * np.fft.fftfreq(height)[:, None]
        columns = 2 * np.pi * np.fft.rfftfreq(width)[None]
        if operator == "spectral":
            return -(rows**2 + columns**2) / self.spacing**2
        if operator == "8th-order":
            waves = [w * (np.cos(n * rows) + np.cos(n * columns) - 2) for n, w in enumerate(SECOND, 1)]
            return 2 * np.sum(waves, axis=0) / self.spacing**2
        edge, corner = STENCILS[operator]
        total = 2 * edge * (np.cos(rows) + np.cos(columns)) + 4 * corner * np.cos(rows) * np.cos(columns)
        return (total - 4 * (edge + corner)) / self.spacing**2

    def stiffest(self, operator: Operator) -> float:
        """The largest eigenvalue of minus the Laplacian, whatever the size of the grid: of its shortest wave."""
        dimensions = sum(size > 1 for size in self.shape) or 1
        if operator == "spectral":
            return dimensions * (np.pi / self.spacing) ** 2
        if operator == "8th-order":
            return dimensions * sum(4 * w for w in SECOND[::2]) / self.spacing**2
        edge, corner = STENCILS[operator]
        if dimensions == 1:
            return 4 * (edge + 2 * corner) / self.spacing**2
        return max(8 * edge, 4 * edge + 8 * corner) / self.spacing**2

    @property
    def unfolded(self) -> Grid:
        """The periodic grid that fields are `continued` to: twice as long along mirror edges."""
        height, width = (
            size * 2 if mirrored else size for size, mirrored in zip(self.shape, self._mirrored, strict=True)
        )
        return replace(self, shape=(height, width), edges=("periodic", "periodic"))

    def continued(self, field: Any) -> Any:
        """A field [..., H, W] continued evenly beyond its mirror edges, on the unfolded grid."""
        for axis in (axis for axis, mirrored in zip((-2, -1), self._mirrored, strict=True) if mirrored):
            if isinstance(field, np.ndarray):
                field = np.concatenate([field, np.flip(field, axis)], axis)
            else:
                import torch

                field = torch.cat([field, field.flip(axis)], dim=axis)
        return field

    @property
    def _mirrored(self) -> list[bool]:
        return [edge == "mirror" and size > 1 for edge, size in zip(self.edges, self.shape, strict=True)]

    def _in_modes(self, field: Any, factor: Callable[[Grid], np.ndarray]) -> Any:
        """A field by what its modes are multiplied with."""
        (height, width), grid = self.shape, self.unfolded
        field, by = self.continued(field), factor(grid)
        if isinstance(field, np.ndarray):
            return np.fft.irfft2(np.fft.rfft2(field) * by, s=grid.shape)[..., :height, :width]
        import torch

        modes = torch.fft.rfft2(field)
        return torch.fft.irfft2(modes * torch.from_numpy(by).to(modes), s=grid.shape)[..., :height, :width]


def laplacian(field: Any) -> Any:
    """5-point Laplacian of fields [..., H, W] on a periodic grid of spacing 1."""
    return Grid((field.shape[-2], field.shape[-1])).laplacian(field)


def multiplicity(width: int) -> np.ndarray:
    """How many modes of the full transform each column of rfft2 stands for, [W / 2 + 1]."""
    count = np.full(width // 2 + 1, 2.0)
    count[0] = 1
    count[-1] -= width % 2 == 0 and width > 1
    return count


def _with_ghosts(field: np.ndarray, reach: int, axis: int, edge: Edge) -> np.ndarray:
    """A field continued along an axis by so many cells on both sides, as `_shifted` sees it."""
    size = field.shape[axis]
    place = np.arange(-reach, size + reach)
    if edge == "periodic" or size == 1:
        place %= size
    else:
        place = np.where(place < 0, -1 - place, np.where(place >= size, 2 * size - 1 - place, place)).clip(0, size - 1)
    ends = (place[:reach], place[size + reach :])
    before, after = (field[..., end, :] if axis == -2 else field[..., end] for end in ends)
    return np.concatenate([before, field, after], axis)


def _shifted(field: Any, by: int, axis: int, edge: Edge) -> Any:
    if edge == "periodic":
        if isinstance(field, np.ndarray):
            return np.roll(field, -by, axis)
        return field.roll(-by, axis)
    size = field.shape[axis]
    place = np.arange(size) + by
    # Ghost cells beyond a wall repeat the field backwards: half-sample symmetric.
    inside = np.where(place < 0, -1 - place, np.where(place >= size, 2 * size - 1 - place, place)).clip(0, size - 1)
    return field[..., inside, :] if axis == -2 else field[..., inside]
