"""A dataset that version 2 wrote, which knew Gray-Scott alone: opened, verified and known again as what it is.

Its folder was made by that version, with
`p2d simulate -p waves --feed 0.018 0.02 -n 3 --chunk 3 --height 8 --width 10 --steps 40 --seed 5`.
"""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from p2d.config import SimulateConfig
from p2d.errors import UserError
from p2d.fields import Grid, Scaling, Species
from p2d.snapshots.card import VERSION, load_card
from p2d.snapshots.made import labels_like
from p2d.snapshots.simulated import is_finished, simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import Fault, verify
from p2d.systems.system import Run

from .helpers import advanced, altered, altered_card, begun, contents, gray_scott

KEPT = Path(__file__).parent / "version_2"
ASKED = SimulateConfig(
    set=("F=0.018,0.02",), num_samples=3, height=8, width=10, steps=40, seed=5, chunk=3, device="cpu", threads=1
)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(KEPT, tmp_path / "old"))


def test_it_opens_as_gray_scott_on_a_periodic_grid_of_spacing_1():
    card = open_dataset(KEPT).card
    assert (card.version, card.written) == (VERSION, 2) == (4, 2)
    assert card.species == (Species("u"), Species("v"))
    assert card.grid == Grid((8, 10))
    assert list(card.systems) == list(card.ensembles) == ["waves", "F0.02_k0.049"]
    for label, feed in (("waves", 0.018), ("F0.02_k0.049", 0.02)):
        system = card.systems[label]
        assert system.parameters == card.conditions[label] == {"D_u": 0.16, "D_v": 0.08, "F": feed, "k": 0.049}
        assert system.rates == gray_scott().rates
        assert (system.run, system.label) == (Run(1.0, 40, 1.0), label)
        assert (card.ensembles[label].samples, card.ensembles[label].alive) == (3, 3)
    assert (card.samples, card.alive, card.chunk, card.complete) == (6, 6, 3, True)


def test_its_states_are_what_they_were():
    dataset = open_dataset(KEPT)
    states = dataset.states(np.arange(6))
    # as the version that wrote it read them
    known = "cd8874fbe90dcb76532b8431b7a4189875fe28ef8ea04eaa35f1172390c06e22"
    assert hashlib.sha256(states.tobytes()).hexdigest() == known
    assert dataset.card.dataset_hash == "3795e6d4acc76545ff9a71844282ea75"
    start = begun(gray_scott(), 5, np.arange(6), 8, 10)
    assert states[:3].tobytes() == advanced(start[:3], gray_scott(), 40).tobytes()
    assert states[3:].tobytes() == advanced(start[3:], gray_scott(F=0.02), 40).tobytes()
    for ensemble, part in zip(dataset.card.ensembles.values(), (states[:3], states[3:]), strict=True):
        # the card rounds to nine digits after the point
        assert_allclose([*ensemble.mean.values()], part.mean(axis=(0, 2, 3), dtype=np.float64), atol=6e-10)
        assert_allclose([*ensemble.std.values()], part.astype(np.float64).std(axis=(0, 2, 3)), atol=6e-10)


def test_its_index_is_that_of_version_3():
    dataset = open_dataset(KEPT)
    assert dataset.index.to_pylist() == [
        {
            "sample_id": i,
            "run_id": i,
            "seed": 5,
            "system": "waves" if i < 3 else "F0.02_k0.049",
            "steps": 40,
            "time": 40.0,
            "alive": True,
        }
        for i in range(6)
    ]
    assert_array_equal(dataset.living, np.arange(6))
    assert [s.parameters["F"] for s in dataset.systems_of(np.array([5, 0, 3]))] == [0.02, 0.018, 0.02]
    assert [len(part) for part in labels_like(dataset).values()] == [3, 3]
    assert_array_equal(np.sort(np.concatenate(dataset.split(0.2))), np.arange(6))


