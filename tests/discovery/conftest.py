"""Snapshots of waves and what they tell, which many tests of a session look at."""

import numpy as np
import pytest

import p2d
from p2d.config import SimulateConfig
from p2d.snapshots.simulated import simulate_here


@pytest.fixture(scope="session")
def waves(tmp_path_factory) -> np.ndarray:
    """Snapshots of Gray-Scott's waves, float32 [64, 2, 64, 64]."""
    config = SimulateConfig(preset=("waves",), num_samples=72, height=64, width=64, steps=6000)
    dataset = simulate_here(config, tmp_path_factory.mktemp("waves") / "d")
    return dataset.states(dataset.living)[:64]


@pytest.fixture(scope="session")
def cubic(waves) -> p2d.Discovery:
    """What they tell by the free library."""
    return p2d.discover(waves)


@pytest.fixture(scope="session")
def tied(waves) -> p2d.Discovery:
    """What they tell by Gray-Scott's own terms."""
    return p2d.discover(waves, "gray-scott", operator="5-point")
