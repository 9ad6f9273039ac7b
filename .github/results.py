"""Measure what RESULTS.md says, and write it: `python .github/results.py` (hours), or some of it: `--only flow score`.

Each section of the page is one measurement: a command of `p2d bench`, or the catalogue's equations. A section that is
measured is replaced, with its date and machine; the others stay as they are. `--quick` measures all of them at small
sizes in minutes and writes OUT/RESULTS.md instead, to try the command; its figures are of no use.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PAGE = Path(__file__).parent / "RESULTS.md"
Rows = list[list[str]]
# Systems that move, and what their equations are asked for with where these are no cubic monomials and Laplacians.
CATALOGUE: dict[str, dict[str, Any]] = {
    "barkley": {},
    "brusselator": {},
    "cyclic_competition": {},
    "fitzhugh_nagumo": {},
    "gierer_meinhardt": {"terms": "1, a, h, a**2, a**2/h, a*h, lap(a), lap(h)"},
    "gray_scott": {},
    "klausmeier": {"terms": "1, w, n, w*n, w*n**2, lap(w), lap(n), d(w, x)"},
    "kuramoto_sivashinsky": {"order": 4, "also": ("gradients",)},
    "lambda_omega": {},
    "schnakenberg": {},
}


@dataclass(frozen=True)
class Section:
    """A measurement: a heading of the page and the words of the command whose output is its table.

    Attributes:
        says: what is measured and how to read it.
        words: of the command at full size, after `p2d bench`; none: `rows` measures it here.
        quick: options of --quick, in the place of `size`.
        size: options of the full size.
        dataset: whether the command's first word is one that is simulated before.
        rows: from the command's JSON to a head and rows; None: the command prints Markdown.
    """

    heading: str
    says: str
    words: str
    size: str = ""
    quick: str = ""
    dataset: bool = False
    rows: Callable[[Any], Rows] | None = None


def markdown(rows: Rows) -> str:
    """A head and rows as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def flow_rows(made: dict[str, Any]) -> Rows:
    """Cosines of flows with the true velocity, by number of snapshots."""
    rows = [["snapshots", "mean cosine", "lowest", "highest", "z-scores, rms", "seconds"]]
    for row in made["runs"]:
        cosine = [f"{f(row['cosine']):.5f}" for f in (np.mean, np.min, np.max)]
        rows.append(
            [str(row["snapshots"]), *cosine, f"{np.mean(row['z_rms']):.2f}", f"{np.median(row['seconds']):.0f}"]
        )
    return rows


def denoise_rows(made: dict[str, Any]) -> Rows:
    """Errors of denoised snapshots, by noise."""
    keys = ("gaussian", "linear", "denoised", "bound", "to_bound", "to_gaussian")
    head = ["noise", "Gaussian filter", "linear filter", "denoised", "trained on clean data", "to that", "to Gaussian"]
    return [head, *([noise, *(f"{row[key]:.2g}" for key in keys)] for noise, row in made.items())]


def score_rows(made: dict[str, Any]) -> Rows:
    """Losses of the two networks."""
    rows = [["network, training time", "weights", "snapshots a second", "validation loss"]]
    for name, run in made["runs"].items():
        rate, loss = f"{run['samples_per_second']:.1f}", f"{run['readings'][-1][1]:.4f}"
        rows.append([name, f"{run['weights']:,}", rate, loss])
    return rows


def simulate_rows(made: dict[str, Any]) -> Rows:
    """Cell updates a second of each stepper."""
    rows = [["stepper", "10^9 cell updates a second", "lowest to highest"]]
    for name, rate in made["steppers"].items():
        span = f"{rate['lowest'] / 1e9:.3g} to {rate['highest'] / 1e9:.3g}"
        rows.append([name, f"{rate['median'] / 1e9:.3g}", span])
    return [*rows, ["cpu, with noise in the dynamics", f"{made['noisy']['median'] / 1e9:.3g}", ""]]


def discover_rows(made: dict[str, Any]) -> Rows:
    """Seconds of the passes and the fit."""
    rows = [["processes", "two passes, s", "fit, s", "in all, s"]]
    return rows + [[n, *(f"{spent:.1f}" for spent in seconds.values())] for n, seconds in made["actors"].items()]


