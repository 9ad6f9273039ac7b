"""The picture of an equation: which panels there are, and that points lie where the numbers say."""

import numpy as np
import pytest
from matplotlib.image import imread

from p2d.show import equation_figure
from p2d.systems import library
from p2d.systems.gray_scott import preset

WAVES = preset("waves")
TRUE = library.gray_scott_equation(WAVES)


def found(spectrum):
    interval = {s: {t: [0.9 * c, 1.1 * c] for t, c in terms.items()} for s, terms in TRUE.items()}
    return {"equation": TRUE, "interval": interval, "spectrum": spectrum, "snapshots": 9}


@pytest.mark.parametrize(("spectrum", "truth", "panels"), [([1, 9], WAVES, 3), ([], WAVES, 2), ([1, 9], None, 2)])
def test_there_is_a_panel_for_what_is_known(tmp_path, spectrum, truth, panels):
    states = np.random.default_rng(0).random((2, 2, 12, 16))
    equation_figure.equation(tmp_path / "e.png", found(spectrum), truth, states, "waves")
    image = imread(tmp_path / "e.png")
    assert image.shape[1] == pytest.approx((4.2 * panels + 0.6) * 130, abs=2)  # inches of the panels, 130 dots each
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 20


def test_a_true_coefficient_lies_at_one_and_a_term_that_is_not_there_is_told(tmp_path, monkeypatch):
    axes = []
    draw = equation_figure._coefficients
    monkeypatch.setattr(equation_figure, "_coefficients", lambda place, *rest: (axes.append(place), draw(place, *rest)))
    told = found([])
    told["equation"] = {"u": {**TRUE["u"], "v": 0.5}, "v": TRUE["v"]}
    told["interval"]["u"]["v"] = [0.4, 0.6]
    equation_figure.equation(tmp_path / "e.png", told, WAVES, np.full((1, 2, 8, 8), 0.5), "waves")
    points = [float(line.get_xdata()[0]) for line in axes[0].get_lines() if line.get_marker() in ("o", "x")]
    assert points == pytest.approx([1, 1, 1, 1, 0.5, 1, 1, 1])
    labels = [label.get_text() for label in axes[0].get_yticklabels()]
    assert labels[4] == "du/dt: v (absent)" and "absent" not in "".join(labels[:4] + labels[5:])
