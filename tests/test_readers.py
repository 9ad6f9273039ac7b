"""Readers of files that anybody may have written: of any damage they make one line, or what they were to read."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2d.config import DiscoverConfig, FlowConfig, ScoreConfig, SimulateConfig
from p2d.discovery.result import Discovery
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.flow.model import Flow
from p2d.flow.velocity import LocalField
from p2d.score.model import ScoreModel
from p2d.snapshots.card import Card, load_card
from p2d.snapshots.frames import read_frames, write_frames
from p2d.snapshots.simulated import simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify
from p2d.systems import expressions
from p2d.systems.reading import CATALOGUE, load_system, toml_text
from p2d.training.checkpoint import write_checkpoint

from .discovery.test_result import discovery

# One series of examples, the same each time; none takes long, so that a reader that hangs is found, too.
few = settings(
    max_examples=40,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1, 3, 10**12, "", "0", "auto", "../x", "u", math.nan, math.inf]),
    st.floats(),
    st.text(max_size=8),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def places(values, path=()):
    """The paths of all values in a tree of JSON."""
    yield path
    inner = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


@st.composite
def altered(draw, values):
    """A tree of JSON in which one to three values are others, are left out, or are put into another's place."""
    values = copy.deepcopy(values)
    for _ in range(draw(st.integers(1, 3))):
        *way, key = draw(st.sampled_from(list(places(values))[1:]))
        inside = values
        for step in way:
            inside = inside[step]
        if draw(st.integers(0, 3)):
            inside[key] = draw(JSON)
        else:
            del inside[key]
        if not list(places(values))[1:]:
            break
    return values


@st.composite
def damaged(draw, data: bytes):
    """Bytes that are cut, altered here and there, or have others put in."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        put = draw(st.binary(min_size=1, max_size=4))
        data = draw(
            st.sampled_from(
                [data[:place], data[:place] + put + data[place + len(put) :], data[:place] + put + data[place:]]
            )
        )
    return data


def read(reader, *arguments):
    """What it reads; None of what it refuses in one line."""
    try:
        return reader(*arguments)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    config = SimulateConfig(num_samples=4, height=8, width=8, steps=20, chunk=2, device="cpu", threads=1)
    simulate_here(config, folder)
    return folder


@few
@given(st.data())
def test_a_card(dataset, tmp_path, data):
    values = json.loads((dataset / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(data.draw(altered(values))))
    for name in ("shard-00000.parquet", "shard-00001.parquet"):
        (tmp_path / name).write_bytes((dataset / name).read_bytes())
    card = read(load_card, tmp_path)
    if card:
        assert Card.from_dict(card.to_dict()).to_dict() is not None
    opened = read(open_dataset, tmp_path)
    if opened:
        read(opened.states)
        read(verify, tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "\x00", "null", "[]", '"', "\ufeff{}"]
)
@pytest.mark.parametrize("name", ["card.json", "config.json", "equation.json"])
def test_json_that_is_nested_or_long_without_end(tmp_path, text, name):
    (tmp_path / name).write_text(text)
    for reader in (load_card, Flow.load, Discovery.load):
        with pytest.raises(UserError) as refused:
            reader(tmp_path)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@few
@given(st.data())
def test_a_card_of_other_bytes(dataset, tmp_path, data):
    (tmp_path / "card.json").write_bytes(data.draw(damaged((dataset / "card.json").read_bytes())))
    read(load_card, tmp_path)


@few
@given(st.data())
def test_a_shard(dataset, tmp_path, data):
    for name in ("card.json", "shard-00001.parquet"):
        (tmp_path / name).write_bytes((dataset / name).read_bytes())
    shard = (dataset / "shard-00000.parquet").read_bytes()
    footer = int.from_bytes(shard[-8:-4], "little") + 8
    cut = data.draw(st.sampled_from([0, len(shard) - footer]))  # anywhere, and in the footer alone
    (tmp_path / "shard-00000.parquet").write_bytes(shard[:cut] + data.draw(damaged(shard[cut:])))
    opened = open_dataset(tmp_path)
    read(opened.states)
    read(lambda: opened.index)
    assert all(fault.name and fault.what for fault in verify(tmp_path))


@few
@given(st.data())
def test_frames(tmp_path, data):
    write_frames(tmp_path / "frames.parquet", [0, 5], {"flow": np.zeros((2, 2, 4, 4), np.float32)})
    (tmp_path / "frames.parquet").write_bytes(data.draw(damaged((tmp_path / "frames.parquet").read_bytes())))
    read(read_frames, tmp_path / "frames.parquet")


@few
@given(st.data())
def test_an_equation(tmp_path, data):
    simulable = load_system("gray_scott").at("waves")
    values = {"found": discovery(simulable=simulable).to_dict()}
    (tmp_path / "equation.json").write_text(json.dumps(data.draw(altered(values))))
    equation = read(Discovery.load, tmp_path)
    if equation:
        assert str(equation) and repr(equation) and equation.to_dict() and read(lambda: equation.system)


@pytest.fixture(scope="module", params=["flow", "score"])
def model(request, tmp_path_factory):
    """The reader of a model's checkpoint, and the files of one."""
    settings = {"flow": FlowConfig(hidden=(4,)), "score": ScoreConfig(channels=(4,), alpha=(0.5, 0.99))}[request.param]
    made = {"flow": LocalField((4,)), "score": ScoreModel((4,), (0.5, 0.99))}[request.param]
    data = {"scaling": {"shift": [0.0, 0.0], "scale": [1.0, 1.0]}, "grid": Grid((8, 8)).to_dict()}
    config = {"kind": request.param, "settings": settings.to_dict(), "data": data, "learnt_from": {"dataset": "waves"}}
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, config, made.state_dict())
    reader = {"flow": Flow.load, "score": ScoreModel.load}[request.param]
    return reader, *((folder / name).read_bytes() for name in ("config.json", "model.safetensors"))


