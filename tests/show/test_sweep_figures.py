"""Figures of a sweep: each shows its trials, whatever came of them, and says in words what colours do not."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from p2d.show import sweep_figures
from p2d.show.sweep_figures import Trial, draw_curves, draw_heat_map, draw_parallel

ALPHA, SYM = ("0.5", "0.8", "0.95", "0.99"), ("0", "0.03", "0.1", "0.3")


def trial(cosine: float = 0.1, state: str = "FINISHED", **settings: str) -> Trial:
    return Trial(settings, {"cosine": cosine, "z_rms": 6 - 10 * cosine, "validation_loss": -cosine}, state)


def cosine(alpha: str, sym: str = "0.1", seed: int = 0) -> float:
    return 0.3 - 2 * (float(alpha) - 0.9) ** 2 - abs(float(sym) - 0.1) + 0.01 * seed


def grid(*seeds: int) -> list[Trial]:
    if not seeds:
        return [trial(cosine(a, s), alpha=a, sym=s) for a in ALPHA for s in SYM]
    return [trial(cosine(a, s, k), alpha=a, sym=s, seed=str(k)) for a in ALPHA for s in SYM for k in seeds]


def at_random(count: int) -> list[Trial]:
    rng = np.random.default_rng(0)
    rates = [f"{10**x:.4g}" for x in rng.uniform(-4, -2, count)]
    return [trial(cosine(a), learning_rate=r, alpha=a) for r in rates for a in [f"{rng.uniform(0.5, 0.99):.4g}"]]


def ended(trials: list[Trial], **states: str) -> list[Trial]:
    """Some trials of a list, by their place, with another end; those that failed have measured nothing."""
    others = {int(place[1:]): state for place, state in states.items()}
    return [
        Trial(t.settings, {} if others[n] == "FAILED" else t.values, others[n]) if n in others else t
        for n, t in enumerate(trials)
    ]


def draw(
    kind: str,
    path,
    trials: list[Trial],
    labels: list[str],
    metric: str = "cosine",
    best: str = "max",
    rendered: bool = False,
) -> Axes:
    """What is drawn; the file is empty unless it is rendered."""
    drawn: list[Figure] = []

    def save(figure: Figure, file, **settings) -> None:
        drawn.append(figure)
        saved(figure, file, **settings) if rendered else file.touch()

    saved = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        if kind == "curves":
            draw_curves(path, trials, labels, metric, "waves")
        else:
            {"heat_map": draw_heat_map, "parallel": draw_parallel}[kind](path, trials, labels, metric, best, "waves")
    return drawn[0].axes[0]


def shown(place: Axes) -> str:
    """All numbers and words of a panel."""
    numbers = [image.get_array() for image in place.images]
    numbers += [line.get_xydata() for line in place.lines]
    numbers += [part for dots in place.collections for part in (dots.get_offsets(), dots.get_facecolors())]
    words = [text.get_text() for text in place.texts]
    return repr(([np.round(np.ma.filled(n, np.nan), 6).tolist() for n in numbers], words))


KINDS = ["heat_map", "curves", "parallel"]
CASES = {
    "two axes": (grid(), ["alpha", "sym"]),
    "one axis": ([trial(cosine(a), alpha=a) for a in ALPHA], ["alpha"]),
    "three axes": (grid(0, 1, 2), ["alpha", "sym", "seed"]),
    "failed and stopped": (ended(grid(), _0="FAILED", _3="KILLED", _9="KILLED"), ["alpha", "sym"]),
    "not finite": ([trial(math.nan, alpha="0.5"), trial(math.inf, alpha="0.8"), trial(alpha="0.9")], ["alpha"]),
    "words": ([trial(0.1 * n, activation=a) for n, a in enumerate(("silu", "tanh", "softplus"))], ["activation"]),
    "one trial": ([trial(alpha="0.5", sym="0")], ["alpha", "sym"]),
    "at random": (ended(at_random(20), _0="FAILED", _3="KILLED"), ["learning_rate", "alpha"]),
    "one at random": (ended(at_random(20), _0="FAILED", _3="KILLED"), ["learning_rate"]),
    "many words": ([trial(n / 40, hidden=f"{n}x{m}") for n in range(1, 7) for m in range(1, 7)], ["hidden"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_figure_shows_its_trials(tmp_path, kind, case):
    trials, labels = CASES[case]
    place = draw(kind, tmp_path / "a.png", trials, labels)
    assert place.figure.get_suptitle() == "waves"
    others = [Trial(t.settings, {k: -(v**3) + 1 for k, v in t.values.items()}, t.state) for t in trials]
    other = draw(kind, tmp_path / "b.png", others, labels)
    assert shown(place) != shown(other) or case in ("not finite", "one trial")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["failed and stopped", pytest.param("one at random", marks=pytest.mark.slow)])
def test_a_figure_becomes_a_picture(tmp_path, kind, case):
    draw(kind, tmp_path / "new" / "a.png", *CASES[case], rendered=True)
    picture = imread(tmp_path / "new" / "a.png")
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 50


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_trials_that_have_measured_nothing_are_drawn_as_none(tmp_path, kind):
    trials = [
        trial(math.nan, alpha="0.5"),
        Trial({"alpha": "0.8"}, {}, "FAILED"),
        Trial({"alpha": "0.9"}, {}, "KILLED"),
    ]
    place = draw(kind, tmp_path / "a.png", trials, ["alpha"])
    written = [text.get_text() for text in place.texts]
    heights = [y for line in place.lines for y in line.get_ydata() if kind == "curves"]
    assert not np.isfinite(heights).any()
    assert kind != "heat_map" or written == ["not finite", "failed", "not finite"]
    assert kind != "parallel" or place.get_xlabel() == "not drawn: 3 without cosine"


@pytest.mark.parametrize(
    ("trials", "mean", "told"),
    [
        ([], math.nan, ""),
        ([trial(0.123456)], 0.123456, "0.123"),
        ([trial(0.123456, "KILLED")], 0.123456, "(0.123)"),
        ([trial(0.1, "FAILED")], math.nan, "failed"),
        ([trial(math.nan)], math.nan, "not finite"),
        ([trial(0.1), trial(0.2), trial(0.3)], 0.2, "0.2\n±0.1"),
        ([trial(0.1), trial(0.3, "KILLED")], 0.2, "(0.2\n±0.1)"),
        ([trial(0.1), trial(0.1, "FAILED")], 0.1, "0.1\n1 failed"),
        ([trial(0.1), trial(math.nan)], 0.1, "0.1"),
    ],
)
def test_a_cell_tells_its_mean_and_how_its_trials_ended(trials, mean, told):
    here = [Trial({"alpha": "0.5", "seed": str(n)}, t.values, t.state) for n, t in enumerate(trials)]
    found, text = sweep_figures.trial_cell([*here, trial(9.0, alpha="0.8")], {"alpha": "0.5"}, "cosine")
    np.testing.assert_allclose(found, mean, rtol=1e-12)
    assert text == told


@pytest.mark.parametrize(
    ("values", "ordered"),
    [
        (("16", "128", "64", "16"), ["16", "64", "128"]),
        (("0.1", "1e-3", "0", "-1"), ["-1", "0", "1e-3", "0.1"]),
        (("128", "32x32", "32x16", "16"), ["16", "32x16", "32x32", "128"]),
        (("tanh", "silu"), ["silu", "tanh"]),
        (("false", "true"), ["false", "true"]),
    ],
)
def test_levels_have_the_order_of_their_numbers(values, ordered):
    assert sweep_figures.trial_levels([trial(x=value) for value in values], "x") == ordered


@pytest.mark.parametrize(("metric", "best"), [("cosine", "max"), ("z_rms", "min")])
def test_the_best_cell_is_the_brightest(tmp_path, metric, best):
    place = draw("heat_map", tmp_path / "a.png", grid(), ["alpha", "sym"], metric, best)
    (image,) = place.images
    values = np.asarray(image.get_array())
    shades = image.to_rgba(values)[..., :3].sum(axis=-1)
    assert values.shape == (4, 4)
    where = values.argmax() if best == "max" else values.argmin()
    assert shades.argmax() == where == 4 * SYM.index("0.1") + ALPHA.index("0.95")


def test_a_heat_map_has_the_mean_over_what_is_on_neither_side(tmp_path):
    place = draw("heat_map", tmp_path / "a.png", grid(0, 1, 2), ["alpha", "sym", "seed"])
    expected = [[cosine(a, s, seed=1) for a in ALPHA] for s in SYM]
    np.testing.assert_allclose(place.images[0].get_array(), expected, rtol=1e-12)
    assert {text.get_text().partition("\n")[2] for text in place.texts} == {"±0.01"}
    assert (place.get_xlabel(), place.get_ylabel()) == ("alpha", "sym")


def test_a_heat_map_says_what_brackets_are_where_there_are_some(tmp_path):
    place = draw("heat_map", tmp_path / "a.png", ended(grid(), _5="KILLED"), ["alpha", "sym"])
    assert place.get_xlabel() == "alpha\n(in brackets: stopped early)"
    assert sum(text.get_text().startswith("(") for text in place.texts) == 1


def test_random_numbers_are_points_at_their_place(tmp_path):
    trials = ended(at_random(20), _0="FAILED", _3="KILLED", _4="KILLED")
    place = draw("heat_map", tmp_path / "a.png", trials, ["learning_rate", "alpha"])
    assert (place.get_xscale(), place.get_yscale()) == ("log", "linear")
    points = {c.get_label(): c.get_offsets().tolist() for c in place.collections}
    assert {label: len(there) for label, there in points.items()} == {"finished": 17, "stopped early": 2, "failed": 1}
    for state, label in sweep_figures.STATES.items():
        expected = [[float(x) for x in t.settings.values()] for t in trials if t.state == state]
        np.testing.assert_allclose(points[label], expected)


def test_a_full_grid_of_many_numbers_stays_a_heat_map(tmp_path):
    trials = [trial(a * b / 100, x=str(a), y=str(b)) for a in range(1, 11) for b in range(1, 4)]
    place = draw("heat_map", tmp_path / "a.png", trials, ["x", "y"])
    assert place.images[0].get_array().shape == (3, 10)


def test_a_curve_is_the_mean_between_the_lowest_and_the_highest(tmp_path):
    place = draw("curves", tmp_path / "a.png", grid(0, 1, 2), ["alpha", "sym", "seed"])
    lines = {line.get_label(): line.get_ydata() for line in place.lines if len(line.get_ydata())}
    assert list(lines) == [f"sym = {s}" for s in SYM]
    for s in SYM:
        np.testing.assert_allclose(lines[f"sym = {s}"], [cosine(a, s, 1) for a in ALPHA], rtol=1e-12)
    band = place.collections[0].get_paths()[0].vertices[:, 1]
    ends = [cosine(a, SYM[0], k) for a in ALPHA for k in (0, 2)]
    np.testing.assert_allclose([band.min(), band.max()], [min(ends), max(ends)])


def test_a_curve_has_a_gap_where_a_trial_failed_and_a_hollow_point_where_one_was_stopped(tmp_path):
    trials = ended([trial(cosine(a), alpha=a) for a in ALPHA], _1="FAILED", _2="KILLED")
    place = draw("curves", tmp_path / "a.png", trials, ["alpha"])
    line, hollow = place.lines[:2]
    np.testing.assert_allclose(line.get_ydata(), [cosine("0.5"), np.nan, np.nan, cosine("0.99")])
    np.testing.assert_allclose([*hollow.get_xdata(), *hollow.get_ydata()], [2, cosine("0.95")])
    assert hollow.get_markerfacecolor() == "none"
    assert [text.get_text() for text in place.get_legend().get_texts()] == ["stopped early"]


def test_curves_of_random_numbers_are_points_alone(tmp_path):
    trials = at_random(20)
    place = draw("curves", tmp_path / "a.png", trials, ["learning_rate", "alpha"])
    assert place.get_xscale() == "log"
    assert place.get_legend() is None, "of twenty lines"
    points = {(x, y) for line in place.lines for x, y in zip(*line.get_data(), strict=True) if np.isfinite(y)}
    assert points == {(float(t.settings["learning_rate"]), t.values["cosine"]) for t in trials}
    assert {line.get_linestyle() for line in place.lines} == {"None"}


def test_parallel_lines_go_through_the_values_of_their_trial(tmp_path):
    trials = ended(grid(), _0="FAILED", _5="KILLED")
    place = draw("parallel", tmp_path / "a.png", trials, ["alpha", "sym"])
    lines = [line for line in place.lines if len(line.get_xdata()) == 5]
    assert [label.get_text() for label in place.get_xticklabels()] == [
        "alpha",
        "sym",
        "cosine",
        "z_rms",
        "validation_loss",
    ]
    assert sum(line.get_linestyle() == "--" for line in lines) == 1
    assert len(lines) == 15
    best = lines[-1].get_ydata()  # drawn over the others
    np.testing.assert_allclose(best, [2 / 3, 2 / 3, 1, 0, 0], atol=1e-9)
    assert place.get_xlabel() == "dashed: stopped early; not drawn: 1 without cosine"


def test_what_is_written_beside_a_parallel_axis_does_not_overlap(tmp_path):
    place = draw("parallel", tmp_path / "a.png", at_random(20), ["learning_rate", "alpha"], rendered=True)
    for column in range(5):
        boxes = [t.get_window_extent() for t in place.texts if round(t.get_position()[0]) == column]
        boxes.sort(key=lambda box: box.y0)
        assert len(boxes) >= 2
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


def test_both_ends_of_an_axis_are_written():
    heights = {"a": 0.0, "b": 0.01, "c": 0.5, "d": 0.97, "e": 1.0}
    assert sweep_figures._marks(heights) == [("a", 0.0), ("c", 0.5), ("e", 1.0)]


def test_numbers_that_span_much_are_placed_by_their_logarithm():
    heights = sweep_figures._heights([f"1e{n}" for n in range(-10, 1)])
    np.testing.assert_allclose(list(heights.values()), np.linspace(0, 1, 11))
    heights = sweep_figures._heights([str(n * n) for n in range(11)])
    np.testing.assert_allclose(list(heights.values()), np.linspace(0, 1, 11) ** 2)
