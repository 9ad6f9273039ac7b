"""A dataset on the screen: its card in words, and a contact sheet of its snapshots."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from p2d.fields import Grid, Mask, Species
from p2d.show.dataset import chosen_for_sheet, draw_contact_sheet, grid_text, info_text
from p2d.show.view import ALL, View
from p2d.snapshots.store import Dataset
from tests.snapshots.helpers import with_living


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Eight runs of two snapshots each, one of which has died."""
    return with_living(tmp_path / "plates", [True] * 13 + [False] * 3, chunk=8, snapshots_per_run=2)


def test_the_card_is_told_in_words(dataset):
    lines = dict(line.split(maxsplit=1) for line in info_text(dataset).splitlines()[1:])
    assert info_text(dataset).splitlines()[0] == "plates"
    assert lines["made"].startswith("simulated on cpu, p2d ")
    assert lines["snapshots"] == "16 of 4 x 6 cells, in 2 shards; 3 are uniform, and left out"
    assert lines["species"] == "u 0 to 1; v 0 to 1"
    assert lines["grid"] == "spacing 1; periodic edges"
    assert lines["runs"] == "8 of 2 snapshots each; taken at 30"
    assert lines["system"] == "waves: gray_scott, D_u = 0.16, D_v = 0.08, F = 0.018, k = 0.049"
    assert lines["hash"] == dataset.card.dataset_hash


def test_of_an_import_files_units_conditions_and_times_are_told(dataset):
    card = replace(
        dataset.card,
        origin={"kind": "imported", "files": 3},
        systems={},
        conditions={"wet": {"rain": 0.5, "heat": 3.0}},
        species=(Species("n", "kg", 0.25, 99), Species("w")),
        time_unit="min",
    )
    text = info_text(Dataset(dataset.folder, card))
    assert "imported from 3 files" in text
    assert "n 0.25 to 99 (kg); w 0 to 1" in text
    assert "condition  wet: rain = 0.5, heat = 3" in text
    assert "taken at 30 min" in text


def test_grids_are_told_with_what_they_have():
    assert grid_text(Grid((4, 6), 0.65, ("open", "periodic"), "um")) == "spacing 0.65 um; open rows, periodic columns"
    assert grid_text(Grid((1, 6), edges=("periodic", "open"))) == "spacing 1; open edges"
    half = Mask.of(np.tril(np.ones((5, 5))))
    assert grid_text(Grid((5, 5), mask=half)) == "spacing 1; periodic edges; a mask of 60% of the cells"


def test_a_sheet_has_full_rows_of_living_snapshots_evenly_spread(dataset):
    assert chosen_for_sheet(dataset).tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    one = Dataset(dataset.folder, replace(dataset.card, species=dataset.card.species[:1] * 8))
    np.testing.assert_array_equal(chosen_for_sheet(one), [0, 2, 4, 6, 8, 10])  # of eight species, a row each


def test_the_sheet_shows_each_snapshot_of_each_species_on_one_scale(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: (figures.append(figure), file.touch()))
    states = np.random.default_rng(0).random((12, 2, 8, 8)) * np.array([1, 10])[:, None, None]
    view = View((Species("u", "mM"), Species("v")), Grid((8, 8)), ALL)
    draw_contact_sheet(tmp_path / "contact.png", states, view, "plates")
    (figure,) = figures
    assert figure.get_suptitle() == "plates, 12 snapshots: u, v"
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 24
    for s, own in enumerate((pictures[:12], pictures[12:])):
        limits = (states[:, s].min(), states[:, s].max())
        for axes, state in zip(own, states[:, s], strict=True):
            np.testing.assert_array_equal(axes.images[0].get_array(), state)
            assert axes.images[0].get_clim() == limits
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["u (mM)", "v"]
