"""What is written in the formats of others is read again as it was."""

import json

import numpy as np
import pytest
from PIL import Image

from p2d.errors import UserError
from p2d.fields import Grid, Mask, Species
from p2d.formats.opening import open_stacks
from p2d.formats.own import Facts
from p2d.formats.stack import Asked
from p2d.formats.writing import FORMATS
from p2d.formats.writing_pictures import scale_of

CELLS = np.hypot(*np.mgrid[-3:3:6j, -3:3:8j]) < 3.2
TIMES = np.array([0.0, 2.5, 5.0, 0.1, 2.6, 5.1])


def facts_of(species=2, runs=(0, 0, 0, 4, 4, 4), times=TIMES, **grid):
    """Of N snapshots of 6 x 8 cells."""
    shape = grid.pop("shape", (6, 8))
    named = tuple(Species(name, "mM", -1.0, 3.0) for name in ("actin", "myosin", "w", "z")[:species])
    grid = Grid(shape, **{"spacing": 0.65, "edges": ("mirror", "periodic"), "unit": "um"} | grid)
    return Facts("worms", named, grid, np.array(runs), np.array(times), "s", {"F": 0.03, "k": 1 / 3})


def states_of(facts, seed=0):
    """Between the lowest and the highest value, both of which there are."""
    states = np.random.default_rng(seed).uniform(-1, 3, facts.shape).astype(np.float32)
    states[0, :, 0, :2] = -1.0, 3.0
    if facts.grid.mask:
        states[..., ~facts.grid.mask.cells] = np.nan
    return states


def written(to, folder, facts, states, block=2):
    form = FORMATS[to]
    place = folder / f"worms{form.suffix}"
    form.write(place, (states[n : n + block] for n in range(0, len(states), block)), facts)
    return place


def read(place, **asked):
    (stack,) = open_stacks([place], Asked(**asked))
    return stack, stack.read(0, stack.count)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("species", [1, 2, 3])
def test_it_comes_back(tmp_path, to, species):
    facts = facts_of(species)
    states = states_of(facts)
    stack, again = read(written(to, tmp_path, facts, states))
    if FORMATS[to].exact:
        np.testing.assert_array_equal(again, states)
    else:
        np.testing.assert_array_less(abs(again - states).max(), 0.51 * scale_of(facts)[1].max())
    about = stack.about
    assert about.species == ("actin", "myosin", "w")[:species]
    assert (about.spacing, about.unit, about.edges, about.time_unit) == (0.65, "um", ("mirror", "periodic"), "s")
    assert about.conditions == {"F": 0.03, "k": 1 / 3} and about.bits == 0 and not about.lossy and not about.notes
    assert stack.runs.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(stack.times, TIMES)
    np.testing.assert_array_equal(stack.read(2, 5), again[2:5])


@pytest.mark.parametrize("to", FORMATS)
def test_separate_snapshots_and_unknown_times(tmp_path, to):
    facts = facts_of(runs=range(6), times=[np.nan] * 6)
    states = states_of(facts)
    stack, again = read(written(to, tmp_path, facts, states, block=4))
    assert stack.runs.tolist() == list(range(6)) and stack.times is None
    np.testing.assert_allclose(again, states, atol=0 if FORMATS[to].exact else 1e-4)


@pytest.mark.parametrize("to", FORMATS)
def test_outside_a_mask_nothing_is_known(tmp_path, to):
    facts = facts_of(mask=Mask.of(CELLS))
    stack, again = read(written(to, tmp_path, facts, states_of(facts)))
    np.testing.assert_array_equal(np.isfinite(again), np.broadcast_to(CELLS, again.shape))
    assert "--mask nan" in stack.about.notes[0]


