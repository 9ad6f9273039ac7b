"""Findings of a survey in words, a function each: measurements in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from p2d.fields import Edge, Grid
from p2d.snapshots.correlation import Lengths
from p2d.snapshots.doubts import Doubt
from p2d.snapshots.illumination import Illumination
from p2d.snapshots.pixels import Ends

FEW, MANY = 12, 64  # independent snapshots: below, no equation is claimed; from there on, errors are small
ABOUT = 0.9  # of these numbers, which independent snapshots are known to
SHORTEST_WAVE = 5.0  # cells; those of the sharpest pattern of the catalogue are 8, and of white noise 3.1
WINDOW = 5  # correlation lengths that a window holds, at least; waves are about as long
SHORT_OF_BITS = 8  # bits of a value, to which pictures and films are made for the eye
EXACT = 1e-6  # of the range, to which 0 and 1 are meant
STANDARD = 1e-4  # to which a mean of 0 and a standard deviation of 1 are meant
NAMED = 6  # pixels that a sentence names

# What is said first of what something is to be done about.
ORDER = (
    "uniform",
    "few",
    "dependent",
    "mixture",
    "changing",
    "edges",
    "rescaled",
    "background",
    "saturated",
    "pixels",
    "rounded",
    "compressed",
    "illumination",
    "gamma",
    "resolution",
    "window",
    "symmetric",
)


@dataclass(frozen=True)
class Finding:
    """Something that snapshots show.

    Attributes:
        kind: such as 'size' or 'rounded'.
        text: what they show.
        meaning: what it means for the answer.
        advice: what to do; '' of a fact, about which nothing is to be done.
        numbers: how much, by name.
    """

    kind: str
    text: str
    meaning: str = ""
    advice: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, doubt: Doubt) -> Finding:
        """What `examine` doubts."""
        return cls(doubt.kind, doubt.text, doubt.meaning, doubt.advice, doubt.numbers)

    def __str__(self) -> str:
        if not self.advice:
            return "; ".join(filter(None, (self.text, self.meaning)))
        return f"! {self.text}\n    so: {self.meaning}\n    do: {self.advice}"


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Facts in their order, then what something is to be done about, by importance."""
    places = {kind: n for n, kind in enumerate(ORDER)}
    return tuple(sorted(findings, key=lambda f: places.get(f.kind, len(ORDER)) if f.advice else -1))


def of_size(states: np.ndarray, species: Sequence[str], grid: Grid, count: int) -> Iterator[Finding]:
    """How many, how large, and the range of each species."""
    known = states[..., grid.inside(0)]
    rows, columns = grid.shape
    ranges, numbers = [], {"snapshots": float(count), "rows": float(rows), "columns": float(columns)}
    for s, name in enumerate(species):
        low, high = float(known[:, s].min()), float(known[:, s].max())
        ranges.append(f"{name} {low:.4g} to {high:.4g}")
        numbers |= {f"lowest {name}": low, f"highest {name}": high}
    cells = f"{columns} cells" if rows == 1 else f"{rows} x {columns} cells"
    looked = f" ({len(states)} were looked at)" if len(states) < count else ""
    text = f"{count} snapshot{'s' * (count != 1)} of {cells}{looked}: {', '.join(ranges)}"
    yield Finding("size", text, numbers=numbers)


def of_edges(edges: tuple[Edge, Edge], repeated: tuple[bool, bool], grid: Grid, *, known: bool) -> Iterator[Finding]:
    """What rows and columns end with."""
    both = zip(("row", "column"), repeated, strict=True)
    which = " and the last ".join(name for name, is_so in both if is_so)
    if which:
        yield Finding("repeated", f"the last {which} repeats the first", "it would count twice, and is dropped")
    if known:
        return
    said = {name: edge for name, edge, size in zip(("rows", "columns"), edges, grid.shape, strict=True) if size > 1}
    kinds = set(said.values())
    text = "; ".join(
        f"{' and '.join(name for name, edge in said.items() if edge == kind)} {words}"
        for kind, words in (("periodic", "join at their ends: periodic edges"), ("open", "do not join: open edges"))
        if kind in kinds
    )
    if grid.mask is not None:
        text = "with a mask, edges are taken as open"
    meaning = "cells beside an open edge are not learnt from" if "open" in kinds else ""
    yield Finding("seams", text, meaning)


