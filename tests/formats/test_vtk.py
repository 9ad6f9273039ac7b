"""VTK image data: every encoding of the format, and nothing that XML could do beside."""

import base64
import zlib

import numpy as np
import pytest

from .helpers import mutated, opened, refused, same_or_refused

A, B = np.random.default_rng(0).random((2, 14, 10)).astype(np.float32)


def packed(data, size, block=100):
    """Blocks of zlib behind their header, which base64 encodes on its own."""
    blocks = [zlib.compress(data[n : n + block]) for n in range(0, len(data), block)]
    header = np.array([len(blocks), block, len(data) % block, *map(len, blocks)], f"<u{size}").tobytes()
    return header, b"".join(blocks)


def encoded(data, size, compress, text):
    parts = packed(data, size) if compress else (np.array(len(data), f"<u{size}").tobytes() + data,)
    return b"".join(base64.b64encode(part) if text else part for part in parts)


def write(path, form="ascii", size=4, compress=False, extent="0 9 0 13 0 0", kind="PointData", extra=b""):
    """A file with A and B: `form` is ascii, binary, or raw or base64 of appended data."""
    appended, items = b"", b""
    for name, values in (("a", A), ("b", B)):
        data = values.tobytes()
        where, content = f'format="{form}"', b""
        if form == "ascii":
            content = " ".join(map(repr, values.ravel().tolist())).encode()
        elif form == "binary":
            content = b"\n   " + encoded(data, size, compress, True) + b"\n"
        else:
            where = f'format="appended" offset="{len(appended)}"'
            appended += encoded(data, size, compress, form == "base64")
        items += f'<DataArray type="Float32" Name="{name}" {where}>'.encode() + content + b"</DataArray>"
    if appended:
        appended = f'<AppendedData encoding="{form}">\n_'.encode() + appended + b"\n</AppendedData>"
    compressor = 'compressor="vtkZLibDataCompressor"' if compress else ""
    path.write_bytes(
        f'<?xml version="1.0"?>{extra.decode()}<VTKFile type="ImageData" byte_order="LittleEndian" {compressor} '
        f'header_type="UInt{8 * size}"><RD><description>x &lt; y</description></RD><ImageData WholeExtent="{extent}" '
        f'Spacing="0.5 0.5 1"><Piece Extent="{extent}"><{kind}>'.encode()
        + items
        + f"</{kind}></Piece></ImageData>".encode()
        + appended
        + b"</VTKFile>"
    )
    return path


@pytest.mark.parametrize("form", ["ascii", "binary", "raw", "base64"])
@pytest.mark.parametrize("size, compress", [(4, False), (8, False), (4, True), (8, True)])
def test_every_encoding(tmp_path, form, size, compress):
    stack = opened(write(tmp_path / "a.vti", form, size, compress))
    assert stack.about.species == ("a", "b") and stack.about.spacing == 0.5 and stack.dtype == "float32"
    np.testing.assert_array_equal(stack.read(0, 1)[0], np.stack([A, B]))


def test_cells_and_a_choice_of_arrays(tmp_path):
    stack = opened(write(tmp_path / "a.vti", extent="0 10 0 14 0 0", kind="CellData"), species=("b",))
    np.testing.assert_array_equal(stack.read(0, 1)[0, 0], B)
    assert opened(tmp_path / "a.vti", arrays=("b", "a"), species=("u", "v")).about.species == ("u", "v")


def test_ready_says_parameters_and_whether_edges_join(tmp_path):
    values = np.stack([A, B], -1)
    header, blocks = packed(values.tobytes(), 4, 512)
    (tmp_path / "a.vti").write_bytes(
        b"""<?xml version="1.0"?>
        <VTKFile type="ImageData" version="0.1" byte_order="LittleEndian" compressor="vtkZLibDataCompressor">
        <RD format_version="2"><rule type="formula" name="Gray-Scott" wrap="1"><param name="timestep"> 1.0 </param>
        <param name="F"> 0.035 </param><param name="words"> of text </param></rule></RD>
        <ImageData WholeExtent="0 9 0 13 0 0" Origin="0 0 0" Spacing="1 1 1"><Piece Extent="0 9 0 13 0 0"><PointData>
        <DataArray type="Float32" Name="Scalars_" NumberOfComponents="2" format="appended" offset="0" /></PointData>
        <CellData></CellData></Piece></ImageData><AppendedData encoding="base64">
        _"""
        + base64.b64encode(header)
        + base64.b64encode(blocks)
        + b"\n  </AppendedData>\n</VTKFile>\n"
    )
    stack = opened(tmp_path / "a.vti")
    np.testing.assert_array_equal(stack.read(0, 1)[0], np.stack([A, B]))
    about = stack.about
    assert (about.species, about.conditions, about.edges) == (("a", "b"), {"F": 0.035}, ("periodic", "periodic"))


def test_three_dimensions_are_refused(tmp_path):
    assert "10 x 7 x 2: fields of three" in refused(write(tmp_path / "a.vti", extent="0 9 0 6 0 1"))


@pytest.mark.parametrize(
    "extra", [b'<!DOCTYPE v [<!ENTITY a "aaaa">]>', b'<!DOCTYPE v SYSTEM "/etc/passwd">'], ids=["entity", "file"]
)
def test_declarations_of_xml_are_refused(tmp_path, extra):
    assert "declares XML types" in refused(write(tmp_path / "a.vti", extra=extra))


@pytest.mark.parametrize("form", ["ascii", "binary", "raw"])
def test_cut_and_mutated_files(tmp_path, form):
    content = write(tmp_path / "a.vti", form, compress=form == "raw").read_bytes()
    path = tmp_path / "b.vti"
    path.write_bytes(content[: len(content) // 2])
    assert str(path) in refused(path)
    assert "claims" in refused(write(tmp_path / "c.vti", form, extent="0 99999 0 99999 0 0"))
    for n in range(60):
        same_or_refused(path, mutated(content, np.random.default_rng(n)))
