"""What is held of shards while they are made: little, and the same whatever their order."""

from hashlib import blake2b

import pytest

from p2d.snapshots import ledger as ledgers
from p2d.snapshots.contents import contents
from p2d.snapshots.files import shard_entry
from p2d.snapshots.ledger import DatasetHash, Ledger
from p2d.snapshots.shards import shard_name
from p2d.snapshots.simulated import simulate_here

from .helpers import small

ORDERS = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [3, 0, 5, 4, 1, 2]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six shards of two systems, of which some patterns die."""
    config = small(preset=("holes", "waves"), num_samples=12, height=12, width=16, steps=300)
    return simulate_here(config, tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("order", ORDERS, ids=["in order", "backwards", "mixed"])
@pytest.mark.parametrize("room", [0, 64, 2**20])
def test_the_hash_of_the_rows_is_the_same_in_any_order_and_however_little_is_kept(dataset, monkeypatch, order, room):
    monkeypatch.setattr(ledgers, "DIGESTS_KEPT", room)
    one = DatasetHash()
    entries = [bytes.fromhex(shard_entry(dataset.folder / shard_name(n))["digests"]) for n in range(6)]
    for number in order:
        one.put(number, entries[number])
        assert sum(map(len, one._early.values())) == one._bytes <= room
    digests = b"".join(entries)
    assert one.of(dataset.folder, 6) == blake2b(digests, digest_size=16).hexdigest() == dataset.card.dataset_hash


@pytest.mark.parametrize("together", [2, 16])
@pytest.mark.parametrize("order", ORDERS, ids=["in order", "backwards", "mixed"])
def test_the_ensembles_are_the_same_to_the_last_bit_in_any_order(dataset, monkeypatch, order, together):
    monkeypatch.setattr(ledgers, "TOGETHER", together)
    ledger = Ledger(6)
    for number in order:
        assert number not in ledger
        ledger.put(number, shard_entry(dataset.folder / shard_name(number)))
        assert number in ledger
        ledger.put(number, shard_entry(dataset.folder / shard_name(number)))
    made = contents(dataset.folder, dataset.card, ledger, True, map)
    assert made["ensembles"] == dataset.card.ensembles
    assert list(made["ensembles"]) == ["holes", "waves"]
    assert (made["samples"], made["alive"]) == (24, dataset.card.alive)
    assert dataset.card.alive < 24


def test_the_ensembles_do_not_depend_on_the_chunk(tmp_path):
    cards = [simulate_here(small(chunk=chunk), tmp_path / str(chunk)).card for chunk in (1, 4, 5, 64)]
    assert cards[0].ensembles["waves"].change.z is not None
    assert all((card.ensembles, card.dataset_hash) == (cards[0].ensembles, cards[0].dataset_hash) for card in cards)
