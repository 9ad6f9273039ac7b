"""The catalogue on the screen: systems, their equations, and what their presets do."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from p2d.systems.system import System

MOVES = {True: "moves", False: "static", None: ""}


def rates_text(system: System) -> str:
    """The rates as they stand in the system's file, a line a species."""
    return "\n".join(f"d{s}/dt = {text.replace('**', '^').replace('*', ' ')}" for s, text in system.rates.items())


def print_systems(systems: list[System]) -> None:
    """Many as a table; one with its equation, parameters and presets."""
    console = Console(highlight=False, soft_wrap=True)
    if len(systems) == 1:
        _print_one(systems[0], console)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("system", "species", "moves", "static"):
        table.add_column(column)
    for system in systems:
        presets = {n: at.moves for n, at in ((n, system.at(n)) for n in system.presets)}
        columns = (", ".join(n for n, moves in presets.items() if moves is kind) for kind in (True, False))
        table.add_row(system.name, ", ".join(system.species), *columns)
    console.print(table)


def _print_one(system: System, console: Console) -> None:
    console.print(f"{system.name}   {system.source}\n\n{rates_text(system)}\n", markup=False)
    run = system.run
    if system.units:
        console.print(f"units: {', '.join(f'{s} ({unit})' for s, unit in system.units.items())}\n", markup=False)
    step = f"dt {run.dt:g}" if run.dt else "dt half of what is stable"
    console.print(f"{step}, {run.steps:,} steps, grid spacing {run.spacing:g}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("preset", "", "steps", *system.parameters):
        table.add_column(column)
    for name in system.presets or ("",):
        at = system.at(name)
        table.add_row(name, MOVES[at.moves], f"{at.run.steps:,}", *(f"{v:g}" for v in at.parameters.values()))
    console.print(table)


def systems_json(systems: list[System]) -> dict[str, Any]:
    """What --json tells of systems, by name."""
    return {
        system.name: {**system.to_dict(), "presets": system.presets, "equation": rates_text(system)}
        for system in systems
    }
