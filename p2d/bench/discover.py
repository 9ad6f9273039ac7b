"""How fast an equation is discovered and, as a study, how well: systems, numbers of snapshots, and noise.

What it measured is in .github/RESULTS.md, whose table `p2d bench discover --study` prints.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from p2d.cluster.moments import OverRay
from p2d.config import DiscoverConfig, SimulateConfig
from p2d.config.bench import BenchDiscoverConfig
from p2d.discovery.discover import discover_equation, measure_misfits
from p2d.discovery.library import fit_parameters
from p2d.discovery.measuring import choose_measure
from p2d.discovery.moments import Rows
from p2d.discovery.result import Discovery
from p2d.evaluate import metrics
from p2d.evaluate.tables import table_text
from p2d.progress import say
from p2d.runs import DATA, make_output_folder
from p2d.snapshots.noise import LOOKED_AT
from p2d.snapshots.passes import Groups, InMemory, Means, Sums, Task
from p2d.snapshots.simulated import measured
from p2d.snapshots.store import Dataset, find_dataset, open_dataset
from p2d.systems.reading import load_system
from p2d.systems.system import System
from p2d.threads import single_threaded

KINDS = ("clean", "8 bits", "0.01", "0.02")  # of noise, in concentration
LIBRARIES = ("free", "gray_scott")
STUDY: dict[str, dict[str, Any]] = {
    **{name: {"preset": (name,)} for name in ("waves", "life", "spirals", "chaos", "solitons")},
    "F 0.014, k 0.054": {"set": ("F=0.014", "k=0.054")},
    **{name: {"preset": (name,)} for name in ("maze", "spots")},
}
JUDGED = 32  # snapshots that the cosine is taken over, the last ones


def measure(config: BenchDiscoverConfig, out: Path) -> Timings | Study:
    """What `p2d bench discover` tells of its dataset, or of the systems of the study."""
    if config.study:
        return study(config, make_output_folder(out))
    return bench(find_dataset(config.dataset, out))


@dataclass(frozen=True)
class Timings:
    """How fast an equation is discovered.

    Attributes:
        snapshots_per_second: of the first pass on one core.
        actors: by their number, seconds of the passes, of the fit, and in all.
    """

    snapshots_per_second: float
    actors: dict[int, dict[str, float]]

    def __str__(self) -> str:
        head = ("actors", "two passes", "fit", "in all")
        rows = [[str(n), *(f"{spent:.1f} s" for spent in seconds.values())] for n, seconds in self.actors.items()]
        return f"first pass, one core: {self.snapshots_per_second:.0f} snapshots a second\n{table_text(head, rows)}"


def bench(dataset: Dataset) -> Timings:
    """Time the two passes and the fit, with one actor and with two."""
    ids = dataset.living
    settings = DiscoverConfig(noise=("0",))
    states = dataset.states(ids[:LOOKED_AT])
    measure = choose_measure(states, dataset.card.names, dataset.card.grid, settings)
    with single_threaded(1) as pool:
        spent = pool.submit(_time, Rows(measure), ids[: len(states)], states).result()
    actors = {}
    for count in (1, 2):
        say(f"{len(ids)} snapshots, {count} actor{'s' * (count > 1)}")
        begin = time.monotonic()
        with OverRay(dataset, ids, count) as snapshots:
            discover_equation(snapshots, settings)
        wall, passes = time.monotonic() - begin, snapshots.seconds
        actors[count] = {"passes": passes, "fit": wall - passes, "all": wall}
    return Timings(len(states) / spent, actors)


@dataclass(frozen=True)
class Row:
    """One equation of the study, from some snapshots of a system, as an instrument of some kind sees them.

    Attributes:
        cosine: of its rates with the true ones.
        errors: relative, of the true system's parameters.
        covered: share of the true coefficients that 90 % intervals hold.
        right_terms: whether its terms are the true ones.
        seconds: of CPU time.
    """

    system: str
    kind: str
    library: str
    snapshots: int
    cosine: float
    errors: dict[str, float]
    covered: float
    right_terms: bool
    verdict: str
    gap: float
    seconds: float


@dataclass(frozen=True)
class Identification:
    """Which of the presets' equations, or the true one, is the best for the snapshots of a system.

    Attributes:
        best: its name.
        right: whether that is the true one.
        misfit: by name: chi-squared of the mean rates, or where nothing moves, the mean square velocity.
    """

    system: str
    best: str
    right: bool
    misfit: dict[str, float]

    def __str__(self) -> str:
        first, second = sorted(self.misfit, key=lambda key: self.misfit[key])[:2]
        ratio = self.misfit[second] / self.misfit[first]
        return f"{self.system}: fits best {self.best}; next {second}, {ratio:.2g} times worse"


@dataclass(frozen=True)
class Study:
    """Rows of the table, and which preset's equation fits each dataset best."""

    rows: list[Row]
    identification: list[Identification]

    def __str__(self) -> str:
        """The study as a Markdown table, and the identification.

        For each number of snapshots: 1 - cosine of the cubic library's equation, and of Gray-Scott's terms the largest
        error of D_u, D_v, F and k. Then the verdict on the cubic one, starred where its terms are not the true ones.
        """
        cases: dict[tuple[str, str], dict[tuple[str, int], Row]] = {}
        for row in self.rows:
            cases.setdefault((row.system, row.kind), {})[row.library, row.snapshots] = row
        counts = sorted({row.snapshots for row in self.rows})
        lines = [
            f"| system | seen | {' | '.join(map(str, counts))} | verdict | CPU s |",
            "|---" * (len(counts) + 4) + "|",
        ]
        for (system, kind), rows in cases.items():
            cells = [_cell(*(rows[name, count] for name in LIBRARIES)) for count in counts]
            cubic = [rows["free", count] for count in counts]
            seconds = ", ".join(f"{row.seconds:.0f}" for row in cubic)
            lines.append(f"| {' | '.join([system, kind, *cells, _verdicts(cubic), seconds])} |")
        return "\n".join([*lines, *map(str, self.identification)])


