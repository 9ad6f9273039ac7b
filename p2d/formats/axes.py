"""Which axis of an array is which: told from letters, from names of dimensions, or from the shape where only one fits.

N snapshots, R runs, T frames of a run, C species, H rows, W columns; '-' an axis of length 1 that means nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from p2d.errors import UserError
from p2d.fields import MOST_SPECIES

LETTERS = "NRTCHW"
SAME = {"Y": "H", "X": "W"}  # other letters for an axis
SNAPSHOTS = "RNT"  # outermost first: frames of a run lie beside each other
# Names of dimensions in files of others.
NAMES = {
    "N": ("snapshot", "snapshots", "image", "index"),
    "R": ("run", "runs", "run_id", "sample", "trajectory", "traj", "ensemble", "member", "simulation"),
    "T": ("t", "time", "times", "frame", "frames", "step", "steps"),
    "C": ("c", "channel", "channels", "species", "component", "components", "variable"),
    "H": ("y", "lat", "latitude", "row", "rows", "height"),
    "W": ("x", "lon", "longitude", "col", "column", "columns", "width"),
    "Z": ("z", "depth", "lev", "level", "altitude"),
}
LETTER_OF = {name: letter for letter, names in NAMES.items() for name in names}
# Orders that are in use, by the number of axes, the most usual first.
ORDERS = {
    1: ("W",),
    2: ("HW", "NW", "TW", "WT", "CW", "WC"),
    3: ("NHW", "CHW", "HWN", "HWC", "NCW", "NWC", "CNW", "WCN", "RTW", "TRW"),
    4: ("NCHW", "NHWC", "HWCN", "CNHW", "CHWN", "HWNC", "RTHW", "TRHW", "RTCW", "RTWC"),
    5: ("RTCHW", "RTHWC", "TRCHW", "TRHWC", "CRTHW"),
}


def tell_axes(
    shape: tuple[int, ...], where: str, axes: str = "", species: int = 0, names: Sequence[str | None] = ()
) -> str:
    """A letter for each axis.

    Args:
        shape: of the array.
        where: it is, for the user.
        axes: what the user says; ''; nothing.
        species: how many the array must hold; 0: not known.
        names: of its dimensions as the file has them, None where it has none.

    Raises:
        UserError: letters that do not fit, a field of three dimensions, or an order that cannot be told.
    """
    if axes:
        return _given(axes, shape, where)
    kept = [n for n, size in enumerate(shape) if size != 1]
    if len(shape) == 4 and shape[2] == 1 and shape[1] <= MOST_SPECIES and shape[3] > 1:
        return "NCHW"  # one dimension, as p2d itself keeps it
    sizes = tuple(shape[n] for n in kept)
    known = [LETTER_OF.get((names[n] or "").lower(), "") if names else "" for n in kept]
    if "Z" in known:
        raise UserError(_volume(where, shape))
    letters = "".join(known)
    if not (all(known) and _fits(letters, sizes, species)):
        letters = _by_shape(sizes, known, species, where, shape)
    whole = ["-"] * len(shape)
    for n, letter in zip(kept, letters, strict=True):
        whole[n] = letter
    return "".join(whole)


def _given(axes: str, shape: tuple[int, ...], where: str) -> str:
    letters = "".join(SAME.get(letter, letter) for letter in axes.upper())
    if "Z" in letters:
        raise UserError(_volume(where, shape))
    wrong = next((letter for letter in letters if letter not in LETTERS), "")
    if wrong:
        raise UserError(
            f"--axes {axes}: {wrong!r} is no axis; known: N snapshots, R runs, T frames of a run, C species, "
            "H (or Y) rows, W (or X) columns"
        )
    twice = next((letter for letter, count in Counter(letters).items() if count > 1), "")
    if twice:
        raise UserError(f"--axes {axes}: axis {twice} is given twice; each is given once")
    kept = [n for n, size in enumerate(shape) if size != 1]
    if len(letters) == len(kept) < len(shape):
        whole = ["-"] * len(shape)
        for n, letter in zip(kept, letters, strict=True):
            whole[n] = letter
        letters = "".join(whole)
    if len(letters) != len(shape):
        raise UserError(
            f"--axes {axes} has {len(letters)} letters, and {where} {len(shape)} axes, {_text(shape)}: one for each"
        )
    if not set(letters) & {"H", "W"}:
        raise UserError(f"--axes {axes} has no H or W: where are the rows and columns of a snapshot?")
    return letters if "W" in letters else letters.replace("H", "W")  # one dimension runs along x


def _fits(letters: str, sizes: tuple[int, ...], species: int) -> bool:
    size = dict(zip(letters, sizes, strict=True))
    if len(size) < len(letters) or not set(letters) & {"H", "W"}:
        return False
    return size.get("C", 1) == species if species else size.get("C", 1) <= MOST_SPECIES


def _by_shape(sizes: tuple[int, ...], known: list[str], species: int, where: str, shape: tuple[int, ...]) -> str:
    """The one order in use that fits; each rule counts only where some order keeps it."""
    usual = ORDERS.get(len(sizes), ())
    named = list(dict.fromkeys(filter(None, (_as_named(o, known) for o in usual)))) or list(usual)
    fitting = [o for o in named if _fits(o, sizes, species)]
    size = {o: dict(zip(o, sizes, strict=True)) for o in fitting}
    rules = [
        # A short axis counts species, where nothing else is said.
        lambda o: bool(species) or ("C" in o) == (min(sizes) <= MOST_SPECIES),
        lambda o: min(size[o].get("H", 99), size[o].get("W", 99)) > MOST_SPECIES,
        lambda o: size[o].get("H") == size[o].get("W"),
    ]
    for rule in rules:
        fitting = [o for o in fitting if rule(o)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and species > 1:
        raise UserError(
            f"{where} has shape {_text(shape)}: no axis holds the {species} species that are named; "
            f"give --axes, such as {_such_as(usual)}, or as many names in --species as it holds"
        )
    if not usual:
        raise UserError(
            f"{where} has shape {_text(shape)}: {len(sizes)} axes are not read; there are up to 5: "
            "R runs, T frames, C species, H rows, W columns"
        )
    beyond = "; a field of three dimensions is not read, only planes of it" if len(sizes) > 2 else ""
    raise UserError(
        f"{where} has shape {_text(shape)}, and its axes cannot be told: give --axes, such as "
        f"{_such_as(fitting or usual)} (N snapshots, R runs, T frames of a run, C species, H rows, W columns){beyond}"
    )


def _as_named(order: str, known: list[str]) -> str:
    """An order with the letters that are known, of which N may be called R or T; '' where it does not fit them."""
    pairs = list(zip(order, known, strict=True))
    if all(k in ("", letter) or (letter == "N" and k in "RT") for letter, k in pairs):
        return "".join(k or letter for letter, k in pairs)
    return ""


def _such_as(orders: Sequence[str]) -> str:
    return " or ".join(orders[:3])


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _volume(where: str, shape: tuple[int, ...]) -> str:
    return (
        f"{where} has shape {_text(shape)} with an axis Z: fields of three dimensions are not read; take one plane of "
        "it, or its planes as snapshots of one run: call that axis N, and the volumes R"
    )
