"""Snapshots that are their own mirror images."""

import numpy as np
import pytest

from p2d.fields import Grid
from p2d.snapshots.doubts import examine
from p2d.snapshots.mirrors import find_mirrors


def waves(count: int, shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 1, *shape))


@pytest.mark.parametrize("edges", ["periodic", "open"])
@pytest.mark.parametrize("sign", [1, -1])
def test_mirror_images_are_seen_along_their_axis(edges, sign):
    half = waves(5, (1, 40))
    states = np.concatenate([half, sign * np.flip(half, -1)], axis=-1) + 3.0
    assert find_mirrors(states, Grid((1, 80), edges=(edges, edges))) == {"x": sign < 0}
    tall = states.swapaxes(-1, -2)
    assert find_mirrors(tall, Grid((80, 1), edges=(edges, edges))) == {"y": sign < 0}


def test_any_place_will_do_on_periodic_grids():
    half = waves(4, (12, 20))
    states = np.concatenate([half, -np.flip(half, -1)], axis=-1)
    moved = np.stack([np.roll(state, n, -1) for n, state in enumerate(states)])
    assert find_mirrors(moved, Grid((12, 40))) == {"x": True}
    assert find_mirrors(moved, Grid((12, 40), edges=("open", "open"))) == {}


def test_what_only_seems_so_is_not():
    states = waves(6, (16, 16))
    assert find_mirrors(states, Grid((16, 16))) == {}
    one = np.concatenate([states, np.flip(states, -1)], axis=-1)
    one[3, 0, 2, 5] += 6.0  # one snapshot is not
    assert find_mirrors(one, Grid((16, 32))) == {}


def test_they_are_a_doubt_that_names_what_is_hidden():
    half = waves(12, (1, 64))
    states = np.concatenate([half, -np.flip(half, -1)], axis=-1)
    (doubt,) = [one for one in examine(states, ("u",), Grid((1, 128))).doubts if one.kind == "symmetric"]
    assert "mirror image along x with its signs turned" in doubt.text and "even powers" in doubt.meaning
