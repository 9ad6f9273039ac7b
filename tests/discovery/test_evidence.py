"""What an ensemble leaves open: tests that hold their level, and faults that they see."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import p2d
from p2d.discovery.evidence import _tested
from p2d.evaluate.metrics import cosine
from p2d.systems.reading import load_system

WAVES = load_system("gray_scott").at("waves")
pytestmark = pytest.mark.xdist_group("waves")  # one process, in which the fixtures of both files are made once


@pytest.mark.parametrize("groups", [24, 200])
def test_chance_alone_is_as_rare_as_its_p_value_says(groups):
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(48, 48)) * np.logspace(0, -3, 48)
    p = [_tested(rng.normal(size=(groups, 48)) @ mixed.T, np.ones(groups)).p_value for _ in range(400)]
    for level in (0.05, 0.2, 0.5):
        # A share of 400 varies by at most 0.025. Of few groups the largest components seem larger than they are, so
        # that chance is rarer.
        share = np.mean(np.array(p) < level)
        assert share < level + 0.08 and (groups < 100 or share > level / 3)
    off = _tested(rng.normal(size=(groups, 48)) @ mixed.T + 0.8 * mixed[:, 0], np.ones(groups))
    assert off.p_value < (1e-2 if groups < 100 else 1e-3)


def test_clean_snapshots_are_known_to_within_what_they_are_known_by(waves, cubic):
    own, true = (system.rate(waves.astype(np.float64)) for system in (cubic.system, WAVES))
    assert cubic.claims.velocity_known and cubic.claims.terms_known and not cubic.claims.doubts
    assert 1 - cosine(own, true)["cosine"] <= cubic.claims.velocity <= 5e-3
    assert cubic.short_verdict == "velocity and terms known"


def assert_seen_by_the_judges(found):
    assert not found.claims.velocity_known and not found.claims.terms_known
    assert "judges" in {doubt.kind for doubt in found.claims.doubts}


@pytest.mark.slow
def test_a_library_that_lacks_a_term_is_seen_by_the_judges(waves):
    assert_seen_by_the_judges(p2d.discover(waves, degree=2, operator="5-point", noise=0, smoothing=0, bootstrap=4))


@pytest.mark.slow
def test_faults_of_the_pictures_are_seen_by_the_judges(waves):
    waves = waves[:48]
    blurred, enlarged = gaussian_filter(waves, (0, 0, 1, 1), mode="wrap"), waves[:, :, ::2, ::2]
    enlarged = np.repeat(np.repeat(enlarged, 2, axis=2), 2, axis=3)
    for states in (blurred, enlarged):
        assert_seen_by_the_judges(p2d.discover(states, bootstrap=4))


def test_rounded_snapshots_do_not_tell_terms(waves):
    stretched = (waves - waves.min(axis=(0, 2, 3), keepdims=True)) / np.ptp(waves, axis=(0, 2, 3), keepdims=True)
    found = p2d.discover(np.round(stretched * 255) / 256 + 0.1)
    assert not found.claims.terms_known
    assert "rounded" in {doubt.kind for doubt in found.claims.doubts}


def test_an_equation_without_laplacians_is_not_claimed():
    """Waves of all phases: u and v turn about each other, and whatever else they do is not seen."""
    rng = np.random.default_rng(0)
    angle = 2 * np.pi * rng.random((40, 1, 1)) + _smooth_angles(rng, 40, 24)
    size = 0.8 + 0.1 * np.cos(_smooth_angles(rng, 40, 24))
    found = p2d.discover(np.stack([size * np.cos(angle), size * np.sin(angle)], axis=1), operator="5-point", degree=1)
    assert not found.claims.velocity_known and not found.claims.terms_known
    assert "symmetry" in {doubt.kind for doubt in found.claims.doubts}


@pytest.mark.slow
def test_a_translation_that_the_grid_keeps_almost_is_not_claimed(tmp_path):
    """It is nearly a symmetry of waves of some cells; a trace of Laplacians makes up for the rest."""
    settings = {"height": 1, "width": 256, "num_samples": 48, "seed": 0}
    dataset = p2d.simulate(system="kuramoto_sivashinsky", out=tmp_path, **settings)
    found = p2d.discover(dataset, also=("derivatives",), order=4, bootstrap=4)
    assert abs(found.terms["u"]["d(u,x)"]) > 1 and not found.claims.velocity_known
    assert "symmetry" in {doubt.kind for doubt in found.claims.doubts}


def _smooth_angles(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    return 3 * gaussian_filter(rng.normal(size=(count, length, length)), (0, 3, 3), mode="wrap") * 6
