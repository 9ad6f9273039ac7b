"""From what a pass finds to rates over a library: means over runs, in the user's units, and a root of the products."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from p2d.discovery.coordinates import expanded
from p2d.discovery.fit import Rates
from p2d.discovery.library import Library
from p2d.discovery.moments import Grams, Measure, Rows, Stepped, refuse_not_finite
from p2d.fields import Operator
from p2d.flow.solve import weighted_mean, whitened_basis
from p2d.snapshots.passes import Means, Snapshots

TILED = ("rows", "held_out", "gram")  # what Rows measures tile by tile
NULL = 1e-8  # share of the largest eigenvalue of the products of terms, below which they are null on the data


def measure_runs(snapshots: Snapshots, task: Rows | Stepped | Grams, library: Library) -> Means:
    """What a task finds, on average over the runs of each group.

    Raises:
        UserError: what is not finite.
    """
    means = snapshots.means(task)
    refuse_not_finite(means, len(snapshots.sample_ids), users_words(task.measure, library))
    return _taken_apart(means, task.measure) if isinstance(task, Rows | Stepped) else means


def _taken_apart(means: Means, measure: Measure) -> Means:
    """Means over groups of runs and tiles; what is not measured tile by tile is the same in all of a snapshot."""
    count = len(measure.tile_masks)
    made = {
        key: values.reshape(-1, *values.shape[2:]) if key in TILED and "gram" in means.of else values.repeat(count, 0)
        for key, values in means.of.items()
    }
    return replace(means, of=made, runs=np.repeat(means.runs / count, count))


def users_words(measure: Measure, library: Library) -> list[str]:
    """The library's term that each function that is measured is of."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    of = {name: library.terms[int(np.abs(row).argmax())] for name, row in zip(names, matrix, strict=True)}
    return [of.get(term, term) for term, _ in measure.trees]


def rates_of(first: Means, measure: Measure, library: Library, operator: Operator) -> tuple[Rates, np.ndarray]:
    """Rates for the library's free numbers, of the observables of the fit, and of those held out [N, 40, P]."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    places, every, terms = measure.places(names, operator), len(measure.trees), len(library.terms)
    made = {
        key: np.zeros((*first.of[key].shape[:2], library.ties.shape[1]))
        for key in ("rows", "held_out")
        if key in first.of
    }
    for s, scale in enumerate(measure.scaling.scale):
        in_units = matrix / scale  # the rate of z is that of values over the scale
        block = slice(s * terms, (s + 1) * terms)
        columns = [s * every + place for place in places]
        for key, total in made.items():
            total += first.of[key][:, :, columns] @ (in_units @ library.ties[block])
    root = root_of(weighted_mean(first.of["gram"], first.runs), measure, library, operator)
    tiles = len(measure.tile_masks)
    return Rates(made["rows"], root, library.degrees, runs=first.runs, tiles=tiles), made.get(
        "held_out", made["rows"][:, :0]
    )


def root_of(gram: np.ndarray, measure: Measure, library: Library, operator: Operator) -> np.ndarray:
    """A [R, P], whose |A c|^2 is the mean square of the velocity of z, of mean products [M, M] of what is measured."""
    names, matrix = expanded(library.terms, library.species, measure.scaling)
    places, terms = measure.places(names, operator), len(library.terms)
    gram = gram[np.ix_(places, places)]
    own = whitened_basis(gram, NULL).T @ gram @ matrix
    blocks = [own @ library.ties[s * terms : (s + 1) * terms] / scale for s, scale in enumerate(measure.scaling.scale)]
    return np.concatenate(blocks)