def test_training_sees_2_c_minus_1():
    dataset = open_dataset(KEPT)
    assert dataset.scaling == Scaling((0.5, 0.5), (0.5, 0.5))
    states = dataset.states()
    assert_allclose(dataset.scaling.to_training(states), 2 * states - 1, atol=1e-7)


def test_it_has_no_faults_and_those_that_it_gets_are_named(folder):
    assert verify(folder) == []
    shard = folder / "shard-00001.parquet"
    whole = shard.read_bytes()
    for place in range(7, len(whole), 997):
        shard.write_bytes(altered(whole, place))
        assert [fault.name for fault in verify(folder)] == ["shard-00001.parquet"]
    shard.write_bytes(whole)
    for key, value in (("samples", 7), ("alive", 5), ("dataset_hash", "0" * 32)):
        shutil.copy(KEPT / "card.json", folder)
        altered_card(folder, **{key: value})
        assert verify(folder) == [Fault("card.json", f"{key} is not that of the rows")]
    shutil.copy(KEPT / "card.json", folder)
    rates = {label: {"D_u": 0.16, "D_v": 0.08, "F": 0.02, "k": 0.05, "dt": 1.0} for label in load_card(KEPT).systems}
    altered_card(folder, parameters=rates)
    assert verify(folder) == [Fault("card.json", "altered since it was written")]


@pytest.mark.parametrize("told", [{}, {"chunk": 64, "actors": 2}, {"set": ("F=0.02,0.018", "k=0.049"), "dt": 1.0}])
def test_the_same_command_knows_it_again(folder, told):
    config = SimulateConfig.from_dict({**ASKED.to_dict(), **told})
    before = contents(folder), (folder / "card.json").read_bytes()
    assert is_finished(config.simulation(), folder)
    assert simulate_here(config, folder).card == load_card(KEPT)
    assert (contents(folder), (folder / "card.json").read_bytes()) == before


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seed": 6}, "seed is 5 there, 6 was asked"),
        (
            {"steps": 41},
            "systems.F0.02_k0.049.run.steps is 40 there, 41 was asked; systems.waves.run.steps is 40 there",
        ),
        ({"set": ("F=0.018",)}, "systems is ['waves', 'F0.02_k0.049'] there, ['waves'] was asked"),
        ({"edges": ("mirror",)}, "grid.edges is ['periodic', 'periodic'] there, ['mirror', 'mirror'] was asked"),
    ],
)
def test_another_command_is_told_what_differs(folder, other, told):
    with pytest.raises(UserError, match=f"was made with other settings: {re.escape(told)}"):
        simulate_here(SimulateConfig.from_dict({**ASKED.to_dict(), **other}), folder)


@pytest.mark.parametrize("complete", [True, False])
def test_one_that_is_unfinished_or_lacks_a_shard_is_not_mixed_with_newer_shards(folder, complete):
    if not complete:
        altered_card(folder, complete=False, shards=[], dataset_hash="")
    (folder / "shard-00001.parquet").unlink()
    before = contents(folder)
    told = (
        f"the dataset {folder} was begun by an earlier p2d, which alone can finish or mend it; "
        "take another --name or --out, or remove it"
    )
    with pytest.raises(UserError, match=f"^{re.escape(told)}$"):
        simulate_here(ASKED, folder)
    assert contents(folder) == before


def test_one_without_normalization_is_trained_on_as_it_is(folder):
    altered_card(folder, affine={"scale": 1.0, "shift": 0.0})
    assert open_dataset(folder).scaling == Scaling((0.0, 0.0), (1.0, 1.0))


def test_its_shards_are_of_the_columns_that_version_2_had():
    columns = pq.read_table(KEPT / "shard-00000.parquet").column_names
    assert {"preset", "D_u", "D_v", "F", "k", "dt", "observed", "observed_before"} < set(columns)
    assert not {"system", "time", "averages"} & set(columns)