def of_values(bits: int, steps: Sequence[float], noise: Sequence[float], species: Sequence[str]) -> Iterator[Finding]:
    """Levels and noise."""
    if bits:
        yield Finding("bits", f"values are stored in {bits} bits", numbers={"bits": float(bits)})
    noisy = {name: sigma for name, sigma in zip(species, noise, strict=True) if sigma}
    if noisy:
        levels = ", ".join(f"{sigma:.2g} in {name}" for name, sigma in noisy.items())
        yield Finding(
            "noise",
            f"white noise of standard deviation {levels}",
            "an equation is corrected for it; p2d denoise takes it out",
            numbers={f"noise of {name}": sigma for name, sigma in noisy.items()},
        )


def of_runs(count: int, runs: int, independent: float, *, known: bool) -> Iterator[Finding]:
    """How many snapshots are independent, of those of so many runs."""
    numbers = {"runs": float(runs), "independent": independent}
    if count == 1:
        return
    if known:
        yield Finding(
            "runs",
            f"they are of {runs} run{'s' * (runs != 1)}, worth about {independent:.0f} independent snapshots",
            numbers=numbers,
        )
    else:
        yield Finding(
            "runs",
            f"nothing says which are of one run: each counts as a run, and they are worth about "
            f"{independent:.0f} independent snapshots",
            numbers=numbers,
        )


def of_few(independent: float, *, static: bool, dependent: bool, runs: int | None = None) -> Iterator[Finding]:
    """Too few to tell an equation from.

    Args:
        dependent: whether it is said already that they are worth fewer than they are.
        runs: that they are said to be of.
    """
    if not static and runs is not None and runs < FEW <= independent:
        yield Finding(
            "few",
            f"there are too few runs: {runs}",
            f"frames of a run follow from each other, however far apart: below {FEW} runs no equation is claimed",
            "if they are no frames but experiments of their own, say so: --axes with N in place of T, or --runs-from",
            {"runs": float(runs)},
        )
        return
    if static or independent >= ABOUT * (FEW if dependent else MANY):
        return
    number = f"{max(1, round(independent))} independent snapshot{'s' * (round(independent) > 1)}"
    numbers = {"independent": independent}
    if independent < FEW:
        yield Finding(
            "few",
            f"there are too few: {number}",
            f"below {FEW} no equation is claimed, but that of a steady state",
            f"take more snapshots, of other runs or far apart in time; {MANY} make a good answer",
            numbers,
        )
    else:
        yield Finding(
            "few",
            f"there are few: {number}",
            "an equation may be claimed, with wide error bars",
            f"take more, if there are any; {MANY} make a good answer",
            numbers,
        )


def of_static(imbalance: float, bound: float, *, sure: bool) -> Iterator[Finding]:
    """That nothing moves.

    Args:
        sure: whether there are enough snapshots to tell a state that stands still from one front that moves.
    """
    if imbalance <= bound:
        moves = "nothing moves" if sure else "nothing moves, or one front or spot moves as a whole"
        yield Finding(
            "static",
            f"{moves}: reaction and diffusion balance in every cell",
            "no velocity can be told; p2d discover --library SYSTEM gives the parameters of its steady state, from one "
            "snapshot on",
            numbers={"imbalance": imbalance},
        )


def of_uniform(uniform: int, count: int) -> Iterator[Finding]:
    """Snapshots without a pattern."""
    if uniform:
        which = "all snapshots are" if uniform == count else f"{uniform} of {count} snapshots are"
        advice = "check species, crop and scale" if uniform == count else "check these if they should hold a pattern"
        yield Finding(
            "uniform", f"{which} uniform", "they hold no pattern, and are left out", advice, {"uniform": float(uniform)}
        )


