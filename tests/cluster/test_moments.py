"""What actors find in the snapshots of a dataset is what one process finds."""

import numpy as np
import pytest

from p2d.cluster.moments import collect
from p2d.config import SimulateConfig
from p2d.discovery import discover, moments
from p2d.errors import UserError
from p2d.snapshots.simulated import simulate_here
from p2d.systems import library
from p2d.systems.gray_scott import preset


@pytest.fixture(scope="module")
def solitons(tmp_path_factory):
    config = SimulateConfig(preset=("solitons",), num_samples=9, height=32, width=24, steps=500, chunk=2)
    return simulate_here(config, tmp_path_factory.mktemp("data") / "d")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_both_passes_do_not_depend_on_the_number_of_workers(cluster, solitons, workers, noise):
    train, _ = solitons.split(0.2)
    measure = discover.look(solitons.states(train), discover.Question(noise=noise))
    equation = library.gray_scott_equation(preset("solitons"))
    for task in (moments.Rows(measure), moments.SecondOrder(measure, equation)):
        found = collect(solitons, train[::-1], task, workers)
        alone = moments.collect(task, train, solitons.states(train))
        assert set(found) == set(alone)
        for key, values in alone.items():
            np.testing.assert_allclose(found[key], values, rtol=1e-10, atol=1e-16)


def test_snapshots_that_are_no_concentrations_are_named(solitons):
    train, _ = solitons.split(0.2)
    measure = discover.look(solitons.states(train), discover.Question())
    found = moments.collect(moments.Rows(measure), train, solitons.states(train))
    found["rows"][2] = np.nan
    with pytest.raises(UserError, match=rf"sample {train[2]} of {len(train)} looked at: values that are not finite"):
        moments.sound(found, train, measure.terms)
