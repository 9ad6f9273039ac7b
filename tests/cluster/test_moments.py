"""Moments summed by actors are those of one process."""

import numpy as np
import pytest

from p2d.cluster.moments import accumulate
from p2d.config import SimulateConfig
from p2d.flow import discover
from p2d.simulation import simulate_here


@pytest.mark.parametrize("workers", [1, 2])
def test_moments_do_not_depend_on_the_number_of_workers(cluster, tmp_path, workers):
    dataset = simulate_here(
        SimulateConfig(preset=("solitons",), num_samples=9, height=32, width=24, steps=500, chunk=2), tmp_path / "d"
    )
    train, _ = dataset.split(0.2)
    found = accumulate(dataset, train, workers)
    alone = discover.moments(train, dataset.states(train))
    np.testing.assert_array_equal(found.sample_id, train)
    np.testing.assert_allclose(found.rows, alone.rows, rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(found.gram, alone.gram, rtol=1e-10)
