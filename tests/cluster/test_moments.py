"""What actors find in the snapshots of a dataset is what one process finds."""

import dataclasses
import os

import numpy as np
import pytest

from p2d.cluster.moments import OverRay
from p2d.config import DiscoverConfig, SimulateConfig
from p2d.discovery.discover import discover_equation
from p2d.discovery.measuring import choose_measure
from p2d.discovery.moments import Rows, Stepped, Trial
from p2d.errors import UserError
from p2d.snapshots import passes
from p2d.snapshots.passes import InMemory, Snapshots
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system

SPECIES = ("u", "v")


@pytest.fixture(scope="module")
def solitons(tmp_path_factory):
    """Of runs of 3 frames each, in shards of 4."""
    settings = {"num_samples": 48, "snapshots_per_run": 3, "interval": 40, "chunk": 4}
    config = SimulateConfig(preset=("solitons",), height=32, width=24, steps=500, **settings)
    return simulate_here(config, tmp_path_factory.mktemp("data") / "d")


def same_bytes(found: passes.Means, expected: passes.Means) -> None:
    assert set(found.of) == set(expected.of)
    for key, values in expected.of.items():
        assert found.of[key].tobytes() == values.tobytes()


@pytest.mark.parametrize("most", [1024, 5])
def test_passes_are_the_same_to_the_last_bit_with_any_number_of_workers(cluster, solitons, monkeypatch, most):
    monkeypatch.setattr(passes, "GROUPS", most)
    train, _ = solitons.split(0.2)
    alone = InMemory.of_dataset(solitons, train)
    measure = choose_measure(alone.states, SPECIES, alone.grid, DiscoverConfig(noise=("0.02",)))
    trial = Trial(load_system("gray_scott").at("solitons"), "5-point", 1.0)
    received = []
    with OverRay(solitons, train[::-1], 1) as one, OverRay(solitons, train, 2) as two:
        for task in (Rows(measure), Stepped(measure, (trial,))):
            found, expected = one.means(task), alone.means(task)
            same_bytes(two.means(task), found)
            assert len(found.runs) == min(most, alone.run_count) and found.runs.sum() == alone.run_count
            for key, values in expected.of.items():
                np.testing.assert_allclose(found.of[key], values, rtol=1e-10, atol=1e-14 * np.abs(values).max())
            received.append(sum(values.nbytes for values in found.of.values()))
        # parts of one run each bring their own sums, and no more
        assert one.received == two.received <= 3 * sum(received) * (1 if most > 5 else 4)


class Dying:
    """A task at whose third sample the first actor dies, once."""

    def __init__(self, inner, marker):
        self.inner, self.marker = inner, marker

    def __call__(self, sample_id, state):
        if sample_id == 10 and not self.marker.exists():
            self.marker.touch()
            os._exit(1)
        return self.inner(sample_id, state)


def test_an_actor_that_dies_changes_nothing(cluster, solitons, tmp_path):
    alone = InMemory.of_dataset(solitons)
    task = Rows(choose_measure(alone.states, SPECIES, alone.grid, DiscoverConfig(noise=("0",))))
    with OverRay(solitons, solitons.living, 2) as snapshots:
        expected = snapshots.means(task)
        same_bytes(snapshots.means(Dying(task, tmp_path / "died")), expected)
        assert (tmp_path / "died").exists()


def test_snapshots_over_ray_are_the_same_ensemble_as_in_memory(cluster, solitons):
    train, _ = solitons.split(0.1)
    done = []
    alone = InMemory.of_dataset(solitons, train)
    settings = DiscoverConfig(library="gray-scott", bootstrap=5)
    with OverRay(solitons, train[::-1], 2, done.append) as shared:
        assert isinstance(alone, Snapshots) and isinstance(shared, Snapshots)
        assert shared.species == alone.species and shared.grid == alone.grid and shared.run_count == alone.run_count
        np.testing.assert_array_equal(shared.sample_ids, alone.sample_ids)
        np.testing.assert_array_equal(shared.some(3), alone.some(3))
        np.testing.assert_array_equal(shared.states_of(train[:2]), alone.states_of(train[:2]))
        for found, expected in zip(shared.pairs(5), alone.pairs(5), strict=True):
            np.testing.assert_array_equal(found, expected)
        found, expected = (discover_equation(snapshots, settings) for snapshots in (shared, alone))
    assert found.verdict == expected.verdict and found.snapshots == expected.snapshots == len(train)
    for species, terms in expected.terms.items():
        # float64 sums in another order
        assert found.terms[species] == pytest.approx(terms, rel=1e-6)
    assert sum(done) >= 2 * len(train) and shared.seconds > 0


def test_snapshots_that_are_not_finite_are_named(solitons):
    snapshots = InMemory.of_dataset(solitons)
    measure = choose_measure(snapshots.states, SPECIES, snapshots.grid, DiscoverConfig())
    broken = snapshots.states.copy()
    broken[2, 0, 1, 1] = np.nan
    ids = snapshots.sample_ids
    with pytest.raises(UserError, match=rf"sample {ids[2]} of {len(ids)} looked at: values that are not finite"):
        discover_equation(dataclasses.replace(snapshots, states=broken), DiscoverConfig(noise=("0",)), measure)
