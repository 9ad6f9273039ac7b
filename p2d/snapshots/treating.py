"""What an import makes of stored values: cropped, masked, binned, scaled, flattened, without a repeated end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from p2d.config.importing import COLOUR, ImportConfig
from p2d.errors import UserError
from p2d.formats.opening import open_stacks
from p2d.formats.stack import Asked

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Treatment:
    """What is done to snapshots [N, C, H, W], in this order.

    Attributes:
        crop: rows and columns that are taken.
        outside: cells of these that are left out, bool; None: none.
        bin: n x n cells become one, their mean; what is left over at the end is cut off. One dimension has n x 1.
        scale, offset: of each species; values are multiplied, then added to.
        surface: float64 [C, h, w] that binned values are divided by; None: nothing.
        repeated: whether the last row, and the last column, is dropped.
    """

    crop: tuple[slice, slice] = (slice(None), slice(None))
    outside: np.ndarray | None = None
    bin: int = 1
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    surface: np.ndarray | None = None
    repeated: tuple[bool, bool] = (False, False)

    def of(self, stored: np.ndarray) -> np.ndarray:
        """Snapshots as they are to be, [N, C, h, w], in float32 if they can be taken as they are, else in float64.

        Outside the mask they are the mean of the species in the snapshot.
        """
        cropped = stored[..., self.crop[0], self.crop[1]]
        if self.is_exact and cropped.dtype.itemsize * (2 if cropped.dtype.kind in "iu" else 1) <= 4:
            values = cropped.astype(np.float32, copy=False)  # 16-bit numbers and all below are exact
        else:
            values = cropped.astype(np.float64)
        if self.outside is not None:
            values = np.where(self.outside, 0, values)
        if self.bin > 1:
            values = _binned(values, self.bin)
        if any(factor != 1 for factor in self.scale) or any(self.offset):
            values = values * np.reshape(self.scale, (-1, 1, 1)) + np.reshape(self.offset, (-1, 1, 1))
        if self.surface is not None:
            values = values / self.surface
        values = values[self._kept]
        if self.cells is not None:
            inside = values[..., self.cells].mean(axis=-1, dtype=np.float64)
            values = np.where(self.cells, values, inside[..., None, None].astype(values.dtype))
        return values

    @property
    def is_exact(self) -> bool:
        """Whether values stay what they are."""
        return self.bin == 1 and self.surface is None and not any(self.offset) and all(f == 1 for f in self.scale)

    @cached_property
    def cells(self) -> np.ndarray | None:
        """Those that are part of the field, bool [h, w]; None: all."""
        if self.outside is None:
            return None
        return (_binned(self.outside.astype(np.float64), self.bin) == 0)[self._kept]

    @property
    def _kept(self) -> Any:
        return (..., *(slice(None, -1) if drop else slice(None) for drop in self.repeated))

    def shape_of(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that are left of so many."""
        cropped = (len(range(*part.indices(size))) for part, size in zip(self.crop, shape, strict=True))
        rows, columns = (size // self.bin if size > 1 else size for size in cropped)
        return rows - self.repeated[0], columns - self.repeated[1]

    def broken_in(self, stored: np.ndarray) -> tuple[int, int, int, float] | None:
        """Species, row and column, and the value, as they are stored, of what cannot be kept in a snapshot [C, H, W].

        That is a value inside the mask that is not finite, or becomes too large for 32 bits.
        """
        cropped = stored[..., self.crop[0], self.crop[1]].astype(np.float64)
        kept = True if self.outside is None else ~self.outside
        broken = np.argwhere(~np.isfinite(cropped) & kept)
        step = 1
        if not len(broken):
            step = self.bin
            with np.errstate(over="ignore"):
                broken = np.argwhere(np.abs(self.of(stored[None])[0]) > LARGEST)
        if not len(broken):
            return None
        species, row, column = broken[0].tolist()
        row, column = min(row * step, cropped.shape[1] - 1), min(column * step, cropped.shape[2] - 1)
        first = self.crop[0].start or 0, self.crop[1].start or 0
        return species, row + first[0], column + first[1], float(cropped[species, row, column])


def _binned(values: np.ndarray, by: int) -> np.ndarray:
    """Means over by x by cells of fields [..., H, W]; of an axis of length 1 no mean is taken."""
    sides = [by if size > 1 else 1 for size in values.shape[-2:]]
    rows, columns = (size // side for size, side in zip(values.shape[-2:], sides, strict=True))
    whole = values[..., : rows * sides[0], : columns * sides[1]]
    return whole.reshape(*values.shape[:-2], rows, sides[0], columns, sides[1]).mean(axis=(-3, -1))


def refuse_crop(config: ImportConfig, shape: tuple[int, int]) -> None:
    """Refuse a crop of rows or columns that there are not, and cells too coarse for what is left.

    Args:
        shape: rows and columns as stored.
    """
    for part, size, what in zip(config.cropped(), shape, ("rows", "columns"), strict=True):
        if part.start >= size or (part.stop or 0) > size:
            raise UserError(f"crop = {config.crop} is not possible: the snapshots have {size} {what}, 0 to {size - 1}")
        left = len(range(*part.indices(size)))
        if left > 1 and left // config.bin < 2:
            raise UserError(f"bin = {config.bin} leaves less than 2 of {left} {what}")


def masked_cells(config: ImportConfig, sample: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray | None:
    """The cells of a cropped snapshot that are left out, bool [h, w]; None: none.

    Args:
        sample: some snapshots [C, H, W] as stored, which `nan`, a number or a colour is looked for in.
        shape: rows and columns as stored.

    Raises:
        UserError: a mask of another size, a value that no cell always has, or no cell left.
    """
    if not config.mask:
        return None
    rows, columns = config.cropped()
    if config.mask == "nan":
        broken = [~np.isfinite(state[:, rows, columns]).all(axis=0) for state in sample]
        outside = np.asarray(np.stack(broken).any(axis=0))
    elif (values := _colour(config)) is not None:
        same = [(state[:, rows, columns] == values).all(axis=0) for state in sample]
        outside = np.asarray(np.stack(same).all(axis=0))
        if not outside.any():
            raise UserError(f"mask = {config.mask}: no pixel is that in all of the {len(same)} snapshots looked at")
    else:
        cells = _mask_of(config.mask)
        if cells.shape == shape:
            cells = cells[rows, columns]
        elif cells.shape != (cropped := np.empty(shape, bool)[rows, columns].shape):
            also = "" if cropped == shape else f" or, cropped, {list(cropped)}"
            raise UserError(f"the mask {config.mask} has shape {list(cells.shape)}; it must be {list(shape)}{also}")
        outside = ~cells
    if outside.all():
        raise UserError(f"mask = {config.mask} leaves no pixel")
    return outside if outside.any() else None


def _colour(config: ImportConfig) -> np.ndarray | None:
    """The value of each species, [C, 1, 1] or one for all, that a number or a colour stands for; None of a file."""
    try:
        return np.array(float(config.mask))
    except ValueError:
        colour = COLOUR.fullmatch(config.mask)
    if colour is None:
        return None
    parts = dict(zip("rgb", bytes.fromhex(colour[1]), strict=True))
    if len(set(parts.values())) == 1:
        return np.array(float(parts["r"]))  # gray, and each channel of it
    letters = ["rgb"[int(channel)] if channel in ("0", "1", "2") else channel for channel in config.channels]
    if not letters or not set(letters) <= set("rgb"):
        raise UserError(f"mask = {config.mask} needs --channels of r, g and b; or give a gray, such as #000000")
    return np.array([float(parts[letter]) for letter in letters]).reshape(-1, 1, 1)


def _mask_of(path: str) -> np.ndarray:
    """The cells of a file that are not 0, bool [H, W]."""
    if not Path(path).exists():
        raise UserError(f"mask = {path} is no file, and none of nan, a number, or a colour such as #000000")
    asked = Asked(axes="HW") if Path(path).suffix.lower() in (".npy", ".npz", ".mat") else Asked(channels=("gray",))
    (stack, *others) = open_stacks([path], asked)
    if others or stack.count != 1:
        raise UserError(f"the mask {path} holds {sum(s.count for s in (stack, *others))} pictures; it must hold one")
    return np.asarray((stack.read(0, 1)[0] != 0).any(axis=0))
