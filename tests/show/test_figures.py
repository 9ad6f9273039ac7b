"""Figures: each is a picture file of the size that its panels ask for, and shows the data it was given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.testing import assert_array_equal
from PIL import Image

from p2d.evaluate.course import Course, Rollout
from p2d.show import figures
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


def assert_has_panels(path: Path, rows: int, columns: int, cell: tuple[float, float] = (figures.CELL,) * 2) -> None:
    """The file is a picture of the size of so many panels, and not blank: data, axes and words have many colours."""
    picture = imread(path)
    width, height = cell[0] * columns + MARGIN[0], cell[1] * rows + MARGIN[1]
    # the renderer cuts a part of a pixel off
    assert abs(picture.shape[0] - height * DOTS) <= 1
    assert abs(picture.shape[1] - width * DOTS) <= 1
    assert colours(picture) > 50


@pytest.mark.parametrize(("count", "channel", "rows", "columns"), [(1, 0, 1, 1), (3, 1, 1, 3), (20, 0, 2, 4)])
def test_snapshots_show_up_to_eight_states(tmp_path, count, channel, rows, columns):
    figures.snapshots(tmp_path / "new" / "a.png", random_states(count), channel, "waves")
    assert_has_panels(tmp_path / "new" / "a.png", rows, columns)


def test_snapshots_of_the_ninth_state_and_beyond_change_nothing(tmp_path):
    states = random_states(10)
    for name, shown in (("all", states), ("eight", states[:8]), ("others", states[1:])):
        figures.snapshots(tmp_path / f"{name}.png", shown, 1, "waves")
    everything, eight, others = (imread(tmp_path / f"{name}.png") for name in ("all", "eight", "others"))
    assert_array_equal(everything, eight)
    assert (everything != others).any(axis=-1).mean() > 0.2


@pytest.mark.parametrize(
    ("count", "asked", "rows", "columns"),
    [(1, 0, 1, 1), (6, 0, 2, 4), (16, 0, 4, 4), (17, 0, 3, 8), (8, 4, 2, 4), (6, 3, 2, 3)],
)
def test_a_contact_sheet_shows_all_states_four_to_eight_a_row_or_as_asked(tmp_path, count, asked, rows, columns):
    figures.contact_sheet(tmp_path / "a.png", random_states(count), 1, "waves", asked)
    assert_has_panels(tmp_path / "a.png", rows, columns)
    other = random_states(count)
    other[-1] = other[-1, ..., ::-1]
    figures.contact_sheet(tmp_path / "b.png", other, 1, "waves", asked)
    assert (imread(tmp_path / "a.png") != imread(tmp_path / "b.png")).any(), "the last is among them"


def test_a_contact_sheet_shows_the_species_asked_for(tmp_path):
    states = random_states(4)
    for name, shown, channel in (("u", states, 0), ("v", states, 1), ("u of others", states[:, [1, 0]], 1)):
        figures.contact_sheet(tmp_path / f"{name}.png", shown, channel, "waves")
    u, v, again = (imread(tmp_path / f"{name}.png") for name in ("u", "v", "u of others"))
    assert_array_equal(u, again)
    assert (u != v).any(axis=-1).mean() > 0.2


@pytest.mark.parametrize(("rows", "channel"), [(1, 0), (3, 1)])
def test_denoised_has_a_row_for_each_signal_level(tmp_path, rows, channel):
    figures.denoised(tmp_path / "a.png", random_states(1)[0], panels_of(rows), channel, "waves")
    assert_has_panels(tmp_path / "a.png", rows, 3)


@pytest.mark.parametrize(("rows", "titles"), [(2, ["true", "flow", "equation"]), (1, ["flow"])])
def test_velocities_have_a_row_for_each_state_and_a_column_for_each_field(tmp_path, rows, titles):
    fields = {title: random_states(rows, i) - 0.5 for i, title in enumerate(titles)}
    cosines = {title: 0.5 for title in titles if title != "true"}
    figures.velocities(tmp_path / "a.png", random_states(rows), fields, cosines, 0, "waves")
    assert_has_panels(tmp_path / "a.png", rows, 1 + len(titles))


def test_velocities_are_shown_on_one_scale_whatever_their_unit_of_time(tmp_path):
    states, field = random_states(1), random_states(1, 1) - 0.5
    for name, unit in (("one", 1.0), ("other", 1e-4)):
        figures.velocities(tmp_path / f"{name}.png", states, {"true": field, "flow": unit * field}, {}, 1, "waves")
    assert_array_equal(imread(tmp_path / "one.png"), imread(tmp_path / "other.png"))


def test_a_velocity_field_of_zeros_is_drawn(tmp_path):
    fields = {"true": random_states(1) - 0.5, "flow": np.zeros((1, 2, 12, 12))}
    figures.velocities(tmp_path / "a.png", random_states(1), fields, {}, 1, "waves")
    assert_has_panels(tmp_path / "a.png", 1, 3)


@pytest.mark.parametrize(("epochs", "sign"), [(0, 1.0), (1, 1.0), (12, -1.0)])
def test_losses_of_any_length_and_sign_are_drawn(tmp_path, epochs, sign):
    histories = {"score": history(epochs, sign), "flow": history(0)}
    figures.losses(tmp_path / "a.png", histories, {"score": "loss", "flow": "z"}, "waves")
    # a panel for each kind of loss; a training that took no step has its validation alone
    assert_has_panels(tmp_path / "a.png", 1, 3 if epochs else 2, (3.4, 2.9))


def test_losses_show_the_training_loss(tmp_path):
    for name, slope in (("low", 1.0), ("high", 50.0)):
        figures.losses(tmp_path / f"{name}.png", {"score": history(5, slope)}, {"score": "loss"}, "waves")
    assert (imread(tmp_path / "low.png") != imread(tmp_path / "high.png")).any()


def reported(epochs: int, levels: tuple[str, ...] = (), steepness: float = 1.0) -> list[dict[str, float]]:
    """What a training reports: the fresh model's validation, then a loss that falls, with the loss by level if any."""
    curves = {"gradient_norm": 0.5, "learning_rate": 1e-3, "samples_per_second": 80.0}
    by_level = {f"training_loss_alpha_{level}": 0.1 * (1 + n) for n, level in enumerate(levels)}
    return [{**h, **curves, **by_level} if h["epoch"] else h for h in history(epochs, steepness).to_dicts()]