def _cell(cubic: Row, tied: Row) -> str:
    return f"{1 - cubic.cosine:.0e}, {100 * max(map(abs, tied.errors.values())):.2g} %"


def _verdicts(rows: list[Row]) -> str:
    """The verdicts, once where they are all alike, a star where the terms are not the true ones."""
    verdicts = [row.verdict + ("" if row.right_terms else "*") for row in rows]
    return verdicts[0] if len(set(verdicts)) == 1 else ", ".join(verdicts)


@dataclass(frozen=True)
class _Case:
    """One dataset of the study, as an instrument of some kind sees it."""

    name: str
    kind: str
    truth: System
    clean: np.ndarray
    states: np.ndarray


def study(config: BenchDiscoverConfig, out: Path) -> Study:
    """Discover equations of eight systems from few and many snapshots, clean and noisy.

    Datasets are simulated under OUT/data where they are not there yet.
    """
    jobs = []
    for name, settings in STUDY.items():
        dataset = _dataset(settings, config, out)
        jobs += [(name, dataset.folder, kind, config.snapshots) for kind in KINDS]
    rows: list[Row] = []
    identification: list[Identification] = []
    # A case is small algebra, and passes over its own snapshots.
    with single_threaded(os.cpu_count() or 1) as pool:
        for job, (own_rows, identified) in zip(jobs, pool.map(_case, *zip(*jobs, strict=True)), strict=True):
            misses = ", ".join(f"{1 - row.cosine:.0e}" for row in own_rows)
            say(f"{job[0]}, {job[2]}: 1 - cosine {misses}")
            rows += own_rows
            identification += identified
    return Study(rows, identification)


def _time(task: Rows, ids: np.ndarray, states: np.ndarray) -> float:
    """Seconds of a task on one core, once it has run before."""
    own = Groups.of(ids)
    Sums.over(task, ids[:4], states[:4], own.place[:4], own.share[:4])
    start = time.perf_counter()
    Sums.over(task, ids, states, own.place, own.share)
    return time.perf_counter() - start


def _case(name: str, folder: Path, kind: str, counts: tuple[int, ...]) -> tuple[list[Row], list[Identification]]:
    """The study's rows of one system as an instrument of some kind sees it; and which preset it is."""
    dataset = open_dataset(folder)
    truth = metrics.known_system(dataset)
    assert truth is not None
    clean = dataset.states(dataset.living)
    case = _Case(name, kind, truth, clean, _as_measured(clean, kind))
    rows = [row for count in counts for row in _rows(case, min(count, len(clean)))]
    return rows, [identify(name, truth, clean[: max(counts)])] if kind == "clean" else []


