"""The benchmark of growth: what it makes is a sound dataset, and exponents are those of powers."""

import json

import pytest

from p2d.bench import growth
from p2d.cli import main
from p2d.config.bench import BenchGrowthConfig
from p2d.errors import UserError
from p2d.snapshots.simulated import is_finished
from p2d.snapshots.store import open_dataset
from p2d.snapshots.verify import verify


def test_everything_is_done_with_a_sound_dataset(tmp_path):
    growth.make(tmp_path, 20)
    card = open_dataset(tmp_path).card
    assert verify(tmp_path) == []
    assert is_finished(growth.simulation_of(20), tmp_path)
    assert set(card.shards.rows.tolist()) == {1}
    for name in growth.WORK:
        cost = growth.cost_of(name, tmp_path)
        assert 0 <= cost.seconds < 60 and cost.cpu >= 0 and cost.mib > 1
    after = open_dataset(tmp_path).card
    assert (after.dataset_hash, after.ensembles, after.shards) == (card.dataset_hash, card.ensembles, card.shards)


@pytest.mark.parametrize("power", [0.0, 1.0, 1.4])
def test_the_exponent_is_that_of_the_last_ten_times(capsys, power):
    sizes = {str(100 * 10**n): 10.0 ** (power * n if n else 7) for n in range(3)}
    row = {size: {"seconds": 1.0, "cpu": seconds, "mib": 3.0} for size, seconds in sizes.items()}
    growth.print_table({"open": row, "bookkeeping": {"1000000": {"seconds": 0.002}}}, BenchGrowthConfig())
    shown = capsys.readouterr().out
    assert f"{power:.2f}" in shown
    assert "1,000,000 samples are: 2 ms" in shown


@pytest.mark.slow
def test_the_command_measures_each_in_a_process_of_its_own_and_leaves_nothing(tmp_path, capsys):
    main(["bench", "growth", "--most", "100", "-o", str(tmp_path), "--json"])
    costs = json.loads(capsys.readouterr().out)
    assert costs.keys() == {*growth.WORK, "bookkeeping"} - {"nothing"}
    assert all(row.keys() == {"100"} for name, row in costs.items() if name != "bookkeeping")
    assert list(tmp_path.iterdir()) == []


def test_fewer_shards_than_can_be_compared_are_refused():
    with pytest.raises(UserError, match="most"):
        BenchGrowthConfig(most=99)
