"""What actors find in the snapshots of a dataset is what one process finds."""

import dataclasses

import numpy as np
import pytest

from p2d.cluster.moments import OverRay
from p2d.config import DiscoverConfig, SimulateConfig
from p2d.discovery.discover import choose_measure, discover_equation
from p2d.discovery.moments import Rows, Stepped, Trial, refuse_not_finite
from p2d.errors import UserError
from p2d.snapshots.passes import InMemory, Snapshots
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system

SPECIES = ("u", "v")


@pytest.fixture(scope="module")
def solitons(tmp_path_factory):
    config = SimulateConfig(preset=("solitons",), num_samples=9, height=32, width=24, steps=500, chunk=2)
    return simulate_here(config, tmp_path_factory.mktemp("data") / "d")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_both_passes_do_not_depend_on_the_number_of_workers(cluster, solitons, workers, noise):
    train, _ = solitons.split(0.2)
    alone, shared = InMemory.of_dataset(solitons, train), OverRay(solitons, train[::-1], workers)
    measure = choose_measure(alone.states, SPECIES, alone.grid, DiscoverConfig(noise=(str(noise),)))
    trial = Trial(load_system("gray_scott").at("solitons"), "5-point", 1.0)
    for task in (Rows(measure), Stepped(measure, (trial,))):
        found, expected = shared.each(task), alone.each(task)
        assert set(found) == set(expected)
        for key, values in expected.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-10, atol=1e-16)


def test_snapshots_over_ray_are_the_same_ensemble_as_in_memory(cluster, solitons):
    train, _ = solitons.split(0.1)
    done = []
    alone, shared = InMemory.of_dataset(solitons, train), OverRay(solitons, train[::-1], 2, done.append)
    assert isinstance(alone, Snapshots) and isinstance(shared, Snapshots)
    assert shared.species == alone.species and shared.grid == alone.grid
    for key in ("sample_ids", "runs", "times"):
        np.testing.assert_array_equal(getattr(shared, key), getattr(alone, key))
    np.testing.assert_array_equal(shared.some(3), alone.some(3))
    np.testing.assert_array_equal(shared.states_of(train[:2]), alone.states_of(train[:2]))
    settings = DiscoverConfig(library="gray-scott", bootstrap=5)
    found, expected = (discover_equation(snapshots, settings) for snapshots in (shared, alone))
    assert found.verdict == expected.verdict and found.snapshots == expected.snapshots == len(train)
    for species, terms in expected.terms.items():
        # float64 sums in another order
        assert found.terms[species] == pytest.approx(terms, rel=1e-6)
    assert sum(done) >= 2 * len(train) and shared.seconds > 0


def test_snapshots_that_are_not_finite_are_named(solitons):
    snapshots = InMemory.of_dataset(solitons)
    measure = choose_measure(snapshots.states, SPECIES, snapshots.grid, DiscoverConfig())
    found = snapshots.each(Rows(measure))
    found["rows"][2] = np.nan
    ids = snapshots.sample_ids
    with pytest.raises(UserError, match=rf"sample {ids[2]} of {len(ids)} looked at: values that are not finite"):
        refuse_not_finite(found, ids, [term for term, _ in measure.trees])
    broken = snapshots.states.copy()
    broken[2, 0, 1, 1] = np.nan
    with pytest.raises(UserError, match=rf"sample {ids[2]} of {len(ids)} looked at"):
        discover_equation(dataclasses.replace(snapshots, states=broken), DiscoverConfig(noise=("0",)), measure)
