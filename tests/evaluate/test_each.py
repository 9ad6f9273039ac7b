"""Each snapshot of a dataset by itself: its parameters, and whether it stands still, or why neither can be told."""

import json

import numpy as np
import pytest

from p2d.config import DiscoverConfig
from p2d.discovery.known import Known
from p2d.evaluate.each import OfOne, SteadyStates, fit_each
from p2d.fields import Grid
from p2d.systems import stepping
from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme
from tests.evaluate.helpers import dataset_of

GRAY_SCOTT = load_system("gray_scott")
SIZE = (40, 40)


def test_each_snapshot_has_its_own_parameters_or_the_reason_why_not(tmp_path):
    grid, feeds = Grid(SIZE), (0.029, 0.031)
    mazes = [GRAY_SCOTT.at("maze", F=feed) for feed in feeds]
    states = [
        stepping.run(initial_states(system, 0, np.array([n]), SIZE, ""), system, Scheme(grid), 8000, "cpu")
        for n, system in enumerate(mazes)
    ]
    flat = np.stack([np.ones(SIZE), np.random.default_rng(0).random(SIZE)])[None]
    dataset = dataset_of(np.concatenate([*states, flat]).astype(np.float32), tmp_path, grid=grid)
    made = fit_each(dataset, Known.of(GRAY_SCOTT), DiscoverConfig(library="gray_scott", bootstrap=10))
    assert made.settled == 2 and [row.sample for row in made.rows] == [0, 1, 2]
    for row, feed in zip(made.rows, feeds, strict=False):
        assert row.parameters["F"] == pytest.approx(feed, rel=0.01) and row.settled and not row.note
        assert abs(row.parameters["D_u"] - 0.16) < 4 * row.errors["D_u"] + 1e-4
    assert "species 'u' has the same value" in made.rows[2].note and made.rows[2].parameters == {}
    assert "sample  D_u" in str(made) and "2 of 3 snapshots stand still as Gray-Scott does" in str(made)


def test_its_table_shows_known_conditions_and_it_is_kept_whole(tmp_path):
    rows = (
        OfOne(3, {"T": 21.0}, {"D": 2e-5}, {"D": 4e-7}, 0.01, True),
        OfOne(4, {}, {"D": 1.0}, {"D": 0.5}, 7.0),
        OfOne(5, note="noise alone"),
    )
    made = SteadyStates("Own", "that of Own", rows, settings={"library": "own"})
    head, *lines = str(made).splitlines()
    assert head.split() == ["sample", "T", "D", "left"]
    assert lines[0].split() == ["3", "21", "2.00(4)e-05", "0.01", "settled"]
    assert lines[1].split() == ["4", "1.0(5)", "7", "not", "settled"]
    assert lines[2].endswith("cannot be told: noise alone")
    made.save(tmp_path / "each.json")
    assert SteadyStates.load(tmp_path / "each.json") == made
    json.dumps(made.to_dict())
