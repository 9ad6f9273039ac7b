"""Figures: each has the size that its panels ask for and shows the data it was given; one of a kind becomes pixels."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage, imread
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from p2d.discovery.result import COLOURS
from p2d.evaluate.course import Course, Rollout
from p2d.fields import Grid, Mask, Species
from p2d.show import curves, figures
from p2d.show.view import View
from p2d.training.history import History

DOTS = 130  # an inch
MARGIN = (0.6, 0.7)  # inches beside and above all panels


def random_states(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 2, 12, 12))


def panels_of(count: int, seed: int = 0) -> list[tuple[float, np.ndarray, np.ndarray]]:
    noisy, mean = random_states(count, seed + 1), random_states(count, seed + 2)
    return [(0.5 + 0.1 * i, noisy[i], mean[i]) for i in range(count)]


def history(epochs: int, slope: float = 1.0) -> History:
    trained = [{"epoch": e, "training_loss": slope / e, "validation_loss": slope * 2 / e} for e in range(1, epochs + 1)]
    return History.from_dicts([{"epoch": 0, "validation_loss": 3.0}, *trained])


def colours(picture: np.ndarray) -> int:
    return len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0))


def assert_has_panels(
    figure: Figure, rows: int, columns: int, cell: tuple[float, float] = (figures.CELL,) * 2, bars: int = 0
) -> None:
    """Of the size of so many panels."""
    size = (cell[0] * columns + MARGIN[0] + figures.BAR * bars, cell[1] * rows + MARGIN[1])
    assert_allclose(figure.get_size_inches(), size)


def view(*species: str | Species, show: str = "", **grid) -> View:
    """Of fields of 12 x 12 cells, if nothing else is said, of u and v."""
    named = tuple(s if isinstance(s, Species) else Species(s) for s in species or "uv")
    return View(named, Grid(**{"shape": (12, 12), **grid}), show)


def images(figure: Figure) -> list[AxesImage]:
    return [image for axes in figure.axes for image in axes.get_images()]


def bars(figure: Figure) -> dict[str, tuple[float, float]]:
    """Limits of the colour bars by their labels."""
    made = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    return {axes.get_ylabel(): axes.get_ylim() for axes in made}


def ticks(axes: Axes) -> list[float]:
    low, high = sorted(axes.get_xlim())
    return [tick for tick in axes.get_xticks() if low <= tick <= high]


@pytest.mark.parametrize(
    ("count", "asked", "rows", "columns"),
    [(1, 0, 1, 1), (6, 0, 2, 4), (16, 0, 4, 4), (17, 0, 3, 8), (8, 4, 2, 4), (6, 3, 2, 3)],
)
def test_states_are_shown_four_to_eight_a_row_or_as_asked_on_one_scale(tmp_path, drawn, count, asked, rows, columns):
    states = 160 * random_states(count) - 40
    figures.draw_states(tmp_path / "new" / "a.png", states, view(), "waves", asked)
    assert_has_panels(drawn[-1], rows, columns, bars=1)
    shown = images(drawn[0])
    assert len(shown) == count
    for image, field in zip(shown, states[:, 1], strict=True):
        assert_array_equal(image.get_array(), field)
        assert image.get_clim() == (states[:, 1].min(), states[:, 1].max())
    assert bars(drawn[0]) == {"v": pytest.approx((states[:, 1].min(), states[:, 1].max()))}


def test_the_species_asked_for_are_shown_each_on_its_own_scale(tmp_path, drawn):
    states = np.concatenate([random_states(12), 100 * random_states(12, 1)], axis=1)
    species = ("a", Species("b", "mM"), "c", "d")
    for show in ("a", "2", "all"):
        figures.draw_states(tmp_path / "a.png", states, view(*species, show=show), "mixture")
    first, third, every = drawn
    assert first.get_suptitle() == "mixture: a" and list(bars(third)) == ["c"]
    assert_array_equal(images(third)[11].get_array(), states[11, 2])
    assert every.get_suptitle() == "mixture: a, b, c, d" and list(bars(every)) == ["a", "b (mM)", "c", "d"]
    # eight states of each, a row a species
    assert len(images(every)) == 32
    assert_has_panels(drawn[-1], 4, 8, bars=1)
    for image in images(every)[24:]:
        assert image.get_clim() == (states[:8, 3].min(), states[:8, 3].max())


def test_lengths_are_told_in_the_unit_of_the_grid_where_it_has_one(tmp_path, drawn):
    for unit in ("", "um"):
        figures.draw_states(tmp_path / "a.png", random_states(6), view(spacing=0.5, unit=unit), "waves")
    without, of_length = ([axes for axes in figure.axes if axes.get_images()] for figure in drawn)
    assert not any(axes.get_xlabel() or ticks(axes) for axes in without)
    told = [axes for axes in of_length if axes.get_xlabel()]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in told] == [("x (um)", "y (um)")]
    assert told[0].get_images()[0].get_extent() == [0, 6, 6, 0] and max(ticks(told[0])) > 3


def test_cells_that_are_no_part_of_the_field_are_grey_and_set_no_scale(tmp_path, drawn):
    cells = np.ones((12, 12), bool)
    cells[:3] = False
    states = random_states(2)
    states[..., ~cells] = [[999.0], [np.nan]]
    figures.draw_states(tmp_path / "a.png", states, view(mask=Mask.of(cells)), "waves")
    for image, field in zip(images(drawn[0]), states[:, 1], strict=True):
        assert_array_equal(image.get_array().mask, ~cells)
        assert image.get_clim() == (states[:, 1, 3:].min(), states[:, 1, 3:].max())
        assert_array_equal(image.get_array()[cells], field[cells])
        assert image.cmap.get_bad()[0] == pytest.approx(0.7)


@pytest.mark.parametrize("shape", [(1, 20), (20, 1)])
def test_many_states_of_one_dimension_are_a_stack_of_rows(tmp_path, drawn, shape):
    states = np.random.default_rng(0).random((9, 2, *shape))
    figures.draw_states(tmp_path / "a.png", states, view(shape=shape, show="all"), "waves")
    shown = images(drawn[0])
    assert len(shown) == 2 and list(bars(drawn[0])) == ["u", "v"]
    for s, image in enumerate(shown):
        assert_array_equal(image.get_array(), states[:, s].reshape(9, 20))
        assert image.axes.get_xlabel() == f"{'x' if shape[0] == 1 else 'y'} (cells)"


@pytest.mark.parametrize(("rows", "show"), [(1, "u"), (3, "v")])
def test_denoised_has_a_row_for_each_signal_level(tmp_path, drawn, rows, show):
    figures.draw_denoised(tmp_path / "a.png", random_states(1)[0], panels_of(rows), view(show=show), "waves")
    assert_has_panels(drawn[-1], rows, 3, bars=1)


def test_denoised_has_a_row_for_each_species_of_several_at_the_middle_level(tmp_path, drawn):
    panels = panels_of(3)
    figures.draw_denoised(tmp_path / "a.png", random_states(1)[0], panels, view(show="all"), "waves")
    assert_has_panels(drawn[-1], 2, 3, bars=1)
    _, noisy, mean = panels[1]
    for s, (_, *shown) in enumerate(np.reshape(images(drawn[0]), (2, 3))):
        for image, field in zip(shown, (noisy, mean), strict=True):
            assert_array_equal(image.get_array(), field[s])


@pytest.mark.parametrize(("rows", "titles"), [(2, ["true", "flow", "equation"]), (1, ["flow"])])
def test_velocities_have_a_row_for_each_state_and_a_column_for_each_field(tmp_path, drawn, rows, titles):
    fields = {title: random_states(rows, i) - 0.5 for i, title in enumerate(titles)}
    cosines = {title: 0.5 for title in titles if title != "true"}
    own = view(Species("u", "mM"), "v", show="u")
    figures.draw_velocities(tmp_path / "a.png", random_states(rows), fields, cosines, own, "waves")
    assert_has_panels(drawn[-1], rows, 1 + len(titles), bars=2)
    told = [axes.get_title() for axes in drawn[0].axes[1 : 1 + len(titles)]]
    assert told == [title + ("\ncosine 0.5000" if title in cosines else "") for title in titles]
    low, high = bars(drawn[0])["du/dt (mM / time)"]
    assert -low == high == pytest.approx(3 * np.sqrt((fields[titles[0]][:, 0] ** 2).mean()))


def test_velocities_of_several_species_have_a_row_each_of_the_first_state(tmp_path, drawn):
    states, field = random_states(3), random_states(3, 1) - 0.5
    figures.draw_velocities(tmp_path / "a.png", states, {"true": field}, {}, view(show="all"), "waves")
    assert_has_panels(drawn[-1], 2, 2, bars=2)
    shown = [image.get_array() for image in images(drawn[0])]
    for image, expected in zip(shown, (states[0, 0], field[0, 0], states[0, 1], field[0, 1]), strict=True):
        assert_allclose(image, expected, rtol=1e-12)


def test_velocities_are_shown_on_one_scale_whatever_their_unit_of_time(tmp_path, drawn):
    states, field = random_states(1), random_states(1, 1) - 0.5
    figures.draw_velocities(tmp_path / "a.png", states, {"true": field, "flow": 1e-4 * field}, {}, view(), "waves")
    _, true, flow = images(drawn[0])
    assert_allclose(flow.get_array(), true.get_array(), rtol=1e-12)
    assert_allclose(true.get_array(), field[0, 1], rtol=1e-12)
    assert flow.get_clim() == true.get_clim()


def test_a_velocity_field_of_zeros_is_drawn(tmp_path, drawn):
    fields = {"true": random_states(1) - 0.5, "flow": np.zeros((1, 2, 12, 12))}
    figures.draw_velocities(tmp_path / "a.png", random_states(1), fields, {}, view(), "waves")
    assert_has_panels(drawn[-1], 1, 3, bars=2)


def test_fields_of_one_dimension_are_curves_in_the_colours_of_their_species(tmp_path, drawn):
    states = np.random.default_rng(0).random((1, 2, 1, 20))
    own = view(Species("u", "mM"), "v", show="all", shape=(1, 20), spacing=0.5, unit="um")
    figures.draw_velocities(tmp_path / "a.png", states, {"flow": states - 0.5}, {}, own, "waves")
    assert not images(drawn[0])
    upper, lower = np.reshape(drawn[0].axes, (2, 2))
    for s, row in enumerate((upper, lower)):
        for axes, values in zip(row, (states[0, s, 0], states[0, s, 0] - 0.5), strict=True):
            line = axes.get_lines()[0]
            assert_allclose(line.get_xdata(), 0.5 * np.arange(20))
            assert_allclose(line.get_ydata(), values)
            assert line.get_color() == COLOURS[s]
    assert [axes.get_ylabel() for axes in upper] == ["u (mM)", "du/dt (mM / time)"]
    assert lower[0].get_xlabel() == "x (um)"


@pytest.mark.parametrize(("epochs", "sign"), [(0, 1.0), (1, 1.0), (12, -1.0)])
def test_losses_of_any_length_and_sign_are_drawn(tmp_path, drawn, epochs, sign):
    histories = {"score": history(epochs, sign), "flow": history(0)}
    curves.draw_losses(tmp_path / "a.png", histories, {"score": "loss", "flow": "z"}, "waves")
    # a panel for each kind of loss; a training that took no step has its validation alone
    assert_has_panels(drawn[-1], 1, 3 if epochs else 2, (3.4, 2.9))


def test_losses_show_the_training_loss(tmp_path, drawn):
    curves.draw_losses(tmp_path / "a.png", {"score": history(5, 50.0)}, {"score": "noise prediction"}, "waves")
    training, validation = drawn[0].axes
    assert [axes.get_title() for axes in drawn[0].axes] == ["score: training loss", "score: noise prediction"]
    assert_allclose(training.get_lines()[0].get_xydata(), [[e, 50 / e] for e in range(1, 6)])
    assert_allclose(validation.get_lines()[0].get_xydata(), [[0, 3.0], *([e, 100 / e] for e in range(1, 6))])


def reported(epochs: int, levels: tuple[str, ...] = (), steepness: float = 1.0) -> list[dict[str, float]]:
    """What a training reports: the fresh model's validation, then a loss that falls, with the loss by level if any."""
    curves = {"gradient_norm": 0.5, "learning_rate": 1e-3, "samples_per_second": 80.0}
    by_level = {f"training_loss_alpha_{level}": 0.1 * (1 + n) for n, level in enumerate(levels)}
    return [{**h, **curves, **by_level} if h["epoch"] else h for h in history(epochs, steepness).to_dicts()]


