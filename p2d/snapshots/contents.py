"""What a card says of all snapshots together: how many live, their ensembles, ranges, scaling and hash."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from p2d.fields import Scaling, Species
from p2d.observables import Change, Ensemble
from p2d.snapshots.card import Card
from p2d.snapshots.ledger import Ledger, Mapper


def contents(folder: Path, card: Card, ledger: Ledger, normalize: bool, each: Mapper) -> dict[str, Any]:
    """What a card says of all snapshots together."""
    is_made = card.origin and card.origin["kind"] != "imported"  # by a model, with the ranges of what it learnt from
    samples, alive = (int(column.sum()) for column in (ledger.shards.rows, ledger.shards.alive))
    ensembles = _ensembles(ledger, card)
    return {
        "samples": samples,
        "alive": alive,
        "dead_share": round(1 - alive / samples, 6),
        "species": card.species if is_made else ranged(card, ledger.low, ledger.high),
        "ensembles": ensembles,
        "scaling": card.scaling or _scaling(card, list(ensembles.values()), normalize),
        "dataset_hash": ledger.hash.of(folder, len(ledger.shards), each),
    }


def _ensembles(ledger: Ledger, card: Card) -> dict[str, Ensemble]:
    """For each system: its living samples, their moments, and whether averages still change late in the burn-in."""
    made = {}
    for label, (sums, steps) in ledger.sums().items():
        change = Change()
        burn_in = card.systems[label].run.steps if label in card.systems and not card.origin else 0
        if burn_in > 1 and steps == burn_in:  # one step has no half
            change = Change.between(sums, card.names)
        made[label] = Ensemble.of(sums, card.names, change)
    return made


def _limits(card: Card, species: str) -> tuple[float, float]:
    """What the limits of all systems span; infinite where one has none."""
    ends = [system.limits.get(species, (-math.inf, math.inf)) for system in card.systems.values()]
    lows, highs = zip(*(ends or [(-math.inf, math.inf)]), strict=True)
    return min(lows), max(highs)


def ranged(card: Card, lowest: np.ndarray | None, highest: np.ndarray | None) -> tuple[Species, ...]:
    """The species with ranges from their limits; where there are none, what the shards with living samples show.

    Args:
        lowest, highest: of these shards, of each species; None where there are none.
    """
    if lowest is None or highest is None:
        return card.species
    made = []
    for species, least, most in zip(card.species, lowest.tolist(), highest.tolist(), strict=True):
        low, high = _limits(card, species.name)
        low = low if math.isfinite(low) else least
        high = high if math.isfinite(high) else most
        made.append(dataclasses.replace(species, low=low, high=high if high > low else low + 1.0))
    return tuple(made)


def _scaling(card: Card, ensembles: list[Ensemble], normalize: bool) -> Scaling:
    """Limits to -1 and 1; where a species has none, mean and twice the standard deviation of the living to 0 and 1."""
    count = len(card.species)
    if not normalize:
        return Scaling((0.0,) * count, (1.0,) * count)
    shift, scale = [], []
    for species in card.species:
        if all(map(math.isfinite, _limits(card, species.name))):
            shift.append((species.low + species.high) / 2)
            scale.append(species.span / 2)
            continue
        alive = sum(e.alive for e in ensembles) or 1
        mean = sum(e.alive * e.mean[species.name] for e in ensembles) / alive
        square = sum(e.alive * (e.std[species.name] ** 2 + e.mean[species.name] ** 2) for e in ensembles) / alive
        shift.append(mean)
        scale.append(2 * math.sqrt(max(square - mean**2, 0.0)) or 1.0)
    return Scaling(tuple(shift), tuple(scale))
