"""p2d in Python, without Ray: arrays, datasets and their folders give the same answers; all else is refused."""

import re

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import p2d
from p2d.config import DiscoverConfig
from p2d.discovery.discover import discover_equation
from p2d.snapshots.passes import InMemory
from p2d.snapshots.store import Dataset
from p2d.systems.reading import load_system

HEIGHT, WIDTH = 48, 52  # of waves; on so small a grid some of them die, on smaller ones most
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


def test_a_dataset_that_is_there_is_opened_and_not_simulated_again(waves):
    again = p2d.simulate("waves", out=waves.folder.parent.parent, **SIZE)
    assert again.folder == waves.folder
    assert again.card.dataset_hash == waves.card.dataset_hash
    assert_array_equal(again.states(again.living), waves.states(waves.living))
    with pytest.raises(p2d.UserError, match="seed"):
        p2d.simulate("waves", out=waves.folder.parent.parent, **SIZE, seed=1)


@pytest.mark.parametrize("how", ["dataset", "path", "text"])
def test_a_dataset_tells_what_the_states_of_its_living_tell(waves, found, how):
    given = {"dataset": waves, "path": waves.folder, "text": str(waves.folder)}[how]
    assert p2d.discover(given, "gray-scott", bootstrap=10) == found


def test_the_parameters_of_a_simulation_come_back(found, waves):
    truth = load_system("gray_scott").at("waves")
    assert found.snapshots == len(waves.living)
    # some 40 snapshots: standard errors of 0.6 % and less
    assert found.parameters == pytest.approx(truth.parameters, rel=0.03)


def test_dead_snapshots_are_left_out(states, found):
    mixed = np.concatenate([dead(1), states[:3], dead(2), states[3:], dead(1)])
    assert p2d.discover(mixed, "gray-scott", bootstrap=10) == found


def test_the_seed_and_the_number_of_resamples_change_the_errors_alone(states, found):
    other = p2d.discover(states, "gray-scott", bootstrap=11, seed=1)
    assert other.terms == found.terms
    assert other.verdict == found.verdict
    assert other.errors != found.errors


def test_an_equation_is_told_in_one_line_for_each_species(found):
    number = r"0\.\d+\(\d+\)"
    u, v, *worth = str(found).splitlines()
    assert re.fullmatch(rf"du/dt = {number} lap\(u\) \+ {number} \(1 - u\) - 1 u v\^2", u)
    assert re.fullmatch(rf"dv/dt = {number} lap\(v\) - {number} v \+ 1 u v\^2", v)
    assert worth[0] == f"{found.verdict}, {found.snapshots} snapshots; unit of time: reaction rate 1"


def test_an_ensemble_of_one_s_own_answers_like_an_array(states, found):
    assert p2d.discover(InMemory.of_states(states), "gray-scott", bootstrap=10) == found


def test_the_runs_of_an_array_are_those_of_its_snapshots(states, pairs):
    living = pairs.states(pairs.living)
    own = p2d.discover(living, "gray-scott", bootstrap=10, runs=pairs.runs(pairs.living))
    assert own == p2d.discover(pairs, "gray-scott", bootstrap=10)
    with pytest.raises(p2d.UserError, match=f"runs has 3 entries for {len(states)} snapshots"):
        p2d.discover(states, runs=[0, 1, 2])


def test_other_names_of_species_are_those_of_the_equation(states, found):
    renamed = p2d.discover(states, terms="1, a, b, a*b**2, lap(a), lap(b)", bootstrap=10, species=("a", "b"))
    assert set(renamed.terms) == {"a", "b"} and "a*b**2" in renamed.terms["b"]
    assert renamed.unit_of_time == "mean square velocity 1" and renamed.parameters == {}
    ratio = renamed.terms["a"]["lap(a)"] / renamed.terms["a"]["a*b**2"]
    assert ratio == pytest.approx(-found.terms["u"]["lap(u)"], rel=0.1)


def test_snapshots_of_one_run_of_a_dataset_count_as_one(pairs):
    living = pairs.states(pairs.living)
    runs = dict(zip(*(pairs.index.column(key).to_pylist() for key in ("sample_id", "run_id")), strict=True))
    runs = np.array([runs[int(i)] for i in pairs.living])
    assert len(np.unique(runs)) < len(runs)
    found = p2d.discover(pairs, "gray-scott", bootstrap=10)

    class Averaged(InMemory):
        def each(self, task) -> dict[str, np.ndarray]:
            each = super().each(task)
            return {key: np.stack([each[key][runs == run].mean(axis=0) for run in np.unique(runs)]) for key in each}

    of_runs = Averaged(living, np.arange(len(living)), np.unique(runs), pairs.card.names, pairs.card.grid)
    expected = discover_equation(of_runs, DiscoverConfig(library="gray-scott", bootstrap=10))
    assert found.snapshots == len(living)
    for kind in ("terms", "errors"):
        for species, terms in getattr(expected, kind).items():
            # float64 sums in another order
            assert getattr(found, kind)[species] == pytest.approx(terms, rel=1e-6)


@pytest.mark.parametrize(
    "shape", [(40, HEIGHT, WIDTH), (40, 1, HEIGHT, WIDTH), (40, 3, HEIGHT, WIDTH), (2, HEIGHT, WIDTH)]
)
def test_what_is_no_stack_of_two_species_is_refused_with_its_shape(shape):
    with pytest.raises(
        p2d.UserError, match=r"shape \[" + ", ".join(map(str, shape)) + r"\]; they must be \[N, 2, H, W\]"
    ):
        p2d.discover(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_sample(states, value):
    broken = np.concatenate([dead(1), states])
    broken[5, 0, 3, 1] = value
    with pytest.raises(p2d.UserError, match="sample 5 holds values that are not finite"):
        p2d.discover(broken)


def test_a_value_that_is_no_concentration_is_refused_with_its_place_among_all_samples(states):
    broken = np.concatenate([dead(3), states[:10], dead(1), states[10:]])
    broken[[5, 16], 0, 3, 1] = 7.0
    with pytest.raises(p2d.UserError, match=rf"^samples 5, 16 of {len(states)} looked at: "):
        p2d.discover(broken, noise=0)


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_values_far_outside_concentrations_are_refused(states, scale):
    with pytest.raises(p2d.UserError, match=rf"of {len(states)} looked at: .* concentrations lie in \[0, 1\]"):
        p2d.discover(scale * states, noise=0)


def test_training_coordinates_are_refused(states):
    with pytest.raises(p2d.UserError, match=r"concentrations lie in \[0, 1\]"):
        p2d.discover(2 * states - 1)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_living_are_refused_with_their_number(states, count):
    with pytest.raises(p2d.UserError, match=f"{count} living runs are too few for an equation: at least 8"):
        p2d.discover(np.concatenate([states[:count], dead(20)]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"library": "quartic"}, "unknown library 'quartic'"),
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
