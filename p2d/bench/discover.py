"""How fast an equation is discovered and, as a study, how well: systems, numbers of snapshots, and noise.

Notes of what it measured are in the README, whose tables `p2d bench discover --study` prints.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from p2d.cluster.moments import ask
from p2d.config import DiscoverConfig, Library, SimulateConfig
from p2d.config.bench import BenchDiscoverConfig
from p2d.discovery import discover as closed_form
from p2d.discovery import moments
from p2d.evaluate import metrics
from p2d.progress import say
from p2d.runs import DATA, make_output_folder
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.simulated import measured
from p2d.snapshots.store import Dataset, evenly, find_dataset, open_dataset
from p2d.systems import library
from p2d.systems.gray_scott import PRESETS, GrayScott

KINDS = ("clean", "8 bits", "0.01", "0.02")  # of noise, in concentration
LIBRARIES: tuple[Library, ...] = ("cubic", "gray-scott")
STUDY: dict[str, dict[str, Any]] = {
    **{name: {"preset": (name,)} for name in ("waves", "life", "spirals", "chaos", "solitons")},
    "F 0.014, k 0.054": {"feed": (0.014,), "kill": (0.054,)},
    **{name: {"preset": (name,)} for name in ("maze", "spots")},
}
JUDGED = 32  # snapshots that the cosine is taken over, the last ones


def measure(config: BenchDiscoverConfig, out: Path) -> dict[str, Any]:
    """What `p2d bench discover` tells of its dataset, or of the systems of the study."""
    if config.study:
        return study(config, make_output_folder(out))
    return bench(config, find_dataset(config.dataset, out))


def bench(config: BenchDiscoverConfig, dataset: Dataset) -> dict[str, Any]:
    """Time the two passes and the fit, with one actor and with two.

    Returns:
        snapshots a second of the first pass on one core; by the number of actors, seconds of the passes, of the fit,
        and in all.
    """
    ids = dataset.living[: config.samples or None]
    question = closed_form.question(DiscoverConfig(library=config.library, noise="0"))
    states = dataset.states(ids[:LOOKED_AT])
    measure = closed_form.look(states, question)
    with _single_threaded(1) as pool:
        spent = pool.submit(_time, moments.Rows(measure), ids[: len(states)], states).result()
    found: dict[str, Any] = {"snapshots_per_second": len(states) / spent, "actors": {}}
    for actors in (1, 2):
        say(f"{len(ids)} snapshots, {actors} actor{'s' * (actors > 1)}")
        begin = time.monotonic()
        _, seconds = ask(dataset, ids, question, actors)
        found["actors"][actors] = {**seconds, "all": round(time.monotonic() - begin, 3)}
    return found


def print_table(found: dict[str, Any], config: BenchDiscoverConfig) -> None:
    """The timings as text on standard output, or the tables of the study."""
    if config.study:
        print_study(found)
        return
    console = Console(highlight=False)
    console.print(f"first pass, one core: {found['snapshots_per_second']:.0f} snapshots a second")
    table = Table("actors", "two passes", "fit", "in all")
    for actors, seconds in found["actors"].items():
        table.add_row(str(actors), *(f"{seconds[key]:.1f} s" for key in ("passes", "fit", "all")))
    console.print(table)


@dataclass(frozen=True)
class _Case:
    """One dataset of the study, as an instrument of some kind sees it."""

    name: str
    kind: str
    truth: GrayScott
    clean: np.ndarray
    states: np.ndarray


def study(config: BenchDiscoverConfig, out: Path) -> dict[str, Any]:
    """Discover equations of eight systems from few and many snapshots, clean and noisy.

    Datasets are simulated under OUT/data where they are not there yet.

    Returns:
        rows of the table, and of the identification matrix: for each dataset the preset whose equation fits best.
    """
    jobs = []
    for name, settings in STUDY.items():
        dataset = _dataset(settings, config, out)
        jobs += [(name, dataset.folder, kind, config.snapshots) for kind in KINDS]
    rows, matrix = [], []
    # A case is small algebra, and passes over its own snapshots.
    with _single_threaded(os.cpu_count() or 1) as pool:
        for job, (found, identified) in zip(jobs, pool.map(_case, *zip(*jobs, strict=True)), strict=True):
            told = ", ".join(f"{1 - row['cosine']:.0e}" for row in found)
            say(f"{job[0]}, {job[2]}: 1 - cosine {told}")
            rows += found
            matrix += identified
    return {"rows": rows, "identification": matrix}


def _time(task: moments.Rows, ids: np.ndarray, states: np.ndarray) -> float:
    """Seconds of a task on one core, once it has run before."""
    moments.collect(task, ids[:4], states[:4])
    start = time.perf_counter()
    moments.collect(task, ids, states)
    return time.perf_counter() - start


@contextmanager
def _single_threaded(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each, which algebra libraries are told by the environment before they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _case(name: str, folder: Path, kind: str, counts: tuple[int, ...]) -> tuple[list[dict[str, Any]], list[Any]]:
    """The study's rows of one system as an instrument of some kind sees it; and which preset it is."""
    dataset = open_dataset(folder)
    truth = GrayScott(**next(iter(dataset.card.parameters.values())))
    clean = dataset.states(dataset.living)
    case = _Case(name, kind, truth, clean, _seen(clean, kind))
    rows = [row for count in counts for row in _rows(case, min(count, len(clean)))]
    return rows, [identify(name, truth, clean[: max(counts)])] if kind == "clean" else []


