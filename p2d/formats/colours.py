"""Colours of pictures as species."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from p2d.errors import UserError
from p2d.formats.stack import Asked

NAMES = {1: ("gray",), 2: ("gray", "a"), 3: ("r", "g", "b"), 4: ("r", "g", "b", "a")}  # by the number of channels
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # brightness of red, green and blue (ITU-R BT.601)
GRAY = "gray"


def is_gray(picture: np.ndarray) -> bool:
    """Whether the colours of a picture [H, W, K] are equal everywhere."""
    if picture.shape[-1] < 3:
        return True
    red = picture[..., 0]
    return bool((red == picture[..., 1]).all() and (red == picture[..., 2]).all())


@dataclass(frozen=True)
class Picker:
    """Takes species out of pictures.

    Attributes:
        channels: one for each species: 'r', 'g', 'b', 'a', 'gray', or a number from 0 on.
        weighted: 'gray' is the brightness of colours; else colours must be equal, and any of them is it.
        notes: for the user.
    """

    channels: tuple[str, ...]
    weighted: bool = False
    notes: tuple[str, ...] = ()

    def dtype(self, stored: str) -> str:
        """Of what is taken out of pictures of this type."""
        return "float32" if self.weighted else stored

    def pick(self, picture: np.ndarray, where: str) -> np.ndarray:
        """The species [C, H, W] of a picture [H, W, K].

        Raises:
            UserError: it lacks a channel, or has colours while those that were looked at are gray; names it.
        """
        return np.stack([self._plane(picture, channel, where) for channel in self.channels])

    def _plane(self, picture: np.ndarray, channel: str, where: str) -> np.ndarray:
        names = NAMES[picture.shape[-1]]
        if channel == GRAY and names[0] != GRAY:
            if self.weighted:
                return picture[..., :3].astype(np.float32) @ LUMA
            if not is_gray(picture):
                raise UserError(
                    f"{where} has colours, and others are gray: give --channels, such as gray (brightness) or r"
                )
            return picture[..., 0]
        if names[0] == GRAY and channel in ("r", "g", "b", GRAY):
            plane = picture[..., 0]
        else:
            number = int(channel) if channel.isdecimal() else names.index(channel) if channel in names else len(names)
            if number >= len(names):
                raise UserError(f"{where} has no channel {channel}; it has {', '.join(names)}")
            plane = picture[..., number]
        return plane.astype(np.float32) if self.weighted else plane


ONLY_GRAY = Picker((GRAY,))


def choose_channels(samples: list[np.ndarray], asked: Asked, where: str) -> Picker:
    """Which channels of pictures are species.

    Args:
        samples: some of the pictures, [H, W, K] each.
        where: these pictures, for the user.

    Raises:
        UserError: channels that there are not, another number of them than species, or colours of which nothing tells
            what they are.
    """
    coloured = [sample for sample in samples if not is_gray(sample)]
    picker = _channels(samples, coloured, asked, where)
    if asked.species and len(asked.species) != len(picker.channels):
        raise UserError(
            f"{len(asked.species)} species are named ({', '.join(asked.species)}), and {where} gives "
            f"{len(picker.channels)} ({', '.join(picker.channels)}): give as many --species as --channels"
        )
    for sample in samples:
        picker.pick(sample, where)
    return picker


def _channels(samples: list[np.ndarray], coloured: list[np.ndarray], asked: Asked, where: str) -> Picker:
    if asked.channels:
        for channel in asked.channels:
            if channel not in (*NAMES[4], GRAY) and not channel.isdecimal():
                raise UserError(f"unknown channel {channel!r}; known: r, g, b, a, gray, and numbers from 0 on")
        return Picker(asked.channels, weighted=bool(coloured) and GRAY in asked.channels)
    transparent = any(len(names) % 2 == 0 for names in (NAMES[sample.shape[-1]] for sample in samples))
    notes = ("the alpha channel (transparency) is left out; --channels a takes it",) * transparent
    if not coloured:
        return Picker((GRAY,), notes=notes)
    if len(asked.species) == 1:
        told = f"{asked.species[0]} is the brightness of colours; --channels takes one of them"
        return Picker((GRAY,), weighted=True, notes=(*notes, told))
    if len(asked.species) in (3, 4) and all(sample.shape[-1] >= len(asked.species) for sample in samples):
        return Picker(NAMES[len(asked.species)], notes=notes[: 4 - len(asked.species)])
    dark = [n for n in range(3) if not any(sample[..., n].any() for sample in coloured)]
    if len(asked.species) == 2 and len(dark) == 1:
        channels = tuple(name for n, name in enumerate(NAMES[3]) if n != dark[0])
        first, second = asked.species
        told = f"{channels[0]} is {first} and {channels[1]} is {second}, as {NAMES[3][dark[0]]} is dark everywhere"
        return Picker(channels, notes=(*notes, told))
    raise UserError(
        f"{where} has colours, and nothing tells what they are: give --channels, such as r g for two species or gray "
        "for their brightness"
    )