def _dataset(settings: dict[str, Any], config: BenchDiscoverConfig, out: Path) -> Dataset:
    from p2d.cluster.shards import simulate

    work = SimulateConfig(**settings, num_samples=max(config.snapshots), height=config.size, width=config.size)
    return simulate(work.simulation(), work, DATA.place(out, work.dataset_name))


def _as_measured(clean: np.ndarray, kind: str) -> np.ndarray:
    """Snapshots as an instrument sees them: with white noise, or rounded to 8 bits."""
    if kind == "clean":
        return clean
    if kind == "8 bits":
        return (np.round(clean * 255) / 255).astype(np.float32)
    return measured(clean, np.full(clean.shape[1], float(kind)), seed=0, ids=np.arange(len(clean)))


class _Remembered:
    """Snapshots in memory whose passes are carried out once.

    Attributes:
        spent: CPU seconds that each pass took, by its task.
    """

    def __init__(self, states: np.ndarray) -> None:
        self.inner = InMemory.of_states(states)
        self.sample_ids, self.run_count = self.inner.sample_ids, self.inner.run_count
        self.species, self.grid = self.inner.species, self.inner.grid
        self.some, self.states_of, self.pairs = self.inner.some, self.inner.states_of, self.inner.pairs
        self.runs_of, self.groups, self.conditions = self.inner.runs_of, self.inner.groups, self.inner.conditions
        self.spent: dict[str, float] = {}
        self._passes: dict[str, Means] = {}

    def in_runs(self, runs: np.ndarray) -> InMemory:
        """The same snapshots, of these runs [N]."""
        return self.inner.in_runs(runs)

    def means(self, task: Task) -> Means:
        """What a task finds, on average over the runs of each group."""
        key = repr(task)
        if key not in self._passes:
            begin = time.process_time()
            self._passes[key] = self.inner.means(task)
            self.spent[key] = time.process_time() - begin
        return self._passes[key]


def _rows(case: _Case, count: int) -> list[Row]:
    """A row for each library; both look at the same first pass, which is measured once."""
    snapshots = _Remembered(case.states[:count])
    judged = case.clean[-JUDGED:].astype(np.float64)
    measure = choose_measure(snapshots.some(LOOKED_AT), snapshots.species, snapshots.grid, DiscoverConfig())
    rows = []
    for name in LIBRARIES:
        begin, known = time.process_time(), dict(snapshots.spent)
        discovery = discover_equation(snapshots, DiscoverConfig(library=name), measure)
        saved = sum(seconds for key, seconds in known.items() if key.startswith("Rows"))
        rows.append(
            Row(
                system=case.name,
                kind=case.kind,
                library=name,
                snapshots=count,
                cosine=metrics.cosine(discovery.system.rate(judged), case.truth.rate(judged))["cosine"],
                errors=_errors(discovery, case.truth),
                covered=_covered(discovery, case.truth),
                right_terms=_term_names(discovery.system) == _term_names(case.truth),
                verdict=discovery.short_verdict,
                gap=discovery.gap,
                seconds=time.process_time() - begin + saved,
            )
        )
    return rows


def _covered(discovery: Discovery, truth: System) -> float:
    """Share of the coefficients that are there and in truth whose 90 % interval holds the true one."""
    held = [
        low <= truth.terms[species][term] <= high
        for species, terms in discovery.intervals.items()
        for term, (low, high) in terms.items()
        if term in truth.terms[species] and low < high
    ]
    return float(np.mean(held)) if held else 0.0


def _term_names(system: System) -> dict[str, set[str]]:
    return {species: set(terms) for species, terms in system.terms.items()}


def _errors(discovery: Discovery, truth: System) -> dict[str, float]:
    """Relative errors of the true system's parameters."""
    parameters = fit_parameters(truth, discovery.terms)
    return {key: value / truth.parameters[key] - 1 for key, value in parameters.items()}


def identify(name: str, truth: System, states: np.ndarray) -> Identification:
    """Which of the presets' equations, or the true one, is the best for these snapshots."""
    snapshots = InMemory.of_states(states)
    settings = DiscoverConfig(library="gray_scott", noise=("0",))
    measure = choose_measure(snapshots.some(LOOKED_AT), snapshots.species, snapshots.grid, settings)
    known = load_system(truth.name)  # a card keeps no presets
    systems = {**{preset: known.at(preset) for preset in known.presets}, name: truth}
    misfit = measure_misfits(systems, snapshots, measure)
    best = min(misfit, key=lambda key: misfit[key])
    return Identification(name, best, systems[best].parameters == truth.parameters, misfit)
