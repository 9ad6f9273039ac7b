"""What an import does to values, against the same done by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.config import ImportConfig
from p2d.errors import UserError
from p2d.snapshots.treating import Treatment, masked_cells, refuse_crop

RNG = np.random.default_rng(0)
STATES = RNG.random((3, 2, 9, 12))


def test_values_are_taken_as_they_are_where_float32_holds_them():
    for dtype in (np.float32, np.float16, np.uint8, np.int16, np.uint16, bool):
        stored = (100 * STATES).astype(dtype)
        treated = Treatment().of(stored)
        assert treated.dtype == np.float32
        assert_array_equal(treated, stored)
    assert Treatment().of((1e6 * STATES).astype(np.int32)).dtype == np.float64  # and rounded once, later


def test_crop_bin_scale_and_flatten_are_done_in_this_order():
    surface = 1 + RNG.random((2, 3, 5))
    treatment = Treatment(
        crop=(slice(2, None), slice(1, 11)), bin=2, scale=(2.0, 1.0), offset=(0.0, -5.0), surface=surface
    )
    by_hand = STATES[:, :, 2:8, 1:11].reshape(3, 2, 3, 2, 5, 2).mean(axis=(3, 5))
    by_hand = by_hand * np.array([2.0, 1.0])[:, None, None] + np.array([0.0, -5.0])[:, None, None]
    assert_allclose(treatment.of(STATES), by_hand / surface, rtol=1e-14)
    assert treatment.shape_of((9, 12)) == (3, 5)


def test_a_repeated_end_is_dropped():
    assert_array_equal(Treatment(repeated=(True, False)).of(STATES), STATES[..., :-1, :])
    assert Treatment(repeated=(True, True)).shape_of((9, 12)) == (8, 11)


def test_one_dimension_is_binned_along_itself():
    line = STATES[:, :, :1]
    assert_allclose(Treatment(bin=3).of(line), line.reshape(3, 2, 1, 4, 3).mean(axis=-1), rtol=1e-14)
    assert Treatment(bin=3).shape_of((1, 12)) == (1, 4)


def test_masked_cells_hold_the_mean_of_the_others_whatever_they_held():
    outside = np.zeros((9, 12), bool)
    outside[0, :3] = outside[4, 4] = True
    stored = STATES.copy()
    stored[..., outside] = np.nan
    treated = Treatment(outside=outside).of(stored)
    assert_array_equal(treated[..., ~outside], STATES[..., ~outside])
    expected = STATES[..., ~outside].mean(axis=-1)
    assert_allclose(treated[..., outside], np.repeat(expected[..., None], 4, axis=-1), rtol=1e-14)


def test_a_binned_cell_is_in_the_mask_where_all_of_its_cells_are():
    outside = np.zeros((4, 6), bool)
    outside[1, 2] = True
    treatment = Treatment(outside=outside, bin=2)
    assert_array_equal(treatment.cells, [[True, False, True], [True, True, True]])


def test_what_cannot_be_kept_is_found_where_it_stands_in_the_file():
    stored = STATES[0].copy()
    stored[1, 5, 7] = np.inf
    treatment = Treatment(crop=(slice(3, None), slice(2, None)), bin=2)
    assert treatment.broken_in(stored) == (1, 5, 7, np.inf)
    outside = np.zeros((6, 10), bool)
    outside[2, 5] = True
    assert Treatment(crop=(slice(3, None), slice(2, None)), outside=outside).broken_in(stored) is None
    stored[1, 5, 7] = 1e39  # finite, and too large
    assert Treatment().broken_in(stored) == (1, 5, 7, 1e39)
    assert Treatment(scale=(1e-3,)).broken_in(stored) is None


def config(**settings):
    return ImportConfig(("x.npy",), **settings)


def test_masks(tmp_path):
    shape = STATES.shape[-2:]
    stored = STATES.copy()
    stored[1, 0, 2, 3] = np.nan
    nan = masked_cells(config(mask="nan"), stored, shape)
    assert np.argwhere(nan).tolist() == [[2, 3]]
    stored[:, :, 8, 0] = stored[1:, :, 8, 1] = 7.0  # one cell always, one not
    assert np.argwhere(masked_cells(config(mask="7"), stored, shape)).tolist() == [[8, 0]]
    cropped = masked_cells(config(mask="#070707", crop="8:,:"), stored, shape)
    assert np.argwhere(cropped).tolist() == [[0, 0]]
    stored[:, 0, 0, 0], stored[:, 1, 0, 0] = 16, 255
    coloured = masked_cells(config(mask="#10ff00", channels=("r", "g")), stored, shape)
    assert np.argwhere(coloured).tolist() == [[0, 0]]
    np.save(tmp_path / "mask.npy", np.eye(9, 12, dtype=np.uint8))
    assert_array_equal(masked_cells(config(mask=str(tmp_path / "mask.npy")), (), shape), np.eye(9, 12) == 0)
    assert masked_cells(config(mask="nan"), STATES, shape) is None


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        ("3", "no pixel is that in all of the 3 snapshots"),
        ("missing.png", "mask = missing.png is no file, and none of nan"),
        ("#102030", "needs --channels of r, g and b"),
    ],
)
def test_masks_that_are_none(mask, told):
    with pytest.raises(UserError, match=told):
        masked_cells(config(mask=mask), STATES, (9, 12))


def test_a_mask_of_another_size_or_without_cells_is_refused(tmp_path):
    file = str(tmp_path / "mask.npy")
    np.save(file, np.ones((4, 4)))
    with pytest.raises(UserError, match=r"shape \[4, 4\]; it must be \[9, 12\] or, cropped, \[2, 12\]"):
        masked_cells(config(mask=file, crop="0:2,:"), STATES, (9, 12))
    np.save(file, np.zeros((9, 12)))
    with pytest.raises(UserError, match="leaves no pixel"):
        masked_cells(config(mask=file), STATES, (9, 12))


def test_crops_and_bins_that_leave_nothing_are_refused():
    with pytest.raises(UserError, match="the snapshots have 12 columns, 0 to 11"):
        refuse_crop(config(crop=":,3:13"), (9, 12))
    with pytest.raises(UserError, match="bin = 5 leaves less than 2 of 9 rows"):
        refuse_crop(config(bin=5), (9, 12))
    refuse_crop(config(bin=5), (1, 12))
