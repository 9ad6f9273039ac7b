"""Figures of a report, one function each: data in, a PNG file out.

The same colours for the same quantity: values of a species in one colour map, velocities in one that is white at 0,
curves of a species in its own colour; cells outside a mask, and what has blown up, are grey. Fields of one dimension
are curves, and stacks of rows where they are many.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from p2d.discovery.result import COLOURS
from p2d.evaluate.course import Clock
from p2d.runs import whole
from p2d.show.view import View

CELL, BAR = 2.1, 0.8  # inches of a square panel, and of a colour bar
LARGEST = 24.0  # inches of a figure
VALUES, VELOCITIES, UNKNOWN = "viridis", "RdBu_r", "0.7"  # colours
SEVERAL = 8  # states of a sheet that shows several species
PANELS, FRAMES_A_SECOND = 6, 12  # of a rollout
Limits = tuple[float, float]


@contextmanager
def draw_panels(
    path: Path, rows: int, columns: int, title: str, width: float = CELL, height: float = CELL, bars: int = 0
) -> Iterator[np.ndarray]:
    """Axes [rows, columns] of a figure that is saved when the block ends.

    Args:
        width, height: inches of a panel; less where they are too many.
        bars: colour bars beside each other that there must be room for.
    """
    matplotlib.use("Agg")
    share = min(1.0, LARGEST / (width * columns), LARGEST / (height * rows))
    size = (share * width * columns + BAR * bars + 0.6, share * height * rows + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11, wrap=True)
    yield figure.subplots(rows, columns, squeeze=False)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _panel_size(view: View) -> tuple[float, float]:
    """Width and height in inches of a panel that shows a field: of one area, whatever its shape."""
    rows, columns = view.grid.shape
    ratio = 0.5 if view.is_line else min(max(rows / columns, 0.25), 4.0)
    return CELL / ratio**0.5, CELL * ratio**0.5


def _draw_field(
    axes: Axes, field: np.ndarray, view: View, s: int, limits: Limits, title: str = "", colours: str = VALUES
) -> None:
    """A field [H, W] of a species as a picture, or of one dimension as a curve; words where it is not finite."""
    axes.set_title(title, fontsize=9)
    if not np.isfinite(field if view.grid.mask is None else field[view.grid.mask.cells]).all():
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "blown up", transform=axes.transAxes, ha="center", va="center", fontsize=9)
    elif view.is_line:
        margin = 0.05 * (limits[1] - limits[0])
        line = view.known(field).ravel()
        axes.plot(view.step * np.arange(line.size), line, color=COLOURS[s], linewidth=1.2)
        axes.set(xlim=(0, view.step * line.size), ylim=(limits[0] - margin, limits[1] + margin))
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
    else:
        height, width = (view.step * size for size in view.grid.shape)
        _draw_image(axes, view.known(field), limits, colours, (0, width, height, 0))
        axes.set(xticks=[], yticks=[])


def _draw_image(
    axes: Axes,
    field: np.ndarray,
    limits: Limits,
    colours: str,
    extent: tuple[float, float, float, float],
    stretched: bool = False,
) -> None:
    drawn = axes.imshow(field, aspect="auto" if stretched else "equal", interpolation="nearest", extent=extent)
    drawn.set(cmap=matplotlib.colormaps[colours].with_extremes(bad=UNKNOWN), clim=limits)


def _draw_bar(axes: np.ndarray, limits: Limits, label: str, colours: str = VALUES) -> None:
    """The colours of these panels [rows, columns], beside them."""
    drawn = ScalarMappable(Normalize(*limits), colours)
    bar = axes[0, 0].figure.colorbar(drawn, ax=list(axes.flat), aspect=14 * len(axes), pad=0.01)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=7)


def _draw_lengths(axes: np.ndarray, view: View, scales: int = 1) -> None:
    """Lengths: below the lowest curves; of pictures, where they have a unit, beside the lowest one on the left.

    Args:
        scales: columns of curves from the left that have a scale of their own, which the others share.
    """
    if view.is_line:
        for place in axes[:-1].flat:
            place.tick_params(labelbottom=False)
        for place in axes[:, scales:].flat:
            place.tick_params(labelleft=False)
        for place in axes[-1]:
            place.set_xlabel(f"{view.axis} ({view.length_unit})", fontsize=8)
    elif view.grid.unit:
        place = axes[-1, 0]
        for axis, name in ((place.xaxis, "x"), (place.yaxis, "y")):
            axis.set_major_locator(MaxNLocator(3))
            words = filter(None, (axis.get_label_text(), f"{name} ({view.grid.unit})"))
            axis.set_label_text("\n".join(words), fontsize=8)
        place.tick_params(labelsize=7)


def draw_states(
    path: Path, states: np.ndarray, view: View, title: str, columns: int = 0, several: int = SEVERAL
) -> None:
    """States [N, C, H, W] side by side, four to eight a row by default, on one scale a species.

    Of several species the first eight states, or `several`, in rows of their own; fields of one dimension as a stack.
    """
    title = f"{title}: {view.names}"
    if view.is_line:
        with draw_panels(path, 1, len(view.shown), title, 2 * CELL, 1.6 * CELL, len(view.shown)) as axes:
            for place, s in zip(axes[0], view.shown, strict=True):
                _draw_stack(place, states[:, s], np.arange(len(states) + 1), view, view.limits(states[:, s]))
                place.set_ylabel("snapshot", fontsize=8)
                _draw_bar(np.array([[place]]), view.limits(states[:, s]), view.label(s))
        return
    one = len(view.shown) == 1
    states = states if one else states[:several]
    columns = columns or min(4 if one and len(states) <= 16 else 8, len(states))
    rows = -(-len(states) // columns)
    with draw_panels(path, rows * len(view.shown), columns, title, *_panel_size(view), bars=1) as axes:
        for place in axes.flat:
            place.axis("off")
        for n, s in enumerate(view.shown):
            own, limits = axes[n * rows : (n + 1) * rows], view.limits(states[:, s])
            for place, field in zip(own.flat, states[:, s], strict=False):
                place.axis("on")
                _draw_field(place, field, view, s, limits)
            _draw_bar(own, limits, view.label(s))
        _draw_lengths(axes, view)


def _draw_stack(axes: Axes, lines: np.ndarray, ends: Sequence[float] | np.ndarray, view: View, limits: Limits) -> None:
    """Fields of one dimension, [N, H, W], as rows of a picture from one end to the other."""
    rows = view.known(lines).reshape(len(lines), -1)
    _draw_image(axes, rows, limits, VALUES, (0, view.step * rows.shape[1], ends[-1], ends[0]), stretched=True)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=ends[-1] >= len(lines) - 1))
    axes.set_xlabel(f"{view.axis} ({view.length_unit})", fontsize=8)
    axes.tick_params(labelsize=7)


def draw_denoised(
    path: Path, clean: np.ndarray, panels: list[tuple[float, np.ndarray, np.ndarray]], view: View, title: str
) -> None:
    """One snapshot [C, H, W] beside its noised and denoised states, a row for each signal level.

    Of several species a row each, at the middle level.

    Args:
        panels: alpha, noised state over sqrt(alpha), and posterior mean, all as values.
    """
    chosen = panels if len(view.shown) == 1 else panels[len(panels) // 2 :][:1]
    size = (len(chosen) * len(view.shown), 3)
    with draw_panels(path, *size, f"{title}: {view.names} denoised by the score model", *_panel_size(view), 1) as axes:
        for n, s in enumerate(view.shown):
            own = axes[n * len(chosen) : (n + 1) * len(chosen)]
            beside = [state[s] for _, *pair in chosen for state in pair] if view.is_line else []
            limits = view.limits(np.stack([clean[s], *beside]))
            for row, (alpha, noisy, mean) in zip(own, chosen, strict=True):
                before, after = (float(np.sqrt(np.nanmean(view.known(x[s] - clean[s]) ** 2))) for x in (noisy, mean))
                _draw_field(row[0], clean[s], view, s, limits, "snapshot")
                _draw_field(row[1], noisy[s], view, s, limits, f"alpha {alpha:g}: rms noise {before:.3g}")
                _draw_field(row[2], mean[s], view, s, limits, f"denoised: rms error {after:.3g}")
            if view.is_line:
                _name_curves(own[:, 0], view.label(s))
            else:
                _draw_bar(own, limits, view.label(s))
        _draw_lengths(axes, view)


def _name_curves(axes: np.ndarray, label: str) -> None:
    """What the curves of these panels are of, beside them."""
    for place in axes:
        place.set_ylabel(label, fontsize=8)


def draw_velocities(
    path: Path, states: np.ndarray, fields: dict[str, np.ndarray], cosines: dict[str, float], view: View, title: str
) -> None:
    """Snapshots beside velocity fields there, each field scaled to the root mean square of the first.

    Of several species a row each, of as many snapshots as there is room for.

    Args:
        states: values [N, C, H, W], a row each.
        fields: velocities [N, C, H, W] by title; the first is the reference.
        cosines: with the true field, by title; said where known.
    """
    states = states[: max(1, len(states) // len(view.shown))]
    count, reference = len(states), next(iter(fields.values()))
    rates = ", ".join(f"d{view.species[s].name}/dt" for s in view.shown)
    size = (count * len(view.shown), 1 + len(fields))
    title = f"{title}: {rates}, fields scaled to one root mean square"
    with draw_panels(path, *size, title, *_panel_size(view), bars=0 if view.is_line else 2) as axes:
        for place, key in zip(axes[0, 1:], fields, strict=True):
            place.set_title(key + (f"\ncosine {cosines[key]:.4f}" if key in cosines else ""), fontsize=9)
        for n, s in enumerate(view.shown):
            own, limits = axes[n * count : (n + 1) * count], view.limits(states[:, s])
            scale = _rms(reference[:, s], view)
            reach = (float(np.nanmax(np.abs(view.known(reference[:, s])))) if view.is_line else 3 * scale) or 1.0
            for i, row in enumerate(own):
                _draw_field(row[0], states[i, s], view, s, limits)
                for place, field in zip(row[1:], fields.values(), strict=True):
                    shown = field[i, s] * scale / max(_rms(field[:, s], view), 1e-30)
                    _draw_field(place, shown, view, s, (-reach, reach), place.get_title(), VELOCITIES)
            if view.is_line:
                _name_curves(own[:, 0], view.label(s))
                _name_curves(own[:, 1], view.rate_label(s))
            else:
                _draw_bar(own[:, :1], limits, view.label(s))
                _draw_bar(own[:, 1:], (-reach, reach), view.rate_label(s), VELOCITIES)
        _draw_lengths(axes, view, scales=2)


def _rms(fields: np.ndarray, view: View) -> float:
    return float(np.sqrt(np.nanmean(view.known(fields) ** 2)))


@dataclass(frozen=True)
class Film:
    """A rollout as it is shown.

    Attributes:
        times: of the frames, in steps of the simulator.
        frames: values [T, C, H, W] by kind of dynamics, nan from where one has blown up; the first sets the scales.
    """

    times: Sequence[int]
    frames: dict[str, np.ndarray]
    view: View
    title: str
    clock: Clock = field(default_factory=Clock)

    def limits(self, s: int) -> Limits:
        """Of the values of a species."""
        return self.view.limits(next(iter(self.frames.values()))[:, s])


def draw_rollout(path: Path, film: Film) -> None:
    """A rollout as rows of panels, one kind of dynamics each; of one dimension as panels of space and time."""
    view, kinds = film.view, len(film.frames)
    title = f"{film.title}: {view.names} over {film.clock.label}"
    if view.is_line:
        with draw_panels(path, len(view.shown), kinds, title, 1.4 * CELL, 1.4 * CELL, bars=1) as axes:
            for row, s in zip(axes, view.shown, strict=True):
                for place, (kind, states) in zip(row, film.frames.items(), strict=True):
                    _draw_stack(place, states[:, s], film.clock.of(film.times), view, film.limits(s))
                    lost = "" if np.isfinite(states).all() else ", then blown up"
                    place.set_title(f"{kind}{lost}", fontsize=9)
                row[0].set_ylabel(film.clock.label, fontsize=8)
                _draw_bar(row[None], film.limits(s), view.label(s))
        return
    chosen = np.unique(np.linspace(0, len(film.times) - 1, PANELS).round().astype(int))
    with draw_panels(path, kinds * len(view.shown), len(chosen), title, *_panel_size(view), bars=1) as axes:
        for place, n in zip(axes[0], chosen, strict=True):
            place.set_title(film.clock.text(film.times[n]), fontsize=9)
        for place, s in enumerate(view.shown):
            own = axes[place * kinds : (place + 1) * kinds]
            for row, (kind, states) in zip(own, film.frames.items(), strict=True):
                row[0].set_ylabel(kind, fontsize=9)
                for panel, n in zip(row, chosen, strict=True):
                    _draw_field(panel, states[n, s], view, s, film.limits(s), panel.get_title())
            _draw_bar(own, film.limits(s), view.label(s))
        _draw_lengths(axes, view)


def draw_animation(path: Path, film: Film) -> None:
    """A rollout as a GIF or, by the path's ending, an MP4: the kinds of dynamics side by side, a row a species."""
    matplotlib.use("Agg")
    view, (width, height) = film.view, _panel_size(film.view)
    size = (width * len(film.frames) + BAR + 0.2, height * len(view.shown) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(view.shown), len(film.frames), squeeze=False)
    for row, s in zip(axes, view.shown, strict=True):
        if not view.is_line:
            _draw_bar(row[None], film.limits(s), view.label(s))
    writer = FFMpegWriter(FRAMES_A_SECOND) if path.suffix == ".mp4" else PillowWriter(FRAMES_A_SECOND)
    with tempfile.TemporaryDirectory(prefix="p2d-") as folder:  # its kind is told by its ending
        part = Path(folder) / path.name
        with writer.saving(figure, str(part), dpi=100):
            for n, time in enumerate(film.times):
                figure.suptitle(f"{film.title}: {view.names} after {film.clock.text(time)}", fontsize=10, wrap=True)
                for row, s in zip(axes, view.shown, strict=True):
                    for place, (kind, states) in zip(row, film.frames.items(), strict=True):
                        place.clear()
                        _draw_field(place, states[n, s], view, s, film.limits(s), kind if s == view.shown[0] else "")
                    if view.is_line:
                        _name_curves(row[:1], view.label(s))
                _draw_lengths(axes, view)
                writer.grab_frame()
        with whole(path) as temporary:
            shutil.copyfile(part, temporary)


def can_animate(kind: str) -> bool:
    """Whether an animation of this kind, 'gif', 'mp4' or 'none', can be written here."""
    return kind != "mp4" or bool(FFMpegWriter.isAvailable())
