"""TIFF, ImageJ's stacks and OME-TIFF: what their axes and metadata say, page by page."""

import numpy as np
import pytest

from p2d.errors import UserError
from p2d.formats.stack import Asked
from p2d.formats.tiff import open_tiff

from .mutating import altered, cuts

tifffile = pytest.importorskip("tifffile")
VALUES = np.random.default_rng(0).random((5, 2, 6, 7)).astype(np.float32)  # [T, C, H, W]
BYTES = (VALUES * 255).astype(np.uint8)


def read(*files, **asked):
    (stack,) = open_tiff(list(files), Asked(**asked))
    states = stack.read(0, stack.count)
    for row in range(stack.count):
        np.testing.assert_array_equal(stack.read(row, row + 1)[0], states[row])
    return stack, states


def test_ome_tells_axes_pixels_channels_and_times(tmp_path):
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.65,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.65,
        "PhysicalSizeYUnit": "µm",
        "TimeIncrement": 30,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["actin", "myosin"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, ome=True, metadata=metadata)
    stack, states = read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(states, VALUES)
    about = stack.about
    assert (about.spacing, about.unit, about.time_unit) == (0.65, "um", "s")
    assert about.species == ("actin", "myosin") and about.bits == 0 and not about.notes
    assert stack.runs.tolist() == [0] * 5 and stack.times.tolist() == [0, 30, 60, 90, 120]
    stack, states = read(tmp_path / "a.ome.tif", channels=("Myosin",))
    assert stack.about.species == ("myosin",)
    np.testing.assert_array_equal(states[:, 0], VALUES[:, 1])
    with pytest.raises(UserError, match=r"unknown channel 'mysin' .*known: actin, myosin"):
        read(tmp_path / "a.ome.tif", channels=("mysin",))


def test_ome_tells_when_each_frame_was_taken(tmp_path):
    taken = [10.0, 12.5, 16.0, 20.0, 21.0]
    planes = {"DeltaT": [time for time in taken for _ in range(2)], "DeltaTUnit": ["min"] * 10}
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, ome=True, metadata={"axes": "TCYX", "Plane": planes})
    stack, _ = read(tmp_path / "a.ome.tif")
    assert stack.times.tolist() == [0, 2.5, 6, 10, 11] and stack.about.time_unit == "min"
    planes["DeltaT"][4] = 30.0  # not in order
    tifffile.imwrite(tmp_path / "b.ome.tif", VALUES, ome=True, metadata={"axes": "TCYX", "Plane": planes})
    stack, _ = read(tmp_path / "b.ome.tif")
    assert stack.times.tolist() == [0, 1, 2, 3, 4] and stack.about.time_unit == "frame"


def test_imagej_tells_pixels_and_times(tmp_path):
    metadata = {"axes": "TCYX", "unit": "um", "finterval": 2.5}
    tifffile.imwrite(tmp_path / "a.tif", VALUES, imagej=True, resolution=(1 / 0.65, 1 / 0.65), metadata=metadata)
    stack, states = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(states, VALUES)
    assert (stack.about.spacing, stack.about.unit, stack.about.time_unit) == (0.65, "um", "s")
    assert stack.times.tolist() == [0, 2.5, 5, 7.5, 10]


@pytest.mark.parametrize(
    ("unit", "dots", "spacing"),
    [("CENTIMETER", 20_000, 0.5), ("INCH", 25_400, 1.0), ("INCH", 300, 0.0), ("NONE", 5, 0.0)],
)
def test_resolution_tags_tell_pixels(tmp_path, unit, dots, spacing):
    tifffile.imwrite(tmp_path / "a.tif", BYTES[0, 0], resolution=(dots, dots), resolutionunit=unit, metadata=None)
    stack, _ = read(tmp_path / "a.tif")
    assert (stack.about.spacing, stack.about.unit) == (pytest.approx(spacing), "um" if spacing else "")
    assert len(stack.about.notes) == (dots == 300)


def test_pixels_that_are_not_square_are_told(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BYTES[0, 0], resolution=(20_000, 10_000), resolutionunit="CENTIMETER")
    stack, _ = read(tmp_path / "a.tif")
    assert stack.about.spacing == 0 and "0.5 um across and 1 um down" in stack.about.notes[0]


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">u2", "float64"])
def test_pages_are_separate_snapshots(tmp_path, compression, dtype):
    values = (VALUES[:, 0] * 200).astype(dtype)
    order = ">" if dtype[0] == ">" else "<"
    options = {"compression": compression, "metadata": None, "byteorder": order, "rowsperstrip": 2}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    stack, states = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(states[:, 0], values)
    assert stack.runs is None and stack.times is None and states.dtype == values.dtype.newbyteorder("=")
    assert stack.about.bits == {"u": 8 * values.dtype.itemsize, "f": 0}[values.dtype.kind]
    assert stack.name_of(3).endswith("a.tif, snapshot 3")


