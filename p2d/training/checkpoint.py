"""A checkpoint is a folder: model.safetensors, config.json and, to go on from, state.pt. No pickled code in any."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from p2d.errors import UNREADABLE, UserError, one_line, refuse_other_types, unwritable
from p2d.fields import Grid, Scaling
from p2d.places import as_remote
from p2d.runs import recovered, whole_folder, write_json
from p2d.training.history import History

Module = TypeVar("Module", bound=nn.Module)
FORMAT = "p2d checkpoint"
VERSION = 1


def write_checkpoint(
    folder: Path, config: dict[str, Any], weights: dict[str, Tensor], state: dict[str, Any] | None = None
) -> None:
    """Write a checkpoint whole or not at all; the one before goes when this one is whole.

    Args:
        config: kind ('score' or 'flow'), settings of the stage, and what was learnt from (hash and scaling; the
            dataset's and its systems' names).
        weights: the tensors to use.
        state: what training needs to go on: tensors and numbers only. Its `history`, as History.to_dicts
            gives it, is also written as history.json.
    """
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    with whole_folder(folder) as temporary:
        save_file(own, temporary / "model.safetensors")
        write_json(temporary / "config.json", {"format": FORMAT, "version": VERSION, **config})
        if state is not None:
            torch.save(state, temporary / "state.pt")
            History.from_dicts(state["history"]).save(temporary)


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """config.json of a checkpoint.

    Raises:
        UserError: no checkpoint there, a damaged or newer one, or one of another kind.
    """
    file = recovered(folder) / "config.json"
    if not file.is_file():
        raise UserError(f"there is no {kind} model in {folder}; p2d train-{kind} makes one")
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); train the {kind} again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{file} is not the config of a {FORMAT}; name another folder")
    if config.get("kind") != kind:
        raise UserError(f"{folder} holds a {config.get('kind')}, not a {kind} model; name another")
    version = config.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise UserError(f"{file} has version {version}, this p2d reads up to {VERSION}: update p2d")
    try:
        return _upgraded(config)
    except (*UNREADABLE, UserError) as error:
        raise UserError(f"{file} is damaged ({one_line(error)}); train the {kind} again") from error


def _upgraded(config: dict[str, Any]) -> dict[str, Any]:
    """A config whose parts are tables, as it is written now.

    Raises:
        UserError, or one of UNREADABLE: it is none.
    """
    for part in ("settings", "data", "learnt_from"):
        refuse_other_types(config.setdefault(part, {}), dict[str, Any], part)
    data = config["data"]
    if "affine" in data:  # as it was written before species had scalings of their own
        data["scaling"] = Scaling.from_dict(data.pop("affine")).to_dict()
    if isinstance(shape := data.get("grid"), list):  # of before edges and spacing were told
        data["grid"] = Grid(tuple(shape)).to_dict()
    for part, kind in (("scaling", Scaling), ("grid", Grid)):
        if part in data:
            kind.from_dict(data[part])
    return config


def read_checkpoint(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and weights of a checkpoint.

    Raises:
        UserError: as `read_config`, or weights that cannot be read.
    """
    config = read_config(folder, kind)
    try:
        weights = folder / "model.safetensors"
        return config, load_file(weights) if as_remote(weights) is None else load(weights.read_bytes())
    except (SafetensorError, OSError) as error:
        if unwritable(error):  # nothing says that they are damaged
            raise
        raise UserError(f"{folder}/model.safetensors cannot be read ({error}); train the {kind} again") from error


def fitted(build: Callable[[], Module], weights: dict[str, Tensor]) -> Module:
    """A module with these weights, whose shapes are compared before any memory is taken for it.

    Raises:
        RuntimeError: they are those of another module.
    """
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise RuntimeError("weights of another module")
    module = build()
    module.load_state_dict(weights)
    return module


def origin_text(config: dict[str, Any]) -> str:
    """What a model was trained on, in words, as its config.json says."""
    dataset = config.get("learnt_from", {}).get("dataset")
    return f"trained on {dataset}" if dataset else "trained on an unnamed dataset"


def read_state(folder: Path) -> dict[str, Any]:
    """What training goes on from; tensors and numbers only, so that nothing in it can run.

    Raises:
        UserError: it is damaged, or holds anything else.
    """
    try:
        with (folder / "state.pt").open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError, *UNREADABLE) as error:
        raise UserError(
            f"{folder}/state.pt cannot be read ({one_line(error)}); remove {folder} to train anew"
        ) from error