def growth_rows(made: dict[str, Any]) -> Rows:
    """CPU seconds and MiB by number of shards."""
    costs = {name: row for name, row in made.items() if name != "bookkeeping"}
    sizes = list(next(iter(costs.values())))
    rows = [["CPU seconds, MiB", *(f"{int(size):,} shards" for size in sizes)]]
    return rows + [
        [name, *(f"{row[size]['cpu']:.2g}, {row[size]['mib']:.0f}" for size in sizes)] for name, row in costs.items()
    ]


def catalogue_rows(out: Path, count: int, presets: int) -> Rows:
    """The equation of each preset of the catalogue that moves, from snapshots that are simulated here."""
    import p2d
    from p2d.errors import UserError
    from p2d.evaluate.metrics import cosine
    from p2d.systems.reading import load_system

    rows = [["system", "preset", "living", "1 - cosine", "terms", "claimed: velocity, terms"]]
    for name, asked in list(CATALOGUE.items())[: presets or None]:
        system = load_system(name)
        moving = [preset for preset in system.presets if system.at(preset).moves]
        for preset in moving[: presets or None]:
            print(f"{name}: {preset}", file=sys.stderr, flush=True)
            data = p2d.simulate(preset, system=name, num_samples=count, height=64, width=64, out=out)
            try:
                found = p2d.discover(data, **asked)
            except UserError as error:
                rows.append([name, preset, str(len(data.living)), "", str(error), ""])
                continue
            truth, grid = system.at(preset), data.card.grid
            states = data.states(data.living[-16:]).astype(np.float64)
            rates = (found.system.rate(states, grid), truth.rate(states, grid))
            own, true = ({s: set(terms) for s, terms in one.terms.items()} for one in (found.system, truth))
            extra, missing = (sum(len(a[s] - b[s]) for s in true) for a, b in ((own, true), (true, own)))
            terms = "right" if not extra + missing else f"{extra} too many, {missing} missing"
            claims = (found.claims.velocity_known, found.claims.terms_known)
            claimed = ", ".join("yes" if known else "no" for known in claims)
            miss = f"{1 - abs(cosine(*rates)['cosine']):.0e}"
            rows.append([name, preset, str(found.snapshots), miss, terms, claimed])
    return rows


SECTIONS = {
    "verdicts": Section(
        "What is claimed, rightly and wrongly",
        "Seeded cases of systems, parameters, sizes and faults of the data, which nothing was tuned to. A velocity is "
        "right from a cosine of 0.99 with the true one on clean held-out snapshots on; terms are right where they are "
        "the true ones. The score is right claims less ten times the wrong ones, over the cases that could be known.",
        "verdicts",
        "--cases 100 --seed 3000",
        "--cases 3 --seed 3000",
    ),
    "catalogue": Section(
        "Equations of the catalogue's moving systems",
        "From those of 128 snapshots of 64 x 64 that live, over all monomials to degree 3 and all Laplacians, or over "
        "own terms where the system's are no such (Gierer-Meinhardt, Klausmeier, Kuramoto-Sivashinsky). The cosine is "
        "that of the equation's rates with the true ones, whatever the direction of time.",
        "",
        "128 0",
        "32 2",
    ),
    "study": Section(
        "Equations by number of snapshots and noise",
        "For each number of snapshots: 1 - cosine with the true rate for all cubic terms, then the largest error of F, "
        "k, D_u and D_v with Gray-Scott's terms. Noise is in units of concentration. The verdict is that on the cubic "
        "equation, starred where its terms are not exactly the true ones; seconds are of one core.",
        "discover --study",
        "",
        "--snapshots 16 --size 48",
    ),
    "discover": Section(
        "How long an equation takes",
        "Of a dataset that is there, over one and two processes.",
        "discover",
        dataset=True,
        rows=discover_rows,
    ),
    "flow": Section(
        "How well flows recover the true velocity",
        "Cosine on held-out snapshots over three trainings of the objective `stationarity`.",
        "flow",
        "",
        "--seeds 1 --snapshots 32",
        dataset=True,
        rows=flow_rows,
    ),
    "denoise": Section(
        "Noise taken out with no clean data",
        "Root mean square error on held-out snapshots, as a share of the species' ranges: of a Gaussian filter of the "
        "best width, of the best linear filter, of the score model trained on the noisy snapshots alone, and of the "
        "same network trained on clean ones.",
        "denoise",
        "-n 8",
        "-n 1 --noise 0.05",
        dataset=True,
        rows=denoise_rows,
    ),
    "score": Section(
        "How fast the score network learns",
        "Loss of noise prediction at alpha 0.8 on held-out snapshots, beside a U-Net at full resolution that is "
        "trained for as long on the same snapshots with the same noise.",
        "score",
        "",
        "--seconds 12",
        dataset=True,
        rows=score_rows,
    ),
    "simulate": Section(
        "How fast systems are simulated",
        "Gray-Scott on 128 x 128 by the generated kernel, and by the same text in PyTorch, torch.compile and JAX, "
        "where they are there.",
        "simulate",
        "",
        "--steps 500 --repeats 1 --height 64 --width 64",
        rows=simulate_rows,
    ),
    "growth": Section(
        "What grows with the number of shards",
        "All that is done with a dataset as a whole, in shards of one snapshot of 8 x 8.",
        "growth",
        "",
        "--most 1000",
        rows=growth_rows,
    ),
}