def test_files_of_one_snapshot_are_one_stack(tmp_path):
    files = [tmp_path / f"plate_t{n}.tif" for n in range(5)]
    for file, values in zip(files, BYTES[:, 0], strict=True):
        tifffile.imwrite(file, values)
    stack, states = read(*files)
    np.testing.assert_array_equal(states[:, 0], BYTES[:, 0])
    assert stack.times.tolist() == [0, 1, 2, 3, 4] and stack.runs.tolist() == [0] * 5
    assert stack.name_of(2).endswith("plate_t2.tif")
    tifffile.imwrite(files[4], BYTES[0, 0, :3])
    with pytest.raises(UserError, match=r"1 x 6 x 7 of uint8: .*t0\.tif; 1 x 3 x 7 of uint8: .*t4\.tif"):
        open_tiff(files, Asked())


def test_files_of_several_snapshots_are_stacks_of_their_own(tmp_path):
    for n in range(2):
        tifffile.imwrite(tmp_path / f"{n}.tif", BYTES[n:, 0], metadata={"axes": "TYX"})
    stacks = open_tiff([tmp_path / "0.tif", tmp_path / "1.tif"], Asked())
    assert [stack.count for stack in stacks] == [5, 4]
    assert all("numbers of frames" in stack.about.notes[0] and stack.about.time_unit == "frame" for stack in stacks)


def test_equal_images_of_a_file_are_runs(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for n in range(3):
            writer.write(VALUES + n, metadata={"axes": "TCYX"})
    stack, states = read(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(states.reshape(3, *VALUES.shape), [VALUES, VALUES + 1, VALUES + 2])
    assert stack.runs.tolist() == [0] * 5 + [1] * 5 + [2] * 5 and stack.times.tolist() == [0, 1, 2, 3, 4] * 3
    assert stack.name_of(7).endswith("image 1, snapshot 2")


def test_axes_that_are_not_named_are_asked_for(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", VALUES)
    with pytest.raises(UserError, match=r"axes of \[5, 2, 6, 7\].*--axes, such as NCHW"):
        read(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", axes="NCHW")[1], VALUES)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", species=("u", "v"))[1], VALUES)
    stack, states = read(tmp_path / "a.tif", axes="TRHW")
    np.testing.assert_array_equal(states, VALUES.reshape(10, 1, 6, 7))
    assert stack.runs.tolist() == [0, 1] * 5 and stack.times.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    with pytest.raises(UserError, match=r"--axes NHW does not fit"):
        read(tmp_path / "a.tif", axes="NHW")


def test_planes_are_refused_with_what_works(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BYTES[:, 0], imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(UserError, match=r"5 planes.*--axes TYX.*--axes NYX"):
        read(tmp_path / "a.tif")
    stack, states = read(tmp_path / "a.tif", axes="TYX")
    np.testing.assert_array_equal(states[:, 0], BYTES[:, 0])
    assert stack.runs.tolist() == [0] * 5


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_are_chosen(tmp_path, planar):
    rgb = np.stack([BYTES[:, 0], BYTES[:, 1], BYTES[::-1, 0]], -1 if planar == "contig" else 1)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", planarconfig=planar)
    with pytest.raises(UserError, match=r"has colours.*--channels"):
        read(tmp_path / "a.tif")
    _, states = read(tmp_path / "a.tif", channels=("g", "r"))
    np.testing.assert_array_equal(states, np.stack([BYTES[:, 1], BYTES[:, 0]], 1))


def test_several_sizes_in_a_file_are_listed(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(BYTES[0, 0])
        writer.write(BYTES[0, 0, :3])
    with pytest.raises(UserError, match=r"a\.tif holds 2 series of 2 kinds .*\[3, 7\].*\[6, 7\]"):
        read(tmp_path / "a.tif")


def test_a_header_that_claims_terabytes_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BYTES[0, 0], compression="zlib", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            at = tiff.pages[0].tags[name].valueoffset
            data[at : at + 4] = (1_000_000).to_bytes(4, "little")
            kind = tiff.pages[0].tags[name].offset + 2
            data[kind : kind + 2] = (4).to_bytes(2, "little")
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(UserError, match=r"claims pages of \[1000000, 1000000\]"):
        read(tmp_path / "a.tif")


def test_entities_in_metadata_are_refused(tmp_path):
    text = '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "aaaa">]><OME><Image><Pixels/></Image>&a;</OME>'
    tifffile.imwrite(tmp_path / "a.ome.tif", BYTES[0, 0], description=text, metadata=None)
    with pytest.raises(UserError, match=r"a\.ome\.tif"):
        read(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("kind", ["ome", "imagej", "zlib"])
def test_cut_and_altered_files_are_refused_or_read(tmp_path, kind):
    options = {
        "ome": {"ome": True, "metadata": {"axes": "TCYX"}},
        "imagej": {"imagej": True, "metadata": {"axes": "TCYX"}},
        "zlib": {"compression": "zlib", "metadata": {"axes": "TCYX"}},
    }
    file = tmp_path / "a.tif"
    tifffile.imwrite(file, VALUES, **options[kind])
    for states in cuts(file, open_tiff):
        assert states is None or np.array_equal(states, VALUES)  # tags of later pages may be lost without their values
    assert any(states is None for states in altered(file, open_tiff))


def test_few_pages_that_tifffile_takes_for_colours(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BYTES[:3, 0], photometric="rgb", planarconfig="separate")
    stack, states = read(tmp_path / "a.tif", axes="TYX")
    np.testing.assert_array_equal(states[:, 0], BYTES[:3, 0])
    assert stack.runs.tolist() == [0, 0, 0]