@pytest.mark.parametrize(
    ("epochs", "levels", "panels"), [(1, (), 5), (7, (), 5), (1, ("0.5", "0.8", "0.99"), 6), (7, ("0.00213", "0.9"), 6)]
)
def test_a_training_has_a_panel_for_each_curve_and_one_for_signal_levels(tmp_path, drawn, epochs, levels, panels):
    curves.draw_training(tmp_path / "new" / "a.png", History.from_dicts(reported(epochs, levels)), "waves")
    assert_has_panels(drawn[-1], 1, panels, (2.7, 2.5))


def test_a_training_shows_its_losses_and_those_of_the_last_epoch_by_level(tmp_path, drawn):
    epochs = reported(4, ("0.5", "0.9"), 30.0)
    epochs[1]["training_loss_alpha_0.9"] = 0.9  # by level the first epoch's is not shown
    curves.draw_training(tmp_path / "a.png", History.from_dicts(epochs), "waves")
    training, by_level = drawn[0].axes[0], drawn[0].axes[-1]
    assert_allclose(training.get_lines()[0].get_xydata(), [[e, 30 / e] for e in range(1, 5)])
    assert by_level.get_title() == "loss by signal level"
    assert_allclose(by_level.get_lines()[0].get_xydata(), [[1.0, 0.1], [1 / 3, 0.2]])


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (8, 2, 4)])
@pytest.mark.parametrize("lines", [1, 3])
def test_spectra_have_a_panel_for_each_species_and_show_every_line_but_not_the_mean(
    tmp_path, drawn, lines, count, rows, columns
):
    power = np.random.default_rng(0).exponential(size=(lines, count, 71))
    spectra = {f"line {n}": p for n, p in enumerate(power)}
    curves.draw_spectra(tmp_path / "a.png", spectra, view(*"abcdefgh"[:count], spacing=0.5, unit="um"), "waves")
    assert_has_panels(drawn[-1], rows, columns, (3.6, 2.9))
    for s, axes in enumerate(drawn[0].axes):
        assert axes.get_title() == "abcdefgh"[s] and axes.get_xlabel() == "cycles / um"
        for line, own in zip(axes.get_lines(), power, strict=True):
            assert_allclose(line.get_xdata(), np.arange(1, 71) / 50)
            assert_array_equal(line.get_ydata(), own[s, 1:])


