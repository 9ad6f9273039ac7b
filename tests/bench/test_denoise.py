"""The benchmark of denoising: its rows add up, and the filter is at its best width."""

import json

import pytest
import torch

from p2d.bench.denoise import WIDTHS, _filtered
from p2d.cli import main
from p2d.config import SimulateConfig
from p2d.config.bench import BenchDenoiseConfig
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.snapshots.simulated import simulate_here


def test_the_command_prints_every_error_beside_its_yardsticks(tmp_path, capsys):
    config = SimulateConfig(preset=("maze",), num_samples=12, height=32, width=32, steps=200, device="cpu")
    simulate_here(config, tmp_path / "data" / "maze_32x32")
    arguments = ["bench", "denoise", "-m", "maze", "-o", str(tmp_path), "-n", "1", "--noise", "0.05", "--threads", "1"]
    main([*arguments, "--json"])
    row = json.loads(capsys.readouterr().out)["0.05"]
    # 2 x 32 x 32 squared normals: a relative sd of sqrt(1 / 4096) = 0.016 of their root mean square
    assert row["before"] == pytest.approx(0.05, rel=0.06)
    assert row["to_bound"] == row["denoised"] / row["bound"]
    assert row["to_gaussian"] == row["denoised"] / row["gaussian"]
    assert row["gaussian"] < row["before"] and row["linear"] < row["before"] and row["denoised"] < row["before"]
    assert WIDTHS[0] < row["gaussian_width"] < WIDTHS[-1]
    main(arguments)
    assert "Gaussian filter" in capsys.readouterr().out


def test_the_filter_is_periodic_and_keeps_the_mean():
    states = torch.randn(2, 2, 12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    smooth = _filtered(states, 1.5, Grid((12, 16)))
    # float64 sums in another order; the kernel is cut at four widths and made to add up to 1
    torch.testing.assert_close(smooth.mean((-2, -1)), states.mean((-2, -1)), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        _filtered(states.roll((3, -5), (-2, -1)), 1.5, Grid((12, 16))), smooth.roll((3, -5), (-2, -1))
    )
    assert (smooth.std() < states.std() / 3).all()


@pytest.mark.parametrize(("key", "value"), [("epochs", 0), ("noise", (0.0,)), ("noise", (1.5,)), ("holdout", 1.0)])
def test_settings_that_are_not_possible_are_refused(key, value):
    with pytest.raises(UserError, match=key):
        BenchDenoiseConfig(**{key: value})
