"""The picture of an equation: which panels there are, and that points lie where the numbers say."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from p2d.fields import Grid
from p2d.show import discovery as pictures

from ..discovery.test_result import WAVES, discovery


@pytest.mark.parametrize(("spectrum", "truth", "panels"), [((1, 9), WAVES, 3), ((), WAVES, 2), ((1, 9), None, 2)])
def test_there_is_a_panel_for_what_is_known(tmp_path, drawn, spectrum, truth, panels):
    states = np.random.default_rng(0).random((2, 2, 12, 16))
    pictures.draw_discovery(tmp_path / "e.png", discovery(spectrum=spectrum), truth, states, "waves")
    assert len(drawn[0].axes) == panels
    assert drawn[0].get_size_inches()[0] == pytest.approx(4.2 * panels + 0.6)


def test_an_equation_becomes_a_picture(tmp_path):
    pictures.draw_discovery(tmp_path / "e.png", discovery(), None, np.zeros((2, 2, 12, 16)), "waves")
    image = imread(tmp_path / "e.png")
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 20


def test_the_spectrum_is_that_of_the_fit():
    axes = Figure().subplots()
    pictures.draw_spectrum(axes, discovery(spectrum=(1.5, 9.0, 20.0)))
    np.testing.assert_array_equal(axes.get_lines()[0].get_xydata(), [[1, 1.5], [2, 9], [3, 20]])


def test_rates_lie_on_the_diagonal_of_the_true_ones_where_they_are_right():
    axes, states = Figure().subplots(), np.random.default_rng(0).random((2, 2, 12, 16))
    twice = {s: {t: 2 * c for t, c in terms.items()} for s, terms in WAVES.terms.items()}
    grid = Grid((12, 16), 0.5, ("mirror", "periodic"))
    found = dataclasses.replace(discovery(), terms=twice, grid=grid, operator="9-point")
    pictures.draw_rates(axes, found, WAVES, states)
    true = WAVES.rate(states, grid, "9-point").swapaxes(0, 1)
    for line, rates, label in zip(axes.get_lines(), true, ("du/dt", "dv/dt"), strict=False):
        assert line.get_label() == label
        own = rates.ravel() / np.sqrt((rates**2).mean())  # whatever its unit
        np.testing.assert_allclose(line.get_xdata(), own, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(line.get_ydata(), 2 * own, rtol=1e-12, atol=1e-14)