def of_scaling(states: np.ndarray, species: Sequence[str], grid: Grid, steps: Sequence[float]) -> Iterator[Finding]:
    """Values that were scaled to a range, or to a mean and a spread, all together or each by itself.

    Args:
        steps: between levels; rounded values end at the ends of their range as a matter of course.
    """
    known = states[..., grid.inside(0)].astype(np.float64)
    together, each = [], []
    for s, name in enumerate(species):
        x = known[:, s]
        if len(x) > 1 and _is_scaled(x, steps[s]):
            each.append(name)
        elif _is_scaled(x.reshape(1, -1), steps[s]):
            together.append(name)
    if each:
        yield Finding(
            "rescaled",
            f"{' and '.join(each)} of every snapshot spans the same range, or has the same mean and spread: each was "
            "scaled by itself",
            "one equation does not hold for all of them",
            "give the values as they were measured",
            {"each": float(len(each))},
        )
    elif together:
        yield Finding(
            "rescaled",
            f"{' and '.join(together)} spans 0 to 1, or has mean 0 and spread 1: scaled before it came here",
            "the equation is of the scaled values: its terms mix, such as u v^2 with v^2 and u v, and parameters are "
            "not those of concentrations",
            "give the values as they were measured, or undo it with --scale and --offset",
            {"together": float(len(together))},
        )


def _is_scaled(x: np.ndarray, step: float) -> bool:
    """Whether each row of values [N, cells] spans 0 to 1 or the range of all others, or has mean 0 and spread 1."""
    low, high = x.min(axis=1), x.max(axis=1)
    unit = (np.abs(low) < EXACT).all() and (np.abs(high - 1) < EXACT).all()
    standard = (np.abs(x.mean(axis=1)) < STANDARD).all() and (np.abs(x.std(axis=1) - 1) < STANDARD).all()
    same = len(x) > 1 and not step and all(np.ptp(end) <= EXACT * (high - low).max() for end in (low, high))
    return bool(unit or standard or same)


def of_ends(ends: Sequence[Ends], species: Sequence[str]) -> Iterator[Finding]:
    """Saturated pixels, and a background."""
    shares = {
        f"{words} value of {name}": getattr(of, end)
        for name, of in zip(species, ends, strict=True)
        for end, words in (("low", "lowest"), ("high", "highest"))
        if getattr(of, end)
    }
    if shares:
        told = ", ".join(f"{share:.1%} are at the {name}" for name, share in shares.items())
        yield Finding(
            "saturated",
            f"pixels are cut off: {told}",
            "what was beyond is lost, and Laplacians there are wrong",
            "expose or convert for the whole range; a background or a frame goes with --mask or --crop",
            shares,
        )
    plain = {name: of for name, of in zip(species, ends, strict=True) if of.background}
    if plain:
        told = " and ".join(f"{of.background:.0%} of {name} are {of.value:.4g}" for name, of in plain.items())
        yield Finding(
            "background",
            f"many pixels have one value with sharp borders: {told}, a background as it seems",
            "no equation holds there, nor at its borders",
            "leave it out with --mask (a picture, or the background's colour), or --crop to what is always inside",
            {f"background of {name}": of.background for name, of in plain.items()},
        )


