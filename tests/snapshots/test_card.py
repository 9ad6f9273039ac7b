"""The dataset card: plain JSON that says what the shards say; what is none of ours is told in one line."""

import dataclasses
import json
from hashlib import blake2b

import numpy as np
import pytest
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.observables import Change, Sums
from p2d.snapshots.card import Card, card_hash, load_card, write_card
from p2d.snapshots.files import file_hash
from p2d.snapshots.schema import array_of
from p2d.snapshots.shards import shard_name
from p2d.snapshots.simulated import is_finished, simulate_here
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify
from p2d.systems.system import Run

from .helpers import altered_card, gray_scott, read_rows, simulation_of, small, with_living

READERS = {
    "open": open_dataset,
    "verify": verify,
    "look whether it is finished": lambda folder: is_finished(simulation_of(), folder),
    "go on": lambda folder: simulate_here(small(), folder),
}


def test_the_card_is_plain_json_that_says_what_the_shards_say(tmp_path):
    config = small(preset=("waves", "life"), normalize=False)
    simulate_here(config, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["settings"] == config.simulation().identity()
    assert card["grid"] == {"shape": [10, 12], "spacing": 1.0, "edges": ["periodic", "periodic"], "unit": ""}
    assert card["species"] == [{"name": name, "unit": "", "low": 0, "high": 1} for name in ("u", "v")]
    assert (card["samples"], card["alive"], card["complete"]) == (20, 20, True)
    assert (card["version"], card["chunk"], card["device"], card["dead_share"]) == (4, 4, "cpu", 0.0)
    for name in ("waves", "life"):
        system = dataclasses.replace(gray_scott(name), run=Run(1.0, 30, 1.0))
        assert card["systems"][name] == json.loads(json.dumps(system.to_dict()))
        assert card["conditions"][name] == system.parameters
    assert list(card["systems"]) == list(card["conditions"]) == ["waves", "life"]
    assert card["scaling"] == {"shift": [0.0, 0.0], "scale": [1.0, 1.0]}
    assert card["software"].keys() >= {"python", "p2d", "numpy", "numba", "pyarrow"}
    files = [tmp_path / shard_name(i) for i in range(6)]
    assert card["shards"] == {
        "rows": "4 4 2 4 4 2",
        "alive": "4 4 2 4 4 2",
        "size": " ".join(str(file.stat().st_size) for file in files),
        "first_run": "0 4 8 10 14 18",
        "kind": "0 0 0 1 1 1",
        "hash": " ".join(map(file_hash, files)),
        "kinds": [
            {"system": name, "seed": 0, "runs": [0], "steps": [30], "time": [30.0]} for name in ("waves", "life")
        ],
        "mixed": {},
    }


def test_the_card_says_what_each_ensemble_is_like(tmp_path):
    dataset = simulate_here(small(preset=("waves", "life")), tmp_path)
    for name, ids in (("waves", np.arange(10)), ("life", np.arange(10, 20))):
        ensemble = dataset.card.ensembles[name]
        states = dataset.states(ids).astype(np.float64)
        assert (ensemble.samples, ensemble.alive) == (10, 10)
        moments = [*ensemble.mean.values(), *ensemble.std.values()]
        assert list(ensemble.mean) == list(ensemble.std) == ["u", "v"]
        # the card rounds to nine digits
        assert_close(moments, [*states.mean((0, 2, 3)), *states.std((0, 2, 3))], rtol=6e-9, atol=0)
        rows = read_rows(tmp_path, ("averages", "averages_before")).slice(ids[0], 10)
        before, after = (array_of(rows, column) for column in ("averages_before", "averages"))
        every = np.ones(10, bool)
        assert ensemble.change == Change.between(Sums.over(before, after, every, every, 2), ("u", "v"))
        assert ensemble.change.z is not None


def test_the_dead_count_as_samples_and_not_in_the_averages(tmp_path):
    alive = [i % 3 != 0 for i in range(13)]
    card = with_living(tmp_path, alive).card
    states = open_dataset(tmp_path).states(np.flatnonzero(alive)).astype(np.float64)
    assert (card.samples, card.alive, card.dead_share) == (13, 8, round(5 / 13, 6))
    assert (card.ensembles["waves"].samples, card.ensembles["waves"].alive) == (13, 8)
    # the card rounds to nine digits
    assert_close(card.ensembles["waves"].std["v"], states[:, 1].std(), rtol=6e-9, atol=0)


def test_the_hash_is_that_of_the_digests_in_the_order_of_samples(tmp_path):
    card = simulate_here(small(), tmp_path).card
    digests = read_rows(tmp_path, ("digest",)).column("digest").to_pylist()
    assert len(set(digests)) == 10
    one, other = (blake2b(b"".join(rows), digest_size=16).hexdigest() for rows in (digests, digests[::-1]))
    assert card.dataset_hash == one != other


def test_a_card_comes_back_from_its_file(tmp_path):
    card = dataclasses.replace(simulate_here(small(preset=("life", "maze")), tmp_path).card, seconds=1.25)
    write_card(tmp_path, card)
    assert load_card(tmp_path) == dataclasses.replace(card, card_hash=card_hash(card.to_dict()))
    assert card_hash(json.loads((tmp_path / "card.json").read_text())) == load_card(tmp_path).card_hash
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("", "not JSON"),
        ('{"format": "p2d da', "not JSON"),
        ("[1, 2]", "not the card"),
        ('{"name": "another program"}', "not the card"),
        ('{"format": "p2d dataset"}', "damaged .its version is None."),
        ('{"format": "p2d dataset", "version": 3, "grid": [4, 4]}', "damaged"),
        ('{"format": "p2d dataset", "version": 3, "grid": 4}', "damaged"),
        ('{"format": "p2d dataset", "version": 3}', "damaged"),
        ('{"format": "p2d dataset", "version": 3, "shards": [{"name": "a"}]}', "without its hash"),
        ('{"format": "p2d dataset", "version": 2, "grid": [4, 4]}', "damaged"),
        ('{"format": "p2d dataset", "version": 2, "grid": 4}', "damaged"),
        ('{"format": "p2d dataset", "version": 2}', "damaged"),
        ('{"format": "p2d dataset", "version": "2"}', "damaged .its version is '2'."),
        ('{"format": "p2d dataset", "version": 2, "grid": [4, 4], "shards": [{"name": "a"}]}', "damaged"),
    ],
)
def test_a_card_that_is_none_of_ours_is_told(tmp_path, read, card, told):
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(UserError, match=f"{tmp_path}/card.json.*{told}"):
        read(tmp_path)
    assert (tmp_path / "card.json").read_text() == card


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("version", "told"),
    [
        (5, "card.json has version 5, this p2d reads version 4: update p2d"),
        (99, "card.json has version 99, this p2d reads version 4: update p2d"),
        (1, r" was written by an earlier p2d \(version 1 .*, now 4\); simulate it again under another --name"),
    ],
)
def test_a_card_of_another_version_is_told_in_one_line_that_says_what_to_do(tmp_path, read, version, told):
    simulate_here(small(), tmp_path)
    altered_card(tmp_path, version=version)
    before = (tmp_path / "card.json").read_bytes()
    with pytest.raises(UserError, match=f"^{tmp_path}/?{told}$") as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "card.json").read_bytes() == before


def test_a_card_with_a_key_that_nobody_knows_is_told(tmp_path):
    simulate_here(small(), tmp_path)
    altered_card(tmp_path, colour="blue")
    with pytest.raises(UserError, match=r"card\.json is damaged.*colour"):
        open_dataset(tmp_path)