@pytest.mark.parametrize(
    ("epochs", "levels", "panels"), [(1, (), 5), (7, (), 5), (1, ("0.5", "0.8", "0.99"), 6), (7, ("0.00213", "0.9"), 6)]
)
def test_a_training_has_a_panel_for_each_curve_and_one_for_signal_levels(tmp_path, epochs, levels, panels):
    figures.training(tmp_path / "new" / "a.png", History.from_dicts(reported(epochs, levels)), "waves")
    assert_has_panels(tmp_path / "new" / "a.png", 1, panels, (2.7, 2.5))


def test_a_training_shows_its_losses_and_those_of_the_last_epoch_by_level(tmp_path):
    one, steeper = (reported(4, ("0.5", "0.9"), slope) for slope in (1.0, 30.0))
    earlier, later = reported(4, ("0.5", "0.9")), reported(4, ("0.5", "0.9"))
    earlier[1]["training_loss_alpha_0.9"] = 0.9  # by level the first epoch's is not shown, the last one's is
    later[-1]["training_loss_alpha_0.9"] = 0.9
    pictures = {}
    for name, epochs in (("one", one), ("steeper", steeper), ("earlier", earlier), ("later", later)):
        figures.training(tmp_path / f"{name}.png", History.from_dicts(epochs), "waves")
        pictures[name] = imread(tmp_path / f"{name}.png")
    assert_array_equal(pictures["one"], pictures["earlier"])
    assert (pictures["one"] != pictures["steeper"]).any()
    assert (pictures["one"] != pictures["later"]).any()


@pytest.mark.parametrize("rings", [3, 71])
@pytest.mark.parametrize("lines", [1, 3])
def test_spectra_have_a_panel_for_each_species_and_show_every_line(tmp_path, lines, rings):
    power = np.random.default_rng(0).exponential(size=(lines, 2, rings))
    found = {f"line {n}": p for n, p in enumerate(power)}
    figures.spectra(tmp_path / "a.png", found, "waves")
    assert_has_panels(tmp_path / "a.png", 1, 2, (3.6, 2.9))
    figures.spectra(tmp_path / "b.png", {**found, f"line {lines - 1}": power[-1, ::-1]}, "waves")
    assert (imread(tmp_path / "a.png") != imread(tmp_path / "b.png")).any()


def test_spectra_do_not_show_the_mean(tmp_path):
    power = np.random.default_rng(0).exponential(size=(2, 20))
    figures.spectra(tmp_path / "a.png", {"held out": power}, "waves")
    power[:, 0] = 1e9  # the first ring
    figures.spectra(tmp_path / "b.png", {"held out": power}, "waves")
    assert_array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def frames_of(*kinds: str, count: int = 9) -> dict[str, np.ndarray]:
    return {kind: random_states(count, n).astype(np.float32) for n, kind in enumerate(kinds)}


@pytest.mark.parametrize(("kinds", "count", "channel"), [(("true", "recovered"), 41, 0), (("v = 0",), 6, 1)])
def test_a_strip_has_a_row_for_each_kind_and_six_times(tmp_path, kinds, count, channel):
    figures.strip(tmp_path / "new" / "a.png", list(range(count)), frames_of(*kinds, count=count), channel, "waves")
    assert_has_panels(tmp_path / "new" / "a.png", len(kinds), 6)


