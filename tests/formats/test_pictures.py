"""PNG, JPEG and BMP: values as stored, colours to species, and what is refused."""

import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from p2d.errors import UserError
from p2d.formats.pictures import open_pictures
from p2d.formats.stack import Asked

from .mutating import altered, cuts


@pytest.fixture
def gray():
    y, x = np.mgrid[:11, :14]
    return (120 + 90 * np.sin(x / 2) * np.cos(y / 3)).astype(np.uint8)


def saved(folder, name, values, **options):
    file = folder / name
    Image.fromarray(values).save(file, **options)
    return file


def read(files, **asked):
    (stack,) = open_pictures(files, Asked(**asked))
    return stack, stack.read(0, stack.count)


def test_gray_pictures_are_a_stack_of_one_species(tmp_path, gray):
    values = [gray, gray[::-1], gray[:, ::-1]]
    files = [saved(tmp_path, f"{n}.png", one) for n, one in enumerate(values)]
    stack, states = read(files)
    assert (stack.count, stack.shape, stack.dtype, stack.about.bits) == (3, (1, 11, 14), "uint8", 8)
    assert stack.runs is None and not stack.about.lossy and stack.about.species == ()
    np.testing.assert_array_equal(states[:, 0], values)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(stack)).read(1, 3), states[1:])
    assert stack.name_of(1).endswith("1.png") and stack.files == tuple(map(str, files))


def test_sixteen_bits_are_kept(tmp_path, gray):
    deep = gray.astype(np.uint16) * 257 + 3
    stack, states = read([saved(tmp_path, "a.png", deep)])
    assert (stack.dtype, stack.about.bits) == ("uint16", 16)
    np.testing.assert_array_equal(states[0, 0], deep)


def test_colours_of_sixteen_bits_are_kept(tmp_path, gray):
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=-1) * np.array([257, 129, 1], np.uint16) + np.uint16(3)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    stack, states = read([tmp_path / "a.png"], channels=("g", "r"))
    assert (stack.dtype, stack.about.bits) == ("uint16", 16)
    np.testing.assert_array_equal(states[0], [deep[..., 1], deep[..., 0]])


def test_one_bit_and_palettes(tmp_path, gray):
    stack, states = read([saved(tmp_path, "bit.png", gray > 120)])
    assert stack.about.bits == 1
    np.testing.assert_array_equal(states[0, 0], gray > 120)
    colours = Image.fromarray(np.stack([gray, gray // 2, gray // 4], -1)).quantize(16)
    colours.save(tmp_path / "palette.png")
    _, states = read([tmp_path / "palette.png"], channels=("b", "r"))
    expected = np.asarray(colours.convert("RGB"))
    np.testing.assert_array_equal(states[0], [expected[..., 2], expected[..., 0]])


def test_equal_colours_are_gray_and_transparency_is_told(tmp_path, gray):
    rgba = np.stack([gray, gray, gray, np.full_like(gray, 200)], -1)
    stack, states = read([saved(tmp_path, "a.png", rgba), saved(tmp_path, "b.png", gray)])
    np.testing.assert_array_equal(states[:, 0], [gray, gray])
    assert "transparency" in stack.about.notes[0]
    _, states = read([tmp_path / "a.png"], channels=("a",))
    assert (states == 200).all()


def test_colours_need_to_be_told(tmp_path, gray):
    rgb = np.stack([gray, gray[::-1], gray[:, ::-1]], -1)
    file = saved(tmp_path, "a.png", rgb)
    with pytest.raises(UserError, match=r"a\.png has colours.*--channels.*r g.*gray"):
        read([file])
    np.testing.assert_array_equal(read([file], channels=("2", "r"))[1][0], [rgb[..., 2], rgb[..., 0]])
    np.testing.assert_array_equal(read([file], species=("u", "v", "w"))[1][0], rgb.transpose(2, 0, 1))
    stack, states = read([file], channels=("gray",))
    assert (stack.dtype, stack.about.bits) == ("float32", 0)
    np.testing.assert_allclose(states[0, 0], rgb @ [0.299, 0.587, 0.114], rtol=1e-6)
    assert "brightness" in read([file], species=("u",))[0].about.notes[0]
    with pytest.raises(UserError, match=r"2 species are named.*gives 1"):
        read([file], channels=("r",), species=("u", "v"))
    with pytest.raises(UserError, match="unknown channel 'red'"):
        read([file], channels=("red",))
    with pytest.raises(UserError, match="no channel a"):
        read([file], channels=("a",))


def test_of_two_species_the_dark_colour_is_left_out(tmp_path, gray):
    rgb = np.stack([gray, np.zeros_like(gray), gray[::-1]], -1)
    stack, states = read([saved(tmp_path, "a.png", rgb)], species=("actin", "myosin"))
    np.testing.assert_array_equal(states[0], [gray, gray[::-1]])
    assert "b is myosin, as g is dark" in stack.about.notes[0]


def test_a_coloured_picture_among_gray_ones_is_named(tmp_path, gray):
    files = [saved(tmp_path, f"{n:02}.png", gray) for n in range(20)]
    saved(tmp_path, "07.png", np.stack([gray, gray, 255 - gray], -1))
    (stack,) = open_pictures(files, Asked())
    with pytest.raises(UserError, match=r"07\.png has colours, and others are gray"):
        stack.read(0, 20)


def test_jpeg_is_lossy(tmp_path, gray):
    stack, states = read([saved(tmp_path, "a.jpg", gray, quality=95)])
    assert stack.about.lossy and stack.about.bits == 8
    assert np.abs(states[0, 0].astype(int) - gray).mean() < 3


def test_sizes_and_depths_that_differ_are_listed(tmp_path, gray):
    files = [saved(tmp_path, "a.png", gray), saved(tmp_path, "b.png", gray), saved(tmp_path, "c.png", gray[:5])]
    with pytest.raises(UserError, match=r"11 x 14 of 8 bits: .*a\.png and 1 more; 5 x 14 of 8 bits: .*c\.png"):
        read(files)
    with pytest.raises(UserError, match="11 x 14 of 16 bits"):
        read([files[0], saved(tmp_path, "d.png", gray.astype(np.uint16))])


def test_names_tell_runs(tmp_path, gray):
    stack, _ = read([saved(tmp_path, f"run{n // 2}_t{n % 2}.png", gray) for n in range(4)])
    assert stack.runs.tolist() == [0, 0, 1, 1] and stack.times.tolist() == [0, 1, 0, 1]
    assert "4 files are of 2 runs" in stack.about.notes[0]


def test_a_header_that_claims_a_great_many_pixels_is_refused(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(UserError, match=r"bomb\.png claims more than 89478485 pixels"):
        read([tmp_path / "bomb.png"])


def test_animated_png_is_refused(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(gray[::-1].copy())])
    with pytest.raises(UserError, match=r"a\.png is an animation of 2 frames"):
        read([tmp_path / "a.png"])


def test_what_is_no_picture_or_not_there_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        read([tmp_path / "a.png"])
    with pytest.raises(UserError, match=r"there is no file .*b\.png"):
        read([tmp_path / "b.png"])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_cut_and_altered_files_are_refused_or_read(tmp_path, gray, name):
    file = saved(tmp_path, name, gray)
    (_, whole) = read([file])
    for states in cuts(file, open_pictures):
        assert states is None or np.array_equal(states, whole)  # all but the last bytes may be enough
    read_anyhow = [states for states in altered(file, open_pictures) if states is not None]
    assert len(read_anyhow) < 60
    if name == "a.png":  # which has checksums
        assert all(np.array_equal(states, whole) for states in read_anyhow)