@pytest.mark.parametrize("to", FORMATS)
def test_one_dimension(tmp_path, to):
    facts = facts_of(shape=(1, 40))
    states = states_of(facts)
    stack, again = read(written(to, tmp_path, facts, states))
    assert stack.shape == (2, 1, 40)
    np.testing.assert_allclose(again, states, atol=0 if FORMATS[to].exact else 1e-4)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "damaged"),
        ('{"format": "p2d export", "version": 2}', "later p2d"),
        ('{"format": "p2d export", "version": 1, "run": 0, "time": 0, "runs": [0], "times": [0]}', "export it again"),
        ('{"format": "p2d export", "version": 1, "grid": {"spacing": -1, "unit": "", "edges": ["a"]}}', "damaged"),
    ],
)
def test_what_is_noted_is_checked(tmp_path, monkeypatch, to, text, told):
    monkeypatch.setattr(Facts, "text", lambda self, **more: text)
    facts = facts_of()
    place = written(to, tmp_path, facts, states_of(facts))
    with pytest.raises(UserError, match=f"worms.*{told}"):
        open_stacks([place], Asked())


def test_png_is_what_other_programs_read(tmp_path):
    facts = facts_of(1)
    states = states_of(facts)
    place = written("png", tmp_path, facts, states)
    assert [file.name for file in sorted(place.iterdir())][2:4] == ["run0_t2.png", "run4_t0.png"]
    with Image.open(place / "run4_t0.png") as picture:
        levels = np.asarray(picture).astype(float)
        scale = json.loads(picture.info["p2d"])["scale"]
    np.testing.assert_allclose(scale["low"][0] + (levels - 1) * scale["step"][0], states[3, 0], atol=1e-4)
    stack, levels_again = read(place, channels=("gray",))  # as they are stored
    assert stack.dtype == "uint16"
    np.testing.assert_array_equal(levels_again[3, 0], levels)


def test_png_refuses_four_species():
    with pytest.raises(UserError, match=r"worms has 4 species, and a PNG holds up to 3: take tiff, npz, zarr or well"):
        FORMATS["png"].refuse(facts_of(4))


def test_pictures_of_p2d_and_others_do_not_mix(tmp_path):
    facts = facts_of(1)
    place = written("png", tmp_path, facts, states_of(facts))
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(place / "other.png")
    with pytest.raises(UserError, match=r"other\.png was not exported by p2d, and 6 others were"):
        open_stacks([place], Asked())


def test_ome_tiff_tells_other_programs(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    facts = facts_of(times=[0.0, 2.5, 5.0, 0.0, 2.5, 5.0])
    states = states_of(facts)
    with tifffile.TiffFile(written("tiff", tmp_path, facts, states)) as tiff:
        assert [series.axes for series in tiff.series] == ["TCYX", "TCYX"]
        np.testing.assert_array_equal(tiff.series[1].asarray(), states[3:])
        for words in ('PhysicalSizeX="0.65"', 'PhysicalSizeXUnit="µm"', 'TimeIncrement="2.5"', 'Name="myosin"'):
            assert words in tiff.ome_metadata


@pytest.mark.parametrize("frames", [1, 3])
def test_the_wells_own_loader_opens_it(tmp_path, frames):
    datasets = pytest.importorskip("the_well.data")
    facts = facts_of(runs=np.arange(6) // frames)
    states = states_of(facts)
    written("well", tmp_path, facts, states)
    loaded = datasets.WellDataset(path=str(tmp_path), n_steps_output=frames - 1, normalize_time_grid=False)
    meta = loaded.metadata
    assert meta.field_names[0] == ["actin", "myosin"] and meta.constant_scalar_names == ["F", "k"]
    assert (meta.n_trajectories_per_file, meta.n_steps_per_trajectory) == ([6 // frames], [frames])
    one = loaded[1]
    fields = np.concatenate([one[key].numpy() for key in ("input_fields", "output_fields") if key in one])
    np.testing.assert_array_equal(fields, states[frames : 2 * frames].transpose(0, 2, 3, 1))
    assert one["boundary_conditions"].tolist() == [[0, 0], [2, 2]]  # wall, periodic
    np.testing.assert_allclose(one["constant_scalars"], [0.03, 1 / 3])
    np.testing.assert_allclose(one["input_time_grid"], TIMES[frames : frames + 1])
    np.testing.assert_allclose(one["space_grid"][2, 3], [2 * 0.65, 3 * 0.65])