def _dataset(settings: dict[str, Any], config: BenchDiscoverConfig, out: Path) -> Dataset:
    from p2d.cluster.simulation import simulate

    simulation = SimulateConfig(**settings, num_samples=max(config.snapshots), height=config.size, width=config.size)
    return simulate(simulation, DATA.place(out, simulation.dataset_name))


def _seen(clean: np.ndarray, kind: str) -> np.ndarray:
    """Snapshots as an instrument sees them: with white noise, or rounded to 8 bits."""
    if kind == "clean":
        return clean
    if kind == "8 bits":
        return (np.round(clean * 255) / 255).astype(np.float32)
    return measured(clean, float(kind), seed=0, ids=np.arange(len(clean)))


def _rows(case: _Case, count: int) -> list[dict[str, Any]]:
    """A row for each library; both look at the same first pass, which is measured once."""
    states, ids = case.states[:count], np.arange(count)
    judged = case.clean[-JUDGED:].astype(np.float64)
    passed: dict[str, moments.Fields] = {}
    spent: dict[str, float] = {}

    def passing(task: closed_form.Task) -> moments.Fields:
        key = repr(task)
        if key not in passed:
            begin = time.process_time()
            passed[key] = moments.collect(task, ids, states)
            spent[key] = time.process_time() - begin
        return passed[key]

    rows = []
    for name in LIBRARIES:
        begin, known = time.process_time(), dict(spent)
        question = closed_form.question(DiscoverConfig(library=name))
        every = closed_form.question(DiscoverConfig(library=LIBRARIES[0]))
        measure = closed_form.look(evenly(states, LOOKED_AT), every)
        found = closed_form.discover(passing, ids, measure, question)
        saved = sum(seconds for key, seconds in known.items() if key.startswith("Rows"))
        rows.append(
            {
                "system": case.name,
                "kind": case.kind,
                "library": name,
                "snapshots": count,
                "cosine": metrics.cosine(library.rate(found.equation, judged), case.truth.rate(judged))["cosine"],
                "errors": _errors(found.equation, case.truth),
                "covered": _covered(found, case.truth),
                "right_terms": _terms(found.equation) == _terms(library.gray_scott_equation(case.truth)),
                "verdict": found.verdict.split(":")[0].split(" (")[0],
                "gap": found.gap,
                "seconds": time.process_time() - begin + saved,
            }
        )
    return rows


