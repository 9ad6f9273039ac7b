"""p2d in Python, without Ray: arrays, datasets and their folders give the same answers; all else is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import p2d
from p2d.api import shaped
from p2d.config import DiscoverConfig
from p2d.discovery.discover import discover_equation
from p2d.fields import Grid
from p2d.snapshots.passes import InMemory
from p2d.snapshots.store import Dataset
from p2d.systems.reading import load_system

HEIGHT, WIDTH = 48, 52  # of waves; on so small a grid some of them die, on smaller ones most
UNIT = "u v^2 has rate 1, as in Gray-Scott"
SIZE = {"num_samples": 60, "height": HEIGHT, "width": WIDTH}


@pytest.fixture(scope="module")
def waves(tmp_path_factory) -> Dataset:
    """60 runs, of which some are dead."""
    dataset = p2d.simulate("waves", out=tmp_path_factory.mktemp("runs"), **SIZE)
    assert 30 < len(dataset.living) < 60
    return dataset


@pytest.fixture(scope="module")
def states(waves) -> np.ndarray:
    return waves.states(waves.living)


@pytest.fixture(scope="module")
def found(states) -> p2d.Discovery:
    return p2d.discover(states, "gray-scott", bootstrap=10)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Dataset:
    """Two snapshots of each of 12 runs."""
    settings = {"num_samples": 24, "snapshots_per_run": 2, "interval": 50, "height": HEIGHT, "width": WIDTH}
    return p2d.simulate("waves", out=tmp_path_factory.mktemp("runs"), steps=4000, **settings)


def dead(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Uniform states, as those of patterns that have died."""
    state = np.zeros((count, 2, height, width), np.float32)
    state[:, 0] = 1
    return state


@pytest.mark.parametrize("noise", [0.003, (0.003,), (0.003, 0.003)])
def test_noise_in_the_dynamics_is_one_number_or_one_of_each_species(tmp_path, noise):
    settings = {"num_samples": 2, "height": 8, "width": 8, "steps": 1}
    made = p2d.simulate(out=tmp_path, dynamics_noise=noise, **settings)
    plain = p2d.simulate(out=tmp_path, name="plain", **settings)
    assert made.card.settings["dynamics_noise"] == [0.003, 0.003]
    assert 0 < np.abs(made.states(np.arange(2)) - plain.states(np.arange(2))).max() < 0.02


