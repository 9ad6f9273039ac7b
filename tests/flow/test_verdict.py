"""What is said of a flow: the words for every case."""

import pytest

from p2d.flow import verdict
from p2d.flow.verdict import sufficient_snapshots
from p2d.snapshots.static import STATIC


@pytest.mark.parametrize(
    ("grid", "enough"), [((128, 128), 64), ((64, 64), 256), ((256, 64), 64), ((100, 100), 105), ((2048, 2048), 1)]
)
def test_enough_snapshots_have_as_many_cells_as_64_of_128_x_128(grid, enough):
    assert sufficient_snapshots(grid) == enough


@pytest.mark.parametrize(("share", "said"), [(4e-4, "2 %"), (1e-6, "0.1 %"), (2.5e-5, "0.5 %"), (0.0, "0 %")])
def test_what_does_not_move_is_called_static_whatever_its_z_scores(share, said):
    for z_rms, snapshots in ((0.5, 1), (0.5, 1000), (50.0, 1), (50.0, 1000)):
        words = verdict.verdict({"imbalance": share, "z_rms": z_rms, "nonlinear": 0.0}, snapshots, (128, 128))
        assert words == verdict.static(share)
        assert words.startswith(f"static: the velocity on the data is zero to within {said} of the diffusion")
        assert "not identifiable" in words


@pytest.mark.parametrize(("snapshots", "few"), [(63, True), (64, False), (1000, False)])
def test_a_flow_that_observables_tell_against_is_doubtful(snapshots, few):
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 4.26}, snapshots, (128, 128))
    assert words.startswith("doubtful: held-out observables are not stationary under it (z-scores of rms 4.3)")
    assert ("; 64 snapshots would do" in words) == few
    assert ("the ensemble may still be changing" in words) == (not few)
    assert "what its isotropic stencil does not see" in words


@pytest.mark.parametrize(("snapshots", "few"), [(255, True), (256, False)])
@pytest.mark.parametrize("z_rms", [0.3, 1.0, 3.0])
def test_a_flow_that_nothing_tells_against_is_stationary(z_rms, snapshots, few):
    measured = {"imbalance": STATIC, "z_rms": z_rms, "direction_z": 3.0, "nonlinear": 1e-3}
    words = verdict.verdict(measured, snapshots, (64, 64))
    assert words == verdict.verdict({"imbalance": STATIC, "z_rms": z_rms}, snapshots, (64, 64))  # of older flows
    assert words.startswith("stationary from few snapshots (256 would do): " if few else "stationary: ")
    assert "up to the unit of time" in words
    assert "the one under which diffusion damps" in words


def test_a_direction_that_is_not_beyond_its_error_is_called_arbitrary():
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 1.0, "direction_z": 2.9, "nonlinear": 0.5}, 256, (64, 64))
    assert words.startswith("stationary: ") and "the direction of time, which is arbitrary" in words
    assert "diffusion damps" not in words


def test_a_flow_that_is_linear_in_the_species_of_a_cell_is_called_a_symmetry():
    words = verdict.verdict({"imbalance": 0.1, "z_rms": 1.0, "direction_z": 9.0, "nonlinear": 9e-4}, 100, (64, 64))
    assert words.startswith("a symmetry from few snapshots (256 would do): it turns the species into each other")
