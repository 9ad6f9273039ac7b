"""Axes are told where one order fits, and asked for where several do."""

import pytest

from p2d.errors import UserError
from p2d.formats.axes import tell_axes


@pytest.mark.parametrize(
    "shape, species, letters",
    [
        ((100,), 0, "W"),
        ((64, 64), 0, "HW"),
        ((2, 512), 2, "CW"),
        ((512, 3), 0, "WC"),
        ((18, 100, 100), 0, "NHW"),
        ((100, 100, 18), 1, "HWN"),
        ((2, 100, 100), 0, "CHW"),
        ((100, 100, 3), 0, "HWC"),
        ((2, 48, 64), 1, None),
        ((500, 2, 128), 2, None),
        ((30, 2, 48, 64), 2, "NCHW"),
        ((30, 2, 48, 64), 0, "NCHW"),
        ((64, 64, 2, 30), 2, "HWCN"),
        ((30, 64, 64, 2), 2, "NHWC"),
        ((64, 64, 30, 2), 2, "HWNC"),
        ((2, 30, 64, 64), 2, "CNHW"),
        ((64, 2, 64, 64), 0, "NCHW"),
        ((30, 1, 64, 64), 1, "N-HW"),
        ((1, 64, 64, 1), 0, "-HW-"),
        ((30, 2, 1, 512), 0, "NCHW"),
        ((10, 2, 64, 64), 3, None),
        ((512, 251), 0, None),
        ((200, 48, 64), 1, None),
        ((64, 64, 64), 1, None),
        ((10, 40, 64, 64), 1, None),
        ((10, 40, 2, 64, 64), 2, None),
        ((2, 2, 64, 64), 2, None),
        ((9, 9, 9, 9, 9, 9), 0, None),
    ],
)
def test_shapes(shape, species, letters):
    if letters:
        assert tell_axes(shape, "a.npy", "", species) == letters
        return
    with pytest.raises(UserError) as error:
        tell_axes(shape, "a.npy", "", species)
    told = str(error.value)
    assert " x ".join(map(str, shape)) in told and ("--axes" in told or len(shape) > 5)


@pytest.mark.parametrize(
    "names, shape, letters",
    [
        (("time", "lat", "lon"), (20, 30, 40), "THW"),
        (("x", "y", "t"), (30, 40, 20), "WHT"),
        (("sample", "time", "x"), (20, 30, 40), "RTW"),
        (("time", "channel", "Y", "X"), (20, 2, 30, 40), "TCHW"),
        (("times", None, None), (20, 30, 30), "THW"),
        (("times", None, None, None), (20, 2, 30, 30), "TCHW"),
        ((None, "time", None, None), (20, 30, 40, 40), "RTHW"),
        (("dim_0", "dim_1", "dim_2"), (20, 30, 30), "NHW"),
        (("frame", "x"), (30, 20), "TW"),
    ],
)
def test_names_of_dimensions(names, shape, letters):
    assert tell_axes(shape, "a.nc", names=names) == letters


@pytest.mark.parametrize(
    "axes, shape, letters",
    [
        ("nchw", (9, 2, 3, 4), "NCHW"),
        ("TYX", (9, 3, 4), "THW"),
        ("XT", (9, 3), "WT"),
        ("NH", (9, 3), "NW"),
        ("NHW", (9, 1, 3, 4), "N-HW"),
        ("CHW", (1, 3, 4), "CHW"),
    ],
)
def test_what_the_user_says(axes, shape, letters):
    assert tell_axes(shape, "a.npy", axes) == letters


@pytest.mark.parametrize(
    "axes, told",
    [
        ("NQ", "'Q' is no axis"),
        ("NHH", "H is given twice"),
        ("NYH", "H is given twice"),
        ("NHW", "3 letters, and a.npy 4 axes, 9 x 2 x 3 x 4"),
        ("NRTC", "no H or W"),
        ("NZHW", "one plane"),
    ],
)
def test_what_the_user_cannot_mean(axes, told):
    with pytest.raises(UserError, match=told):
        tell_axes((9, 2, 3, 4), "a.npy", axes)


def test_an_axis_z_is_refused():
    with pytest.raises(UserError, match="three dimensions are not read"):
        tell_axes((9, 10, 30, 40), "a.nc", names=("time", "depth", "y", "x"))