def frames_of(*kinds: str, count: int = 9, species: int = 2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {kind: rng.random((count, species, 12, 12), dtype=np.float32) for kind in kinds}


def film(frames: dict[str, np.ndarray], view: View, apart: int = 1) -> figures.Film:
    count = len(next(iter(frames.values())))
    return figures.Film([apart * n for n in range(count)], frames, view, "waves")


@pytest.mark.parametrize(("kinds", "count", "show"), [(("true", "recovered"), 41, "u"), (("v = 0",), 6, "v")])
def test_a_rollout_has_a_row_for_each_kind_and_six_times(tmp_path, drawn, kinds, count, show):
    frames = frames_of(*kinds, count=count)
    figures.draw_rollout(tmp_path / "new" / "a.png", film(frames, view(show=show)))
    assert_has_panels(drawn[-1], len(kinds), 6, bars=1)
    shown, s = np.reshape(images(drawn[0]), (len(kinds), 6)), "uv".index(show)
    first = frames[kinds[0]][:, s]
    for row, states in zip(shown, frames.values(), strict=True):
        assert_array_equal(row[0].get_array(), states[0, s])
        assert_array_equal(row[-1].get_array(), states[-1, s])
        assert {image.get_clim() for image in row} == {(first.min(), first.max())}
    assert [image.axes.get_title() for image in shown[0]][-1] == f"{count - 1} steps"


@pytest.mark.parametrize("count", [2, 5])
def test_a_rollout_of_few_frames_shows_each_once(tmp_path, drawn, count):
    figures.draw_rollout(tmp_path / "a.png", film(frames_of("true", count=count), view(), 7))
    assert_has_panels(drawn[-1], 1, count, bars=1)


def test_a_rollout_of_several_species_has_rows_for_each(tmp_path, drawn):
    own = view("a", Species("b", "K"), "c", show="all")
    frames = frames_of("true", "recovered", count=3, species=3)
    figures.draw_rollout(tmp_path / "a.png", film(frames, own))
    assert_has_panels(drawn[-1], 6, 3, bars=1)
    assert list(bars(drawn[0])) == ["a", "b (K)", "c"]
    assert_array_equal(np.reshape(images(drawn[0]), (6, 3))[3, 2].get_array(), frames["recovered"][2, 1])


def test_a_rollout_of_one_dimension_is_space_and_time(tmp_path, drawn):
    frames = {kind: states[:, :, :1] for kind, states in frames_of("true", "reversed").items()}
    frames["reversed"][4:] = np.nan
    figures.draw_rollout(tmp_path / "a.png", film(frames, view(shape=(1, 12)), 5))
    true, other = images(drawn[0])
    assert_array_equal(true.get_array(), frames["true"][:, 1, 0])
    assert true.get_extent() == [0, 12, 40, 0] and other.get_array()[4:].mask.all()
    assert [image.axes.get_title() for image in (true, other)] == ["true", "reversed, then blown up"]


def test_a_rollout_says_what_has_blown_up(tmp_path, drawn):
    frames = frames_of("true", "reversed", count=6)
    frames["reversed"][3:] = np.nan
    figures.draw_rollout(tmp_path / "a.png", film(frames, view()))
    panels = drawn[0].axes[:12]
    assert [bool(axes.get_images()) for axes in panels] == [True] * 9 + [False] * 3
    assert [text.get_text() for axes in panels for text in axes.texts] == ["blown up"] * 3


@pytest.mark.parametrize("known", [4, 1])
def test_preservation_shows_the_distance_and_the_memory_as_far_as_they_are_known(tmp_path, drawn, known):
    times = tuple(range(0, 90, 10))
    ratios = {"recovered": [1.0 + 0.1 * n for n in range(9)], "reversed": [1.0 + 20 * n for n in range(known)]}
    correlations = {"recovered": [0.9**n for n in range(9)], "reversed": [0.5**n for n in range(known)]}
    courses = {kind: Course(times, tuple(ratios[kind]), tuple(correlations[kind])) for kind in ratios}
    curves.draw_preservation(tmp_path / "a.png", Rollout(times, courses), "waves")
    assert_has_panels(drawn[-1], 1, 2, (4.2, 3.2))
    for axes, expected in zip(drawn[0].axes, (ratios, correlations), strict=True):
        for line, (kind, curve) in zip(axes.get_lines(), expected.items(), strict=True):
            assert line.get_label() == kind
            assert_allclose(line.get_xydata(), np.stack([times[: len(curve)], curve], axis=1))


def assert_is_a_picture(path: Path, width: float, height: float) -> None:
    """The file is a picture of so many inches, and not blank: data, axes and words have many colours."""
    picture = imread(path)
    # the renderer cuts a part of a pixel off
    assert abs(picture.shape[0] - height * DOTS) <= 1
    assert abs(picture.shape[1] - width * DOTS) <= 1
    assert colours(picture) > 50


def test_fields_and_curves_become_pictures_in_folders_that_are_made(tmp_path):
    cells = np.ones((12, 12), bool)
    cells[:3] = False
    seen = view(Species("u", "mM"), "v", mask=Mask.of(cells), unit="um", show="all")
    figures.draw_states(tmp_path / "new" / "a.png", random_states(2), seen, "waves")
    assert_is_a_picture(tmp_path / "new" / "a.png", 2 * figures.CELL + figures.BAR + 0.6, 2 * figures.CELL + 0.7)
    curves.draw_training(tmp_path / "b.png", History.from_dicts(reported(4, ("0.5", "0.9"))), "waves")
    assert_is_a_picture(tmp_path / "b.png", 6 * 2.7 + 0.6, 2.5 + 0.7)


@pytest.mark.parametrize(("kinds", "count", "show"), [(("true", "reversed"), 3, "v"), (("v = 0",), 2, "all")])
def test_an_animation_has_a_frame_for_each_time_and_a_panel_for_each_kind_and_species(
    tmp_path, monkeypatch, kinds, count, show
):
    drawn = []
    monkeypatch.setattr(figures, "Figure", lambda **settings: drawn.append(Figure(**settings)) or drawn[-1])
    shown = frames_of(*kinds, count=count)
    shown[kinds[-1]][-1] = np.nan  # it has blown up
    path = tmp_path / "new" / "a.gif"
    figures.draw_animation(path, film(shown, view(show=show), 5))
    rows = 2 if show == "all" else 1
    assert [axes.get_title() for axes in drawn[0].axes[: len(kinds)]] == list(kinds)
    assert list(bars(drawn[0])) == (["u", "v"] if show == "all" else ["v"])
    with Image.open(path) as clip:
        assert clip.format == "GIF" and clip.n_frames == count
        width = (figures.CELL * len(kinds) + figures.BAR + 0.2) * 100
        height = (figures.CELL * rows + 0.7) * 100
        # the renderer cuts a part of a pixel off
        assert abs(clip.size[0] - width) <= 1 and abs(clip.size[1] - height) <= 1
        pictures = []
        for n in range(count):
            clip.seek(n)
            # a GIF tells time in hundredths of a second
            assert abs(clip.info["duration"] - 1000 / figures.FRAMES_A_SECOND) < 10
            pictures.append(np.array(clip.convert("RGB")))
    assert all((a != b).any() for n, a in enumerate(pictures) for b in pictures[:n])
    assert colours(pictures[0]) > 50


def test_an_animation_where_nothing_moves_still_has_all_its_frames(tmp_path):
    shown = {"v = 0": np.repeat(random_states(1), 3, axis=0)}
    figures.draw_animation(tmp_path / "a.gif", film(shown, view(show="u"), 5))
    with Image.open(tmp_path / "a.gif") as clip:
        assert clip.n_frames == 3  # the title tells the time


@pytest.mark.parametrize("there", [True, False])
def test_an_mp4_needs_ffmpeg_and_nothing_else_does(monkeypatch, there):
    monkeypatch.setattr(figures.FFMpegWriter, "isAvailable", lambda: there)
    assert figures.can_animate("mp4") == there
    assert figures.can_animate("gif") and figures.can_animate("none")
