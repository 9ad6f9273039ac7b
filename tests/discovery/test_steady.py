"""A named system on a snapshot that stands still: parameters with errors that hold what its terms do not explain."""

import numpy as np
import pytest

from p2d.config import DiscoverConfig
from p2d.discovery.discover import discover_equation, steady_state
from p2d.discovery.known import Known
from p2d.discovery.steady import _unknown
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots.passes import InMemory
from p2d.systems import stepping
from p2d.systems.initial import initial_states
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme

GRAY_SCOTT = load_system("gray_scott")
TIED = DiscoverConfig(library="gray_scott", bootstrap=20)
SIZE = (48, 48)


def settled(preset: str, count: int = 1, steps: int = 8000, **parameters: float) -> np.ndarray:
    system = GRAY_SCOTT.at(preset, **parameters)
    states = initial_states(system, 0, np.arange(count), SIZE, "")
    return stepping.run(states, system, Scheme(Grid(SIZE)), steps, "cpu")


@pytest.fixture(scope="module")
def maze() -> np.ndarray:
    return settled("maze", 2)


def test_one_snapshot_that_stands_still_tells_the_parameters_within_their_errors(maze):
    truth = GRAY_SCOTT.at("maze").parameters
    for state in maze:
        found = steady_state(InMemory.of_states(state[None]), TIED)
        assert found.is_settled and found.parameters.keys() == truth.keys()
        for name, (value, error) in found.parameters.items():
            assert 0 < error < 0.05 * truth[name]
            assert abs(value - truth[name]) < 4 * error + 1e-4 * truth[name]


def test_a_snapshot_of_what_moves_is_not_settled():
    found = steady_state(InMemory.of_states(settled("waves", steps=2000)), TIED)
    assert not found.is_settled and found.left > 0.3


def test_parameters_are_a_linear_map_of_the_free_numbers():
    known = Known.of(GRAY_SCOTT)
    assert known.library.names == ("D_u", "D_v", "F", "F + k", "")
    free = np.array([[0.16, 0.08, 0.03, 0.09, 1.0], [0.2, 0.1, 0.02, 0.08, 1.0]])
    made = known.parameters_of(free)
    np.testing.assert_allclose(made["k"], [0.06, 0.06], atol=1e-12)
    np.testing.assert_allclose(made["D_u"], [0.16, 0.2], atol=1e-12)


def test_what_no_term_explains_is_taken_to_be_as_large_along_the_terms():
    # Of one species: y = 2 a + r, of 6 functions, r of norm 0.3 across a, of 5 that are left.
    a, y = np.zeros(6), np.zeros(6)
    a[0], y[0], y[3] = 0.5, 1.0, 0.3
    made = _unknown(np.stack([a, -y], axis=1), np.array([2.0, 1.0]), 1)
    np.testing.assert_allclose(made, [0.3 / np.sqrt(5) / 0.5, 0.0])
    # Another species without a free number leaves the first as it is.
    beside = np.concatenate([np.stack([a, -y], axis=1), np.stack([0 * a, 7 * y], axis=1)])
    np.testing.assert_allclose(_unknown(beside, np.array([2.0, 1.0]), 2), made)


@pytest.mark.slow
def test_snapshots_that_stand_still_each_at_parameters_of_its_own_are_told(maze):
    several = np.concatenate([settled("maze", F=0.026 + 0.001 * n) for n in range(8)])
    found = discover_equation(InMemory.of_states(several), TIED)
    assert not found.claims.velocity_known
    (doubt,) = (doubt for doubt in found.claims.doubts if doubt.kind == "own parameters")
    assert "stand still, each by itself" in doubt.text and "--each" in str(found)


def test_a_species_that_is_uniform_cannot_be_told():
    state = np.ones((1, 2, *SIZE))
    state[:, 1] = np.random.default_rng(0).random(SIZE)
    with pytest.raises(UserError, match="species 'u' has the same value"):
        steady_state(InMemory.of_states(state), TIED)
