"""p2d in Python without Ray: for small data and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from p2d.config import DiscoverConfig, ImportConfig, SimulateConfig
from p2d.config.exporting import To
from p2d.config.learn import Extra
from p2d.discovery.discover import discover_equation
from p2d.discovery.result import Discovery
from p2d.errors import UserError, refuse_unknown
from p2d.fields import MOST_SPECIES, Edge, Grid, Mask, Operator, Species
from p2d.places import Remote, place
from p2d.runs import DATA
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.exporting import Exported, export_dataset, made_before
from p2d.snapshots.importing import import_here
from p2d.snapshots.passes import SPECIES, InMemory, Snapshots
from p2d.snapshots.simulated import alive, simulate_here
from p2d.snapshots.store import Dataset, open_dataset
from p2d.systems import expressions

LETTERS = "abcefghi"  # names of species that have none; d is the derivative


def simulate(*preset: str, out: str | Path = "runs", **settings: Any) -> Dataset:
    """Simulate a dataset in this process, or open it if it is there: the same bytes as `p2d simulate` writes.

    Example:
        import p2d
        dataset = p2d.simulate("waves", num_samples=48, height=64, width=64, steps=6000)
        states = dataset.states()                    # float32 [48, 2, 64, 64], u and v

    Args:
        preset: names of presets; the system's first, such as 'waves' of Gray-Scott, when none is given.
        out: output folder; the dataset goes to OUT/data/NAME.
        settings: the options of `p2d simulate`: system (name or TOML file), set (such as ('F=0.014,0.018',)),
            num_samples, height, width, steps (burn-in), spacing, edges, noise, dynamics_noise, seed, name, ...

    Returns:
        The Dataset; `.states()` are its snapshots.

    Raises:
        UserError: settings that are not possible, or differ from those of the dataset that is there.
    """
    if isinstance(noise := settings.get("dynamics_noise"), int | float):
        settings["dynamics_noise"] = (noise,)
    if isinstance(spacing := settings.get("spacing"), int | float):
        settings["spacing"] = f"{spacing:.17g}"
    config = SimulateConfig(preset=preset, **settings)
    return simulate_here(config, DATA.place(out, config.dataset_name))


def import_files(sources: str | Path | Sequence[str | Path], out: str | Path = "runs", **settings: Any) -> Dataset:
    """Make a dataset of your own files in this process: the same bytes as `p2d import` writes; or open it.

    Args:
        sources: files, folders or globs, one or several.
        out: output folder; the dataset goes to OUT/data/NAME.
        settings: the options of `p2d import`: species, spacing ('0.65um'), edges, interval ('30s'), mask, table,
            channels, arrays, axes, name, ... What may be several may be one here.

    Returns:
        The Dataset. What was noticed in the files stands in `.card.origin`.

    Raises:
        UserError: files that cannot be read, do not go together or hold no pattern, or settings that do not fit them.
    """
    several = {f.name for f in fields(ImportConfig) if isinstance(f.default, tuple)}
    given: dict[str, Any] = {
        k: (v,) if k in several and isinstance(v, str | int | float) else v for k, v in settings.items()
    }
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    named = [sources] if isinstance(sources, str | Path) else sources
    return import_here(ImportConfig(tuple(map(str, named)), **given), out)


def export(dataset: Dataset | str | Path, where: str | Path, to: To = "npz") -> Exported:
    """Write a dataset in a format of other programs, as `p2d export` does.

    Args:
        dataset: or its folder.
        where: a file or a folder that is not there yet.
        to: 'well' (HDF5 as The Well has it), 'npz', 'png', 'tiff' or 'zarr'.

    Returns:
        What was written, which prints as a text.

    Raises:
        UserError: another format, one that cannot hold the dataset, or something is there already.
    """
    refuse_unknown("format", to, get_args(To))
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    return made_before(opened, to, place(where)) or export_dataset(opened, to, place(where))


def discover(
    snapshots: np.ndarray | Dataset | str | Path | Snapshots,
    library: str = "free",
    *,
    degree: int = 0,
    order: Literal[2, 4] = 2,
    also: Sequence[Extra] = (),
    terms: str = "",
    known: str = "",
    operator: Literal["auto", Operator] = "auto",
    noise: float | Sequence[float] | str = "auto",
    smoothing: float | str = "auto",
    dynamics_noise: Literal["auto", "none"] = "auto",
    across: Sequence[str] = (),
    conditions: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    bootstrap: int = 100,
    seed: int = 0,
    species: Sequence[str] | None = None,
    spacing: float = 1.0,
    edges: Edge | tuple[Edge, Edge] = "periodic",
    mask: np.ndarray | None = None,
    runs: Sequence[int] | np.ndarray | None = None,
    times: Sequence[float] | np.ndarray | None = None,
) -> Discovery:
    """Find the equation that keeps an ensemble of snapshots as it is; their order does not matter.

    The snapshots should be of independent runs that have settled; 64 and more as a rule, and below 12 nothing is
    claimed. `p2d discover --help` describes the method and its limits.

    Example:
        import p2d
        states = p2d.simulate("waves", num_samples=48, height=64, width=64, steps=6000).states()
        equation = p2d.discover(states, species=("u", "v"))       # states: float32 [48, 2, 64, 64]
        print(equation)                                           # du/dt = ..., what is known, the unit of time
        print(equation.claims.velocity_known, equation.claims.terms_known)
        print(equation.terms["u"]["lap(u)"], equation.errors["u"]["lap(u)"])
        rate = equation.system.rate(states[:1])                   # d/dt in the values' unit, [1, 2, 64, 64]
        later = equation.system.advance(states[:1], time=100)

    Args:
        snapshots: an array of N snapshots of C species on H rows and W columns, in any unit: [N, C, H, W] with C of 1
            to 8, or [N, H, W]; in one dimension [N, C, W] or [N, W] where `species` tells which. Or a dataset, or its
            folder, which knows all that stands from `species` on. Uniform (dead) snapshots are left out.
        library: terms to choose from: 'free', all monomials and Laplacians; or the name or TOML file of a system, whose
            parameters are then the free numbers.
        degree: of the monomials of a free library; 0: 3, and 2 of more than three species.
        order: of its derivatives, 2 or 4; 4 adds lap(lap(c)).
        also: what else it holds: 'gradients', as grad(u, v); 'derivatives', as d(u, x) and u*d(u, x).
        terms: your own terms in its place, such as '1, u, v, u*v**2, lap(u), lap(v)'.
        known: a parameter or coefficient that is known, which sets the unit of time, such as 'lap(u)=0.16'.
        operator: of the Laplacians and slopes: '5-point', '9-point', 'spectral', '8th-order'; 'auto': the one that
            needs the fewest terms.
        noise: standard deviation of white noise in the snapshots, in the values' unit, of all species or of each;
            'auto': estimated from the snapshots.
        smoothing: width in cells of the kernel that they are seen through; 'auto': 1.5 where there is noise, or none.
        dynamics_noise: white noise in the dynamics: 'auto', fitted where the snapshots ask for it, or 'none'.
        across: names of known conditions of a dataset that one equation is to hold across, such as 'F'.
        conditions: the same of an array: by name, the value of each snapshot, [N].
        bootstrap: resamples for the error bars.
        seed: of the resamples.
        species: names of those of an array; u, v or a, b, c, ... when None.
        spacing: from cell to cell of an array, in the unit that the equation's lengths are to be in.
        edges: of an array: 'periodic', 'mirror' (no flux) or 'open' (a window of something larger); one, or those of
            rows (y) and columns (x).
        mask: the cells of an array that are part of the field, true or not 0, [H, W]; None: all.
        runs: the run that each snapshot of an array is of, [N]; None: each is of its own.
        times: when each snapshot was taken, [N]; frames of one run then tell unit and direction of time.

    Returns:
        A Discovery. It prints as the equation with error bars and the verdict; `.terms`, `.errors` and `.intervals` are
        the numbers, `.claims` what is known of them, `.system` the equation as a System that has rates and can be
        simulated; `.plot()`, `.save(path)`.

    Raises:
        UserError: another shape (says which would do), values that are not finite (says which snapshot), too few living
            snapshots, or settings that are not possible.
    """
    levels = [noise] if isinstance(noise, str | int | float) else noise
    config = DiscoverConfig(
        library,
        degree,
        order,
        tuple(also),
        terms,
        known,
        operator,
        tuple(map(str, levels)),
        str(smoothing),
        dynamics_noise,
        tuple(conditions or ((across,) if isinstance(across, str) else across)),
        bootstrap,
        seed,
    )
    if isinstance(snapshots, str | Path | Remote):
        snapshots = open_dataset(snapshots)
    if isinstance(snapshots, Dataset):
        card, own = snapshots.card, InMemory.of_dataset(snapshots, across=config.across)
        return discover_equation(own, config).in_units(card.species, card.time_unit)
    if isinstance(snapshots, Snapshots):
        return discover_equation(snapshots, config)
    states, names = shaped(np.asarray(snapshots), species)
    both = (edges, edges) if isinstance(edges, str) else tuple(edges)
    grid = Grid(states.shape[-2:], spacing, both, mask=None if mask is None else Mask.of(np.asarray(mask)))  # type: ignore[arg-type]
    return discover_equation(_living(states, names, grid, runs, times, conditions), config)


def shaped(states: np.ndarray, species: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """An array of snapshots as [N, C, H, W], and the names of its species.

    Raises:
        UserError: another shape, or numbers that are none; says which shapes would do.
    """
    count = len(species) if species is not None else None
    made = None
    if states.dtype.kind in "fiub":
        if states.ndim == 4:
            made = states
        elif states.ndim == 3 and count in (None, 1) and not (count is None and states.shape[1] <= MOST_SPECIES):
            made = states[:, None]
        elif states.ndim == 3 and count == states.shape[1]:
            made = states[:, :, None]
        elif states.ndim == 2 and count in (None, 1):
            made = states[:, None, None]
    if made is None or not 1 <= made.shape[1] <= MOST_SPECIES or count not in (None, made.shape[1]) or not made.size:
        told = f"{count} species" if count else f"1 to {MOST_SPECIES} species"
        c = count or "C"
        one = "; [N, H, W] or [N, W] of one" if count in (None, 1) else ""
        raise UserError(
            f"states have shape {list(states.shape)} of {states.dtype}; of {told} they must be numbers [N, {c}, H, W], "
            f"or in one dimension [N, {c}, 1, W]{one}"
        )
    count = made.shape[1]
    names = tuple(species) if species is not None else SPECIES if count == len(SPECIES) else tuple(LETTERS[:count])
    for name in names:
        expressions.refuse_name(name, "species")
    if len(set(names)) < len(names):
        raise UserError(f"species = {', '.join(names)}: a name stands twice; each needs its own")
    return np.asarray(made, np.float32 if made.dtype.kind != "f" else made.dtype), names


def _living(
    states: np.ndarray,
    species: tuple[str, ...],
    grid: Grid,
    runs: Sequence[int] | np.ndarray | None,
    times: Sequence[float] | np.ndarray | None,
    conditions: Mapping[str, Sequence[float] | np.ndarray] | None,
) -> InMemory:
    """The living of an array of snapshots [N, C, H, W], with their places in it as ids."""
    inside = grid.inside(0)
    if not np.isfinite(states[..., inside]).all():
        place = int(np.argwhere(~np.isfinite(states[..., inside]).all(axis=(1, 2)))[0, 0])
        raise UserError(f"sample {place} holds values that are not finite; leave it out, or give a mask")
    for name, given in (("runs", runs), ("times", times)):
        if given is not None and len(given) != len(states):
            raise UserError(f"{name} has {len(given)} entries for {len(states)} snapshots; it must have one for each")
    states = np.where(inside, states, states[..., inside].mean(axis=(0, 2))[:, None, None].astype(states.dtype))
    ends = zip(states.min(axis=(0, 2, 3)), states.max(axis=(0, 2, 3)), strict=True)
    ranges = tuple(Species(name, "", *map(float, end)) for name, end in zip(species, ends, strict=True))
    living = np.flatnonzero(alive(states, ranges))
    own = living if runs is None else np.unique(np.asarray(runs), return_inverse=True)[1][living]
    when = np.full(len(living), np.nan) if times is None else np.asarray(times, np.float64)[living]
    known = Conditions.of_arrays(conditions, living, len(states), species) if conditions else None
    return InMemory(states[living], living, own, when, species, grid, known)