def of_pixels(constant: np.ndarray, hot: np.ndarray, grid: Grid) -> Iterator[Finding]:
    """Cells that are the same in all snapshots, or hot, bool [H, W]."""
    if constant.any():
        rim = np.ones_like(constant)
        rim[tuple(slice(1, -1) if size > 2 else slice(None) for size in constant.shape)] = False
        on_rim = not (constant & ~rim).any()
        share = constant.sum() / max(1, grid.inside(0).sum())
        what = "those along the edges" if on_rim else f"{_cells_text(constant)} ({share:.1%})"
        which = "edges held at a value" if on_rim else "dead pixels, a frame, a label or a background"
        yield Finding(
            "pixels",
            f"{what} have the same values in all snapshots: {which}",
            "no equation holds there",
            "leave them out with --crop" if on_rim else "leave them out with --mask or --crop",
            {"constant": float(constant.sum())},
        )
    hot = hot & ~constant
    if hot.any():
        yield Finding(
            "pixels",
            f"{_cells_text(hot)} differ from their neighbours alike in all snapshots: hot pixels, dust, or letters",
            "Laplacians there are wrong",
            "leave them out with --mask",
            {"hot": float(hot.sum())},
        )


def _cells_text(cells: np.ndarray) -> str:
    """How many cells of [H, W], and which."""
    places = ", ".join(f"({row}, {column})" for row, column in np.argwhere(cells)[:NAMED])
    more = ", ..." if cells.sum() > NAMED else ""
    return f"{int(cells.sum())} cell{'s' * bool(cells.sum() != 1)} at row and column {places}{more}"


def of_files(bits: int, *, lossy: bool, blocks: bool) -> Iterator[Finding]:
    """What only the kind of the files tells.

    Args:
        blocks: whether those of JPEG are seen, which is said already.
    """
    if lossy and not blocks:
        yield Finding(
            "compressed",
            "the files keep values approximately, as JPEG and films do",
            "Laplacians are those of what is left, and small terms may be artefacts",
            "take files without loss (PNG, TIFF, .npy), if there are any",
        )
    if lossy or bits == SHORT_OF_BITS:
        yield Finding(
            "gamma",
            "they are pictures or films of 8 bits, which are made for the eye as a rule (sRGB)",
            "brightness is then not proportional to concentration, and the equation is of brightness; values do not "
            "tell whether it is so",
            "export linear values from the camera's or microscope's program (16 bits, gamma 1)",
        )


def of_illumination(light: Illumination, species: Sequence[str]) -> Iterator[Finding]:
    """Uneven light."""
    if light.is_uneven:
        uneven = {name: size for name, size in zip(species, light.ranges, strict=True) if size}
        told = " and ".join(f"by {size:.1%} in {name}" for name, size in uneven.items())
        yield Finding(
            "illumination",
            f"the light is uneven: values rise smoothly from one side to the other, or from the middle, {told}",
            "coefficients then differ from place to place, and terms that are none fit the difference",
            "import again with --flatten, which divides by it",
            {f"range of {name}": size for name, size in uneven.items()} | {"p": light.p},
        )


def of_lengths(
    lengths: Sequence[Lengths], species: Sequence[str], grid: Grid, independent: float, *, static: bool
) -> Iterator[Finding]:
    """Whether the grid resolves the pattern, and whether the window holds enough of it."""
    told = ", ".join(f"{each.correlation:.1f} in {name}" for name, each in zip(species, lengths, strict=True))
    numbers = {f"correlation length of {name}": each.correlation for name, each in zip(species, lengths, strict=True)}
    yield Finding("lengths", f"values stay alike over so many cells (to 1/e): {told}", numbers=numbers)
    shortest = min(each.wave for each in lengths)
    if shortest < SHORTEST_WAVE:
        yield Finding(
            "resolution",
            f"the grid hardly resolves the pattern: its steep parts are waves of {shortest:.1f} cells",
            "Laplacians are those of the grid and not of the pattern",
            "take finer pictures; less --bin; or p2d denoise, if it is noise",
            {"wave": shortest},
        )
    longest, window = max(each.correlation for each in lengths), max(grid.shape)
    if longest * WINDOW > window and independent < ABOUT * MANY and not static:
        yield Finding(
            "window",
            f"the window of {window} cells holds hardly a wave: values stay alike over {longest:.0f} cells",
            "each snapshot tells little, and error bars are wide",
            "take larger windows, or more snapshots",
            {"correlation length": longest},
        )
