"""Which species are shown, what they are called, and the scale that they are shown on."""

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.fields import Grid, Mask, Species
from p2d.show.view import View

GRID = Grid((2, 3))


def view(names: str, show: str = "") -> View:
    return View(tuple(Species(name) for name in names.split()), GRID, show)


@pytest.mark.parametrize(
    ("names", "show", "shown"),
    [
        ("u v", "", (1,)),
        ("c", "", (0,)),
        ("a b c", "", (1,)),
        ("a b c", "c", (2,)),
        ("a b c", "0", (0,)),  # the original's --plot-channel
        ("u v", "1", (1,)),
        ("a b c", "all", (0, 1, 2)),
        ("u all v", "all", (1,)),  # a species of that name
    ],
)
def test_a_species_is_shown_by_its_name_or_place_the_second_or_only_one_where_none_is_asked_for(names, show, shown):
    assert view(names, show).shown == shown


@pytest.mark.parametrize(("show", "near"), [("calcum", " (did you mean 'calcium'?)"), ("2", ""), ("-1", "")])
def test_a_species_that_is_not_there_is_refused_in_one_line(show, near):
    with pytest.raises(UserError) as refused:
        view("calcium ip3", show)
    assert str(refused.value) == f"unknown species {show!r} to show{near}; known: calcium, ip3, all"


def test_units_are_told_where_there_are_any():
    own = View((Species("n", "kg"), Species("w")), Grid((1, 8), 0.5, unit="m"), "all")
    assert own.names == "n, w"
    assert [own.label(0), own.label(1)] == ["n (kg)", "w"]
    assert [own.rate_label(0), own.rate_label(1)] == ["dn/dt (kg / time)", "dw/dt"]
    assert own.is_line and (own.axis, own.step, own.length_unit) == ("x", 0.5, "m")
    cells = View((Species("w"),), Grid((8, 1), 0.5))
    assert (cells.axis, cells.step, cells.length_unit) == ("y", 1.0, "cells")


def test_the_scale_is_that_of_the_finite_values_inside():
    mask = Mask.of(np.array([[1, 1, 1], [1, 1, 0]]))
    own = View((Species("u"),), Grid((2, 3), mask=mask))
    assert own.limits(np.array([[[-40.0, 1, np.nan], [5, 120, 999]]])) == (-40, 120)
    low, high = own.limits(np.full((2, 2, 3), 50.0))
    assert low < 50 < high and high - low == pytest.approx(0.1)
