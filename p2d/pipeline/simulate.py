"""Datasets: simulated, and verified."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from p2d.config.base import values_set
from p2d.config.simulate import SimulateConfig, Simulation
from p2d.errors import UserError
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import DATA, EQUATION
from p2d.snapshots.card import SHARD_VERSION, load_card
from p2d.snapshots.simulated import is_finished, with_starts
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.verify import Fault
from p2d.snapshots.verify import verify as check_dataset
from p2d.snapshots.writing import ensembles_text
from p2d.tracking.datasets import MADE


def simulate(config: SimulateConfig, out: Path, track: Tracker) -> Outcome:
    """Simulate a dataset into OUT/data/NAME."""
    folder = DATA.place(out, config.dataset_name)
    simulation = resolve_simulation(config, out)
    if is_finished(simulation, folder):
        return Outcome("simulate", False, folder, dataset_facts(open_dataset(folder)))
    from p2d.cluster.shards import find_device
    from p2d.cluster.shards import simulate as simulate_on_ray

    start = time.monotonic()
    find_device(config.wished_device)  # refused before a run is tracked
    total = config.num_samples * len(simulation.systems)
    with stage(track, "simulate", folder, config.to_dict()) as child:
        with progress("simulate", total, "snapshots") as advance:
            dataset = simulate_on_ray(simulation, config, folder, advance)
        for name, ensemble in dataset.card.ensembles.items():
            prefix = f"{name}_" if len(dataset.card.ensembles) > 1 else ""
            child.metrics({prefix + k: v for k, v in ensemble.to_dict().items() if isinstance(v, int | float)})
        child.artifact(folder / "card.json")
        child.dataset(dataset, MADE)
    for line in ensembles_text(dataset.card):
        say(f"  {line}")
    return Outcome("simulate", True, folder, dataset_facts(dataset), time.monotonic() - start)


def resolve_simulation(config: SimulateConfig, out: Path) -> Simulation:
    """What the settings come to, with the equation and the dataset of initial states that they name."""
    if not config.equation:
        return with_starts(config.simulation(), out)
    from p2d.discovery.result import Discovery

    equation = Discovery.load(EQUATION.find(out, config.equation))
    for name, values in values_set(config.set).items():
        for value in values:
            equation.at(**{name: value})
            if beyond := equation.beyond({name: value}):
                say(f"  {beyond}")
    if (grid := equation.grid) is not None:  # its lengths are those of the data
        spacing = config.spacing or f"{grid.spacing!r}{grid.unit}"
        edges = config.edges or tuple("mirror" if edge == "open" else edge for edge in grid.edges)
        config = replace(config, spacing=spacing, edges=edges)
    return with_starts(config.simulation(equation.system), out)


def dataset_facts(dataset: Dataset) -> dict[str, Any]:
    """What --json tells of a dataset."""
    card = dataset.card
    facts = {"dataset_hash": card.dataset_hash, "samples": card.samples, "alive": card.alive}
    return {**facts, "ensembles": {label: ensemble.to_dict() for label, ensemble in card.ensembles.items()}}


def verify(name: str, out: Path, repair: bool) -> tuple[Path, list[Fault]]:
    """Re-read a whole dataset; with `repair`, simulate exactly its missing and damaged shards again.

    A foreign shard is renamed, with '.foreign' at its end, so that no reader takes it for one of the dataset's.

    Returns:
        Its folder, and what is wrong with it (after the repair).

    Raises:
        UserError: no such dataset, or one whose card cannot be read; shards that come out otherwise than they were.
    """
    folder = DATA.find(out, name)
    faults = check_dataset(folder)
    if not (faults and repair):
        return folder, faults
    for fault in faults:
        say(f"  {fault}")
    card = load_card(folder)
    if card.written != SHARD_VERSION:
        raise UserError(
            f"{folder} was written by an earlier p2d, which alone can repair it; simulate it anew under another --name"
        )
    for fault in faults:
        if card.shards.knows(fault.name):  # it may be as large and as old as the card says, by which it would be kept
            (folder / fault.name).unlink(missing_ok=True)
    if card.origin:
        raise UserError(f"{folder} was not simulated but {card.origin['kind']}; the same {card.command} restores it")
    simulation = Simulation.of_settings(card.settings, card.chunk)
    config = SimulateConfig.from_dict({"device": card.device or "auto"})
    for fault in faults:
        if fault.name.endswith(".parquet") and not card.shards.knows(fault.name):
            (folder / fault.name).rename(folder / f"{fault.name}.foreign")
    if any(card.shards.knows(fault.name) for fault in faults) or not card.complete:
        from p2d.cluster.shards import simulate as simulate_on_ray

        with progress("repair", card.samples or simulation.num_samples * len(card.systems), "snapshots") as advance:
            simulate_on_ray(simulation, config, folder, advance)
    return folder, check_dataset(folder)