@pytest.mark.parametrize("count", [2, 5])
def test_a_strip_of_few_frames_shows_each_once(tmp_path, count):
    figures.strip(tmp_path / "a.png", [7 * n for n in range(count)], frames_of("true", count=count), 1, "waves")
    assert_has_panels(tmp_path / "a.png", 1, count)


def test_a_strip_shows_first_and_last_and_none_in_between_that_it_has_no_room_for(tmp_path):
    times, shown = list(range(41)), frames_of("true", count=41)
    pictures = {}
    for name, n in (("as it is", None), ("first", 0), ("last", 40), ("another", 1)):
        other = {"true": shown["true"].copy()}
        if n is not None:
            other["true"][n] = other["true"][n, :, ::-1]
        figures.strip(tmp_path / f"{name}.png", times, other, 1, "waves")
        pictures[name] = imread(tmp_path / f"{name}.png")
    assert_array_equal(pictures["another"], pictures["as it is"])
    assert (pictures["first"] != pictures["as it is"]).any() and (pictures["last"] != pictures["as it is"]).any()


def test_a_strip_says_what_has_blown_up(tmp_path):
    times, shown = list(range(6)), frames_of("true", "reversed", count=6)
    figures.strip(tmp_path / "sound.png", times, shown, 1, "waves")
    shown["reversed"][3:] = np.nan
    figures.strip(tmp_path / "broken.png", times, shown, 1, "waves")
    assert_has_panels(tmp_path / "broken.png", 2, 6)
    sound, broken = (imread(tmp_path / f"{name}.png") for name in ("sound", "broken"))
    changed = (sound != broken).any(axis=-1)
    rows, columns = np.nonzero(changed)
    # in the lower row, from its fourth panel on
    assert rows.min() > 0.45 * changed.shape[0] and columns.min() > 0.45 * changed.shape[1]
    patch = broken[rows.min() : rows.max(), columns.min() : columns.max(), :3]
    assert (patch.min(axis=-1) > 0.99).mean() > 0.5, "nothing but white"
    assert (patch.max(axis=-1) < 0.1).any(), "and words on it"


@pytest.mark.parametrize("known", [4, 1])
def test_preservation_shows_the_distance_and_the_memory_as_far_as_they_are_known(tmp_path, known):
    times = tuple(range(0, 90, 10))
    ratios = {"recovered": [1.0 + 0.1 * n for n in range(9)], "reversed": [1.0 + 20 * n for n in range(known)]}
    correlations = {"recovered": [0.9**n for n in range(9)], "reversed": [0.5**n for n in range(known)]}

    def rollout(ratios: dict, correlations: dict) -> Rollout:
        return Rollout(times, {k: Course(times, tuple(ratios[k]), tuple(correlations[k])) for k in ratios})

    figures.preservation(tmp_path / "new" / "a.png", rollout(ratios, correlations), "waves")
    assert_has_panels(tmp_path / "new" / "a.png", 1, 2, (4.2, 3.2))
    for name, curves in (
        ("ratio", ({**ratios, "recovered": [1.5] * 9}, correlations)),
        ("memory", (ratios, {**correlations, "recovered": [0.5] * 9})),
    ):
        figures.preservation(tmp_path / f"{name}.png", rollout(*curves), "waves")
    pictures = [imread(path) for path in (tmp_path / "new" / "a.png", tmp_path / "ratio.png", tmp_path / "memory.png")]
    middle = pictures[0].shape[1] // 2
    assert (pictures[0] != pictures[1])[:, :middle].any() and (pictures[0] != pictures[2])[:, middle:].any()


@pytest.mark.parametrize(("kinds", "count"), [(("true", "recovered", "reversed"), 4), (("v = 0",), 2)])
def test_an_animation_has_a_frame_for_each_time_and_a_panel_for_each_kind(tmp_path, kinds, count):
    shown = frames_of(*kinds, count=count)
    shown[kinds[-1]][-1] = np.nan  # it has blown up
    path = tmp_path / "new" / "a.gif"
    figures.animation(path, [5 * n for n in range(count)], shown, 1, "waves")
    with Image.open(path) as clip:
        assert clip.format == "GIF" and clip.n_frames == count
        width, height = ((figures.CELL * len(kinds) + 0.2) * 100, (figures.CELL + 0.7) * 100)
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
    figures.animation(tmp_path / "a.gif", [0, 5, 10], shown, 0, "waves")
    with Image.open(tmp_path / "a.gif") as clip:
        assert clip.n_frames == 3  # the title tells the time


@pytest.mark.parametrize("there", [True, False])
def test_an_mp4_needs_ffmpeg_and_nothing_else_does(monkeypatch, there):
    monkeypatch.setattr(figures.FFMpegWriter, "isAvailable", lambda: there)
    assert figures.can_animate("mp4") == there
    assert figures.can_animate("gif") and figures.can_animate("none")