def test_a_dataset_that_is_there_is_opened_and_not_simulated_again(waves):
    again = p2d.simulate("waves", out=waves.folder.parent.parent, **SIZE)
    assert again.folder == waves.folder
    assert again.card.dataset_hash == waves.card.dataset_hash
    assert_array_equal(again.states(again.living), waves.states(waves.living))
    with pytest.raises(p2d.UserError, match="seed"):
        p2d.simulate("waves", out=waves.folder.parent.parent, **SIZE, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dataset", "text"])
def test_a_dataset_tells_what_the_states_of_its_living_tell(waves, found, how):
    given = {"dataset": waves, "text": str(waves.folder)}[how]
    assert p2d.discover(given, "gray-scott", bootstrap=10) == found


def test_the_parameters_of_a_simulation_come_back(found, waves):
    truth = load_system("gray_scott").at("waves")
    assert found.snapshots == len(waves.living)
    # some 40 snapshots: standard errors of 0.6 % and less
    assert found.parameters == pytest.approx(truth.parameters, rel=0.03)


@pytest.mark.slow
def test_dead_snapshots_are_left_out(states, found):
    mixed = np.concatenate([dead(1), states[:3], dead(2), states[3:], dead(1)])
    assert p2d.discover(mixed, "gray-scott", bootstrap=10) == found


def test_the_seed_and_the_number_of_resamples_change_the_errors_alone(states, found):
    other = p2d.discover(states, "gray-scott", bootstrap=11, seed=1)
    assert other.terms == found.terms
    assert other.claims.p_value == found.claims.p_value
    assert other.errors != found.errors


def test_an_equation_is_told_in_one_line_for_each_species(found):
    number = r"0\.\d+\(\d+\)"
    u, v, *worth = str(found).splitlines()
    assert re.fullmatch(rf"du/dt = {number} lap\(u\) \+ {number} \(1 - u\) - 1 u v\^2", u)
    assert re.fullmatch(rf"dv/dt = {number} lap\(v\) - {number} v \+ 1 u v\^2", v)
    assert worth[0] == f"{found.verdict}, {found.snapshots} snapshots; unit of time: {UNIT}"


@pytest.mark.slow
def test_an_ensemble_of_one_s_own_answers_like_an_array(states, found):
    assert p2d.discover(InMemory.of_states(states), "gray-scott", bootstrap=10) == found


@pytest.mark.slow
def test_the_runs_and_times_of_an_array_are_those_of_its_snapshots(states, pairs):
    living, runs, times = (get(pairs.living) for get in (pairs.states, pairs.runs, pairs.times))
    own = p2d.discover(living, "gray-scott", bootstrap=10, runs=runs, times=times)
    assert own == p2d.discover(pairs, "gray-scott", bootstrap=10)
    assert re.match(r"that of 1?\d pairs of frames at known times, to .* %", own.unit_of_time)
    untimed = p2d.discover(living, "gray-scott", bootstrap=10, runs=runs)
    assert untimed.unit_of_time == UNIT and untimed.terms["v"]["u*v**2"] == pytest.approx(1)
    assert own.parameters == {} or own.terms["v"]["u*v**2"] == pytest.approx(1, rel=0.2)
    for name, few in (("runs", {"runs": [0, 1, 2]}), ("times", {"times": [0.0]})):
        with pytest.raises(p2d.UserError, match=rf"{name} has \d entries for {len(states)} snapshots; it must have"):
            p2d.discover(states, **few)


@pytest.mark.slow
def test_other_names_of_species_are_those_of_the_equation(states, found):
    renamed = p2d.discover(states, terms="1, a, b, a*b**2, lap(a), lap(b)", bootstrap=10, species=("a", "b"))
    assert set(renamed.terms) == {"a", "b"} and "a*b**2" in renamed.terms["b"]
    assert renamed.unit_of_time == "mean square velocity 1, of values over their spread" and renamed.parameters == {}
    ratio = renamed.terms["a"]["lap(a)"] / renamed.terms["a"]["a*b**2"]
    assert ratio == pytest.approx(-found.terms["u"]["lap(u)"], rel=0.1)


@pytest.mark.slow
def test_what_is_known_sets_the_unit_of_time(states, found):
    for known, unit in (("D_u=0.32", "D_u = 0.32, as given"), ("v: u*v**2=2", "u*v**2 in dv/dt = 2, as given")):
        faster = p2d.discover(states, "gray-scott", bootstrap=10, known=known)
        assert faster.unit_of_time == unit
        place = ("u", "lap(u)") if known[0] == "D" else ("v", "u*v**2")
        assert faster.terms[place[0]][place[1]] == pytest.approx(float(known.split("=")[1]), rel=1e-12)
        by = faster.terms["v"]["v"] / found.terms["v"]["v"]
        assert faster.terms["u"]["1"] == pytest.approx(by * found.terms["u"]["1"], rel=1e-9)


@pytest.mark.slow
def test_values_in_any_unit_tell_the_same_velocity(states):
    """Of -40 to 120 and the same scaled to [0, 1]."""
    low, span = np.array([[-40.0], [0.02]])[:, :, None], np.array([[160.0], [0.004]])[:, :, None]
    plain, other = (p2d.discover(s, bootstrap=10) for s in (states, low + span * states))
    velocity = plain.system.rate(states.astype(np.float64))
    scaled = other.system.rate(low + span * states) / span
    along = (velocity * scaled).sum() / np.sqrt((velocity**2).sum() * (scaled**2).sum())
    assert along > 0.998  # of 50 snapshots; the terms that are left out may be others


@pytest.mark.slow
def test_lengths_are_in_the_unit_of_the_spacing(states, found):
    fine = p2d.discover(states, "gray-scott", bootstrap=10, spacing=0.5)
    for species in ("u", "v"):
        lap = f"lap({species})"
        assert fine.terms[species][lap] == pytest.approx(found.terms[species][lap] / 4, rel=1e-6)
    assert fine.terms["v"]["v"] == pytest.approx(found.terms["v"]["v"], rel=1e-6)
    assert fine.grid == Grid((HEIGHT, WIDTH), 0.5)


@pytest.mark.slow
def test_a_window_with_open_edges_and_a_masked_field_tell_the_parameters_too(states, waves):
    truth = load_system("gray_scott").at("waves").parameters
    cut = p2d.discover(states[..., 4:, :-4], "gray-scott", bootstrap=10, edges="open")
    rows, columns = np.indices((HEIGHT, WIDTH))
    mask = np.hypot(rows - 20, columns - 30) > 8
    masked = p2d.discover(np.where(mask, states, np.nan), "gray-scott", bootstrap=10, mask=mask)
    for other, edges in ((cut, ("open", "open")), (masked, ("periodic", "periodic"))):
        assert other.parameters == pytest.approx(truth, rel=0.05)
        assert other.grid.edges == edges
    as_periodic = p2d.discover(states[..., 4:, :-4], "gray-scott", bootstrap=10)
    assert not as_periodic.claims.velocity_known and as_periodic.misfit > 5 * cut.misfit


@pytest.mark.slow
def test_snapshots_of_one_run_of_a_dataset_count_as_one(pairs):
    living = pairs.states(pairs.living)
    runs = dict(zip(*(pairs.index.column(key).to_pylist() for key in ("sample_id", "run_id")), strict=True))
    runs = np.array([runs[int(i)] for i in pairs.living])
    assert len(np.unique(runs)) < len(runs)
    found = p2d.discover(living, "gray-scott", bootstrap=10, runs=runs)
    untimed = replace(InMemory.of_dataset(pairs), times=np.full(len(living), np.nan))
    expected = discover_equation(untimed, DiscoverConfig(library="gray-scott", bootstrap=10))
    assert found.snapshots == len(living)
    for kind in ("terms", "errors"):
        for species, terms in getattr(expected, kind).items():
            # float64 sums in another order
            assert getattr(found, kind)[species] == pytest.approx(terms, rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "species", "made", "names"),
    [
        ((9, 2, 5, 6), None, (9, 2, 5, 6), "uv"),
        ((9, 3, 5, 6), None, (9, 3, 5, 6), "abc"),
        ((9, 8, 5, 6), None, (9, 8, 5, 6), "abcefghi"),
        ((9, 3, 1, 6), "xyz", (9, 3, 1, 6), "xyz"),
        ((9, 20, 30), None, (9, 1, 20, 30), "a"),
        ((9, 5, 30), "h", (9, 1, 5, 30), "h"),
        ((9, 2, 30), "pq", (9, 2, 1, 30), "pq"),
        ((9, 30), None, (9, 1, 1, 30), "a"),
        ((9, 30), "h", (9, 1, 1, 30), "h"),
    ],
)
def test_shapes_that_do(shape, species, made, names):
    values = np.arange(np.prod(shape)).reshape(shape)
    states, told = shaped(values, tuple(species) if species else None)
    assert states.shape == made and "".join(told) == names
    assert_array_equal(states.ravel(), values.ravel())


