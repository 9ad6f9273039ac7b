"""Films: their frames in order, as they are stored, decoded once."""

import pickle

import numpy as np
import pytest
from PIL import Image

from p2d.errors import UserError
from p2d.formats import films
from p2d.formats.films import open_films
from p2d.formats.stack import Asked

from .mutating import altered, cuts

av = pytest.importorskip("av")
Y, X = np.mgrid[:40, :48]
FRAMES = np.array([120 + 80 * np.sin(X / 5 + t / 3) * np.cos(Y / 7 + t / 9) for t in range(24)]).astype(np.uint8)


def written(folder, name, codec, pixels="yuv420p", frames=FRAMES, rate=25):
    with av.open(folder / name, "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for values in frames:
            kind = "gray16le" if values.dtype == np.uint16 else "rgb24" if values.ndim == 3 else "gray"
            for packet in stream.encode(av.VideoFrame.from_ndarray(values, format=kind)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return folder / name


def read(file, **asked):
    (stack,) = open_films([file], Asked(**asked))
    return stack, stack.read(0, stack.count)


@pytest.mark.parametrize(("name", "codec", "pixels"), [("a.avi", "ffv1", "gray"), ("a.avi", "rawvideo", "bgr24")])
def test_frames_of_exact_codecs_are_as_stored(tmp_path, name, codec, pixels):
    stack, states = read(written(tmp_path, name, codec, pixels))
    np.testing.assert_array_equal(states[:, 0], FRAMES)
    assert (stack.shape, stack.dtype, stack.about.bits, stack.about.lossy) == ((1, 40, 48), "uint8", 8, False)
    assert stack.runs.tolist() == [0] * 24 and stack.about.time_unit == "s"
    np.testing.assert_allclose(stack.times, np.arange(24) / 25, atol=1e-9)
    assert "25 frames a second" in stack.about.notes[0] and stack.name_of(3).endswith("a.avi, frame 3")


def test_sixteen_bits_are_kept(tmp_path):
    deep = FRAMES.astype(np.uint16) * 257 + 3
    stack, states = read(written(tmp_path, "a.mkv", "ffv1", "gray16le", deep))
    np.testing.assert_array_equal(states[:, 0], deep)
    assert (stack.dtype, stack.about.bits) == ("uint16", 16)


def test_mp4_is_lossy_and_in_order(tmp_path):
    stack, states = read(written(tmp_path, "a.mp4", "libx264"))
    assert stack.about.lossy and stack.count == 24
    # Brightness is stored from 16 to 235.
    assert np.abs(states[:, 0] - (16 + FRAMES * (219 / 255))).mean() < 3
    assert "times are those of the film" in stack.about.notes[0]


def test_gif_has_times_of_its_own(tmp_path):
    first, *others = map(Image.fromarray, FRAMES)
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=[40, 80] * 12)
    stack, states = read(tmp_path / "a.gif")
    np.testing.assert_array_equal(states[:, 0], FRAMES)
    np.testing.assert_allclose(stack.times[:5], [0, 0.04, 0.12, 0.16, 0.24], atol=1e-9)
    assert any("256 colours" in note for note in stack.about.notes)
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[:-300])
    with pytest.raises(UserError, match=r"a\.gif is cut"):
        read(tmp_path / "a.gif")


def test_colours_are_chosen(tmp_path):
    rgb = np.stack([FRAMES, FRAMES[::-1], 255 - FRAMES], -1)
    file = written(tmp_path, "a.avi", "rawvideo", "bgr24", rgb)
    with pytest.raises(UserError, match=r"has colours.*--channels"):
        read(file)
    _, states = read(file, channels=("g", "r"))
    np.testing.assert_array_equal(states, np.stack([FRAMES[::-1], FRAMES], 1))
    lossy = written(tmp_path, "a.mp4", "libx264", "yuv420p", rgb)
    with pytest.raises(UserError, match=r"has colours.*--channels"):
        read(lossy)
    stack, states = read(lossy, channels=("gray",))
    assert stack.dtype == "uint8"
    brightness = 16 + rgb @ [0.299, 0.587, 0.114] * (219 / 255)
    assert np.abs(states[:, 0] - brightness).mean() < 4


def test_a_frame_with_colours_among_gray_ones_is_named(tmp_path):
    rgb = np.stack([FRAMES] * 3, -1)
    rgb[11, ..., 2] = 0
    (stack,) = open_films([written(tmp_path, "a.avi", "rawvideo", "bgr24", rgb)], Asked())
    with pytest.raises(UserError, match=r"a\.avi, frame 11 has colours, and others are gray"):
        stack.read(0, 24)


def test_stretches_one_after_the_other_are_decoded_once(tmp_path, monkeypatch):
    (stack,) = open_films([written(tmp_path, "a.avi", "ffv1", "gray")], Asked())
    decoded = []
    real = films._Decoder.frames

    def counting(self, first=0, last=None):
        before = self.next
        yield from real(self, first, last)
        decoded.append(self.next - before)

    monkeypatch.setattr(films._Decoder, "frames", counting)
    sent = pickle.loads(pickle.dumps(stack))
    parts = [sent.read(first, first + 3) for first in range(0, 24, 3)]
    np.testing.assert_array_equal(np.concatenate(parts)[:, 0], FRAMES)
    assert sum(decoded) == 24
    np.testing.assert_array_equal(sent.read(5, 7)[:, 0], FRAMES[5:7])  # further back: from the beginning
    assert sum(decoded) == 24 + 7


def test_a_film_that_ends_early_is_named(tmp_path):
    file = written(tmp_path, "a.avi", "ffv1", "gray")
    (stack,) = open_films([file], Asked())
    written(tmp_path, "a.avi", "ffv1", "gray", FRAMES[:10])
    with pytest.raises(UserError, match=r"a\.avi is cut: it ends after frame 9"):
        stack.read(0, 24)


def test_a_playlist_leads_nowhere(tmp_path):
    written(tmp_path, "a.mp4", "libx264")
    (tmp_path / "b.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path / 'a.mp4'}\n")
    with pytest.raises(UserError, match=r"b\.mp4 cannot be read"):
        read(tmp_path / "b.mp4")


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "ffv1")])
def test_cut_and_altered_films_are_refused_or_read(tmp_path, name, codec):
    file = written(tmp_path, name, codec, "yuv420p" if codec == "libx264" else "gray")
    _, whole = read(file)
    for states in cuts(file, open_films):
        assert states is None or np.array_equal(states, whole)  # an index at the end may be missed
    assert any(states is None for states in altered(file, open_films))