def p2d(words: list[str]) -> str:
    """What a command prints on standard output; what it says on the way is shown."""
    print(f"p2d {' '.join(words)}", file=sys.stderr, flush=True)
    return subprocess.run(
        [sys.executable, "-m", "p2d.cli", *words], check=True, text=True, stdout=subprocess.PIPE
    ).stdout


def measured(name: str, out: Path, quick: bool) -> str:
    """A section as it stands on the page."""
    section, begin = SECTIONS[name], time.monotonic()
    options = (section.quick if quick else section.size).split()
    if not section.words:
        table, command = markdown(catalogue_rows(out, *map(int, options))), f"python .github/results.py --only {name}"
    else:
        own = [*section.words.split(), *["waves"] * section.dataset, *options]
        command = f"p2d bench {' '.join(own)}"
        place = [] if name == "simulate" else ["--out", str(out)]
        printed = p2d(["bench", *own, *place, *["--json"] * bool(section.rows)])
        table = markdown(section.rows(json.loads(printed))) if section.rows else printed.strip()
    minutes = (time.monotonic() - begin) / 60
    note = f"*{datetime.date.today()}, {machine()}, {max(1, round(minutes))} min: `{command}`*"
    return f"## {section.heading}\n\n{section.says}\n\n{note}\n\n{table}\n"


def machine() -> str:
    """The cores that are there."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.is_file() else None
    return f"{os.cpu_count()} cores ({model[1].strip() if model else platform.processor() or platform.machine()})"


def put(page: str, heading: str, text: str) -> str:
    """The page with a section in the place of the one that has its heading, or at its end."""
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", flags=re.DOTALL | re.MULTILINE)
    if pattern.search(page):
        return pattern.sub(lambda _: f"{text}\n", page).rstrip() + "\n"
    return f"{page.rstrip()}\n\n{text}"


def main() -> None:
    """Measure, and write after each section, so that an interrupted run keeps what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes, into OUT/RESULTS.md")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="output folder of the datasets (default: runs)")
    given = parser.parse_args()
    out = given.out / "quick" if given.quick else given.out
    page = given.out / PAGE.name if given.quick else PAGE
    if any(SECTIONS[name].dataset for name in given.only):
        small = ["--num-samples", "48", "--height", "64", "--width", "64", "--steps", "6000"] * given.quick
        p2d(["simulate", "-p", "waves", "--no-tracking", "--out", str(out), *small])
    for name in given.only:
        text = page.read_text() if page.is_file() else "# Measured results\n"
        made = measured(name, out, given.quick)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(put(text, SECTIONS[name].heading, made), encoding="utf-8")
        print(f"{name}: written to {page}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