@few
@given(st.data())
def test_a_model(model, tmp_path, data):
    reader, config, weights = model
    other_config = json.dumps(data.draw(altered(json.loads(config)))).encode()
    for files in ((other_config, weights), (config, data.draw(damaged(weights)))):
        for name, content in zip(("config.json", "model.safetensors"), files, strict=True):
            (tmp_path / name).write_bytes(content)
        read(reader, tmp_path)


WORDS = st.sampled_from(
    [
        *"uvFk()+-*/,.^ 019",
        "**",
        "lap(",
        "grad(",
        "d(",
        "exp(",
        ", x)",
        "1e9",
        "1e999",
        "__import__",
        "lambda:",
        "u.v",
        "[u]",
        "'u'",
        "\\",
        "\n",
        "é",
        "if",
        "9**9",
    ]
)
TEXTS = st.lists(WORDS, max_size=25).map("".join) | st.text(max_size=30)


@few
@given(TEXTS)
def test_an_expression(text):
    tree = read(expressions.parse, text, ("u", "v"), ("F", "k"))
    if tree is not None:
        read(expressions.folded, tree, ("u", "v"), {"F": 0.5, "k": 0.0})
    read(expressions.split, text, ("u", "v"))
    read(lambda: DiscoverConfig(terms=text, known=text))


@few
@given(st.data())
def test_a_system(tmp_path, data):
    source = data.draw(st.sampled_from(sorted(CATALOGUE.glob("*.toml")))).read_bytes()
    word = st.sampled_from(
        ["lap(", "nan", "inf", "[run]\n", "dt = -1\n", "= ", '"', "1e400", "\x00", "..", "{", "[[", "u"]
    )
    put = data.draw(
        damaged(source)
        | st.tuples(st.integers(0, len(source)), word).map(
            lambda put: source[: put[0]] + put[1].encode() + source[put[0] :]
        )
    )
    (tmp_path / "own.toml").write_bytes(put)
    system = read(load_system, tmp_path / "own.toml")
    if system:
        assert toml_text(system) and system.label
        read(lambda: str(system))