@pytest.mark.parametrize(
    ("shape", "species", "right"),
    [
        ((40, 9, 8, 8), None, "of 1 to 8 species they must be numbers [N, C, H, W], or in one dimension [N, C, 1, W]"),
        ((40, 3, 8, 8), "uv", "of 2 species they must be numbers [N, 2, H, W], or in one dimension [N, 2, 1, W]"),
        ((40, 2, 8), None, "[N, C, 1, W]; [N, H, W] or [N, W] of one"),
        ((40, 8), "uv", "of 2 species they must be numbers [N, 2, H, W]"),
        ((40,), "h", "of 1 species they must be numbers [N, 1, H, W], or in one dimension [N, 1, 1, W]; [N, H, W] or "),
        ((2, 2, 2, 2, 2), None, "they must be numbers"),
        ((0, 2, 8, 8), None, "they must be numbers"),
    ],
)
def test_shapes_that_do_not_are_told_with_those_that_would(shape, species, right):
    with pytest.raises(p2d.UserError) as refused:
        p2d.discover(np.zeros(shape), species=tuple(species) if species else None)
    words = str(refused.value)
    assert words.startswith(f"states have shape {list(shape)} of float64; ") and right in words and "\n" not in words


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"species": ("u", "u")}, "species = u, u: a name stands twice"),
        ({"species": ("u", "lap")}, "species 'lap' has the name of a function"),
        ({"species": ("u", "1st")}, "species '1st' cannot stand in an equation"),
        ({"edges": "closed"}, "unknown edges 'closed'"),
        ({"spacing": 0.0}, "spacing = 0.0 is not possible"),
        ({"mask": np.ones((3, 3))}, r"the mask has shape \[3, 3\]; it must be the grid's"),
        ({"mask": np.zeros((HEIGHT, WIDTH))}, "a mask has shape .*, 0 cells in it"),
        ({"noise": (0.1, 0.1, 0.1)}, "noise has 3 values; give one for all, or 2"),
        ({"operator": "spectral", "edges": "open"}, "the spectral operator does not fit open and open edges"),
        ({"known": "k=1"}, "unknown name 'k'"),
        ({"known": "lap(u)=0"}, "is not understood"),
    ],
)
def test_fields_that_are_not_possible_are_refused_in_one_line(states, settings, message):
    with pytest.raises(p2d.UserError, match=message) as refused:
        p2d.discover(states, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_sample(states, value):
    broken = np.concatenate([dead(1), states])
    broken[5, 0, 3, 1] = value
    with pytest.raises(p2d.UserError, match="sample 5 holds values that are not finite"):
        p2d.discover(broken)


def test_a_species_that_is_the_same_everywhere_is_refused(states):
    flat = states.copy()
    flat[:, 1] = 0.25
    with pytest.raises(p2d.UserError, match="species 'v' has the same value in every cell of every snapshot; leave it"):
        p2d.discover(flat)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_living_are_refused_with_their_number(states, count):
    with pytest.raises(p2d.UserError, match=f"^{count} living runs? (is|are) too few for an equation: at least 8"):
        p2d.discover(np.concatenate([states[:count], dead(20)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"library": "quartic"}, "there is no system 'quartic'"),
        ({"terms": "1, u, w"}, "'w' at character 7"),
        ({"noise": -0.1}, "noise = -0.1 is not possible"),
        ({"smoothing": "wide"}, "smoothing = wide is not possible"),
        ({"bootstrap": 1}, "bootstrap = 1"),
    ],
)
def test_settings_that_are_not_possible_are_refused(states, settings, message):
    with pytest.raises(p2d.UserError, match=message):
        p2d.discover(states, **settings)


@pytest.mark.parametrize("term", ["log(v-0.2)", "log(u-2)"])
def test_a_term_that_is_not_finite_is_named(states, term):
    with pytest.raises(p2d.UserError, match=rf"the term '{re.escape(term)}' is not finite on samples 0, 1, "):
        p2d.discover(states, terms=f"1, u, v, u*v**2, lap(u), {term}")


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(p2d.UserError, match=str(tmp_path)):
        p2d.discover(tmp_path)
