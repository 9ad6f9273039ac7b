"""Checkpoints: what is written comes back, what is damaged is told, and nothing in them can run."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.training import checkpoint
from p2d.training.checkpoint import read_checkpoint, read_config, read_state, write_checkpoint
from p2d.training.history import History

CONFIG = {
    "kind": "score",
    "settings": {"channels": [8, 8], "alpha": [0.5, 0.999]},
    "data": {"scaling": {"shift": [0.5, 0.5], "scale": [0.5, 0.5]}, "dataset_hash": "0" * 32},
}
HISTORY = [{"epoch": 0, "validation_loss": 1.5}, {"epoch": 1, "validation_loss": 0.1 + 0.2}]


def some_weights() -> dict[str, torch.Tensor]:
    """Tensors of several kinds: a transposed one, two that share their memory, a number, integers."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(4, 3, generator=generator)
    return {
        "plain": table,
        "transposed": torch.randn(5, 2, generator=generator).T,
        "shared": table[1:],
        "double": torch.randn(3, dtype=torch.float64, generator=generator),
        "number": torch.tensor(0.1),
        "count": torch.tensor([3, 2**40]),
    }


def trained_state() -> dict:
    """What a training leaves to go on from: weights, the optimizer's state after two steps, and numbers."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    for _ in range(2):
        weight.grad = weight.detach() ** 2
        optimizer.step()
    return {"raw": {"w": weight.detach()}, "optimizer": optimizer.state_dict(), "step": 2, "history": HISTORY}


def written(tmp_path: Path, **config) -> Path:
    folder = tmp_path / "model"
    write_checkpoint(folder, {**CONFIG, **config}, some_weights(), trained_state())
    return folder


def test_weights_and_config_come_back_to_the_last_bit(tmp_path):
    config, weights = read_checkpoint(written(tmp_path), "score")
    assert {k: config[k] for k in CONFIG} == CONFIG
    assert_close(weights, some_weights(), rtol=0, atol=0)


def test_one_affine_map_of_before_is_read_as_a_scaling_of_each_species(tmp_path):
    data = {"affine": {"scale": 2.0, "shift": -1.0}, "dataset_hash": "0" * 32}
    assert read_config(written(tmp_path, data=data), "score")["data"] == CONFIG["data"]


def test_rows_and_columns_of_before_are_read_as_a_periodic_grid(tmp_path):
    read = read_config(written(tmp_path, data={**CONFIG["data"], "grid": [12, 10]}), "score")["data"]
    assert Grid.from_dict(read["grid"]) == Grid((12, 10))
    grid = Grid((4, 6), 0.5, ("mirror", "open"), "mm").to_dict()
    assert read_config(written(tmp_path, data={**CONFIG["data"], "grid": grid}), "score")["data"]["grid"] == grid


def test_the_state_of_training_comes_back_to_the_last_bit(tmp_path):
    before, after = trained_state(), read_state(written(tmp_path))
    assert_close(after["raw"], before["raw"], rtol=0, atol=0)
    assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)
    assert after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"]
    assert (after["step"], after["history"]) == (2, HISTORY)


def test_the_history_is_readable_beside_the_weights(tmp_path):
    assert History.load(written(tmp_path)).to_dicts() == HISTORY


def test_a_checkpoint_replaces_the_one_before_it_whole(tmp_path):
    folder = written(tmp_path)
    write_checkpoint(folder, CONFIG, {"w": torch.zeros(2)})
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert_close(read_checkpoint(folder, "score")[1], {"w": torch.zeros(2)}, rtol=0, atol=0)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_write_that_fails_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    folder = written(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(folder, CONFIG, {"w": torch.zeros(2)}, trained_state())
    assert_close(read_checkpoint(folder, "score")[1], some_weights(), rtol=0, atol=0)


def test_a_checkpoint_is_read_that_was_put_aside_by_a_process_that_was_killed_then(tmp_path):
    folder = written(tmp_path)
    folder.rename(tmp_path / ".model.old")
    assert_close(read_checkpoint(folder, "score")[1], some_weights(), rtol=0, atol=0)


@pytest.mark.parametrize(("made", "asked"), [("score", "flow"), ("flow", "score")])
def test_a_model_of_another_kind_is_refused(tmp_path, made, asked):
    folder = written(tmp_path, kind=made)
    with pytest.raises(UserError, match=f"{folder} holds a {made}, not a {asked} model"):
        read_config(folder, asked)


def test_json_that_is_no_checkpoint_is_refused(tmp_path):
    folder = written(tmp_path, format="another program's", kind="score")
    with pytest.raises(UserError, match="is not the config of a p2d checkpoint"):
        read_checkpoint(folder, "score")


def test_a_newer_version_is_refused_and_named(tmp_path):
    folder = written(tmp_path, version=99)
    with pytest.raises(UserError, match=r"version 99.*reads up to 1.*update p2d"):
        read_checkpoint(folder, "score")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_config_is_told(tmp_path, share):
    file = written(tmp_path) / "config.json"
    text = file.read_text()
    file.write_text(text[: int(share * len(text))])
    with pytest.raises(UserError, match=f"{file} is damaged"):
        read_checkpoint(file.parent, "score")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_cut_weights_are_told(tmp_path, share):
    file = written(tmp_path) / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=f"{file} cannot be read"):
        read_checkpoint(file.parent, "score")


def test_missing_weights_are_told(tmp_path):
    folder = written(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=re.escape(f"{folder}/model.safetensors cannot be read")):
        read_checkpoint(folder, "score")


@pytest.mark.parametrize("kind", ["score", "flow"])
def test_a_missing_checkpoint_names_the_command_that_makes_one(tmp_path, kind):
    for folder in (tmp_path / "nothing", tmp_path):
        with pytest.raises(UserError, match=f"no {kind} model in {folder}; p2d train-{kind} makes one"):
            read_checkpoint(folder, kind)


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_a_state_that_holds_an_object_is_refused_before_it_runs(tmp_path):
    folder, sprung = written(tmp_path), tmp_path / "sprung"
    torch.save({**trained_state(), "extra": Trap(sprung)}, folder / "state.pt")
    with pytest.raises(UserError, match=r"state.pt cannot be read \(Weights only load failed"):
        read_state(folder)
    assert not sprung.exists()
    torch.load(folder / "state.pt", weights_only=False)
    assert sprung.exists()  # the trap does work where it is let


def test_a_checkpoint_is_json_and_safetensors_to_any_reader(tmp_path):
    folder = written(tmp_path)
    assert json.loads((folder / "config.json").read_text())["settings"] == CONFIG["settings"]
    size = int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")
    header = json.loads((folder / "model.safetensors").read_bytes()[8 : 8 + size])
    assert header["transposed"]["shape"] == [2, 5]