def _covered(found: closed_form.Discovery, truth: GrayScott) -> float:
    """Share of the coefficients that are there and in truth whose 90 % interval holds the true one."""
    true = library.gray_scott_equation(truth)
    held = [
        low <= true[species][term] <= high
        for species, terms in found.interval.items()
        for term, (low, high) in terms.items()
        if term in true[species] and low < high
    ]
    return float(np.mean(held)) if held else 0.0


def _terms(equation: library.Equation) -> dict[str, set[str]]:
    return {species: set(terms) for species, terms in equation.items()}


def _errors(equation: library.Equation, truth: GrayScott) -> dict[str, float]:
    """Relative errors of D_u, D_v, F and k."""
    found = library.gray_scott_parameters(equation)
    return {key: found[key] / getattr(truth, key) - 1 for key in found}


def identify(name: str, truth: GrayScott, states: np.ndarray) -> dict[str, Any]:
    """Which of the presets' equations, or the true one, is the best for these snapshots.

    Returns:
        The name of the best, and by name the misfit: chi-squared of the mean rates, or where nothing moves, the mean
        square velocity.
    """
    question = closed_form.question(DiscoverConfig(library="gray-scott", noise="0"))
    ids = np.arange(len(states))
    measure = closed_form.look(evenly(states, LOOKED_AT), question)
    systems = {**PRESETS, name: truth}
    equations = {key: library.gray_scott_equation(system) for key, system in systems.items()}
    misfit = closed_form.misfits(equations, moments.collect(moments.Rows(measure), ids, states), measure)
    best = min(misfit, key=lambda key: misfit[key])
    return {"system": name, "best": best, "right": systems[best] == truth, "misfit": misfit}


def print_study(found: dict[str, Any]) -> None:
    """The study as a Markdown table, and the identification as text, on standard output.

    For each number of snapshots: 1 - cosine of the cubic library's equation, and of Gray-Scott's terms the largest
    error of D_u, D_v, F and k. Then the verdict on the cubic one, starred where its terms are not the true ones.
    """
    cases: dict[tuple[str, str], dict[tuple[str, int], dict[str, Any]]] = {}
    for row in found["rows"]:
        cases.setdefault((row["system"], row["kind"]), {})[row["library"], row["snapshots"]] = row
    for n, ((system, kind), rows) in enumerate(cases.items()):
        counts = sorted({count for _, count in rows})
        if n == 0:
            print(f"| system | seen | {' | '.join(map(str, counts))} | verdict | CPU s |")
            print("|---|---|" + "---|" * (len(counts) + 2))
        cells = [_cell(*(rows[name, count] for name in LIBRARIES)) for count in counts]
        cubic = [rows["cubic", count] for count in counts]
        seconds = ", ".join(f"{row['seconds']:.0f}" for row in cubic)
        print(f"| {' | '.join([system, kind, *cells, _verdicts(cubic), seconds])} |")
    for row in found["identification"]:
        ordered = sorted(row["misfit"], key=lambda key: row["misfit"][key])
        ratio = row["misfit"][ordered[1]] / row["misfit"][ordered[0]]
        print(f"{row['system']}: fits best {row['best']}; next {ordered[1]}, {ratio:.2g} times worse")


def _cell(cubic: dict[str, Any], tied: dict[str, Any]) -> str:
    return f"{1 - cubic['cosine']:.0e}, {100 * max(map(abs, tied['errors'].values())):.2g} %"


def _verdicts(rows: list[dict[str, Any]]) -> str:
    """The verdicts, once where they are all alike, a star where the terms are not the true ones."""
    told = [row["verdict"].removeprefix("dynamics ") + ("" if row["right_terms"] else "*") for row in rows]
    return told[0] if len(set(told)) == 1 else ", ".join(told)
