"""Settings of an export: which dataset goes into which format, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from p2d.config.base import Config, DatasetName, option

To = Literal["well", "npz", "png", "tiff", "zarr"]


@dataclass(frozen=True)
class ExportConfig(Config):
    """Write a dataset in a format of other programs, with units, times, runs and conditions; import reads it again."""

    dataset: DatasetName
    where: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="WHERE",
            help="file or folder to write, such as waves.npz; nothing may be there yet; OUT/export/DATASET_FORMAT when "
            "empty",
        ),
    ] = ""
    to: Annotated[
        To,
        option(
            help="format: well (HDF5 as The Well has it), npz (NumPy), png (pictures of 16 bits: values are rounded), "
            "tiff (OME-TIFF, opens in ImageJ and Fiji), zarr"
        ),
    ] = "npz"
