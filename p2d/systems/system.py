"""A system: its species, their rates as text, parameters and presets; its TOML file is shown in systems/__init__.py."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError, nearest
from p2d.fields import Grid, Operator, Species
from p2d.places import place
from p2d.runs import whole
from p2d.systems import expressions
from p2d.systems.checks import SETTINGS, refuse_system
from p2d.systems.terms import Terms, terms

STEPS = 10_000  # of a system that says nothing
LISTED = 12  # parameters in a label
UNSAID_NOISE = 0.01  # of the rest value, or of 1, of a system that says neither blot nor noise
OUTGROWN = 10  # by how much patterns outgrow the noise that they grow from
Amounts = dict[str, "float | str"]


@dataclass(frozen=True)
class Start:
    """Initial states. Amounts are numbers, or text made of parameters.

    Attributes:
        rest: the uniform state that nothing happens in; where none is said, one is looked for.
        blot: inside discs and the central square, the others as at rest; several are taken in turn.
        noise: standard deviation of white noise around the rest state.
        kind: discs, centre or noise; '' for what there are amounts of.
    """

    rest: Amounts = field(default_factory=dict)
    blot: Amounts | list[Amounts] = field(default_factory=list)
    noise: Amounts = field(default_factory=dict)
    kind: str = ""

    @property
    def blots(self) -> list[Amounts]:
        """The blots as a list, one or several."""
        return self.blot if isinstance(self.blot, list) else [self.blot]

    def tables(self) -> Iterator[tuple[str, Amounts]]:
        """All tables of amounts, with their names."""
        yield from (("rest", self.rest), ("noise", self.noise), *(("blot", blot) for blot in self.blots))


@dataclass(frozen=True)
class Run:
    """What a simulation does where nothing else is asked for: step, number of steps, grid spacing.

    Attributes:
        dt: 0 for half of what is stable.
    """

    dt: float = 0.0
    steps: int = STEPS
    spacing: float = 1.0


@dataclass(frozen=True)
class System:
    """A reaction-diffusion system, or any other whose rates are expressions of fields.

    Example:
        import numpy as np, p2d
        system = p2d.System.load("barkley")                  # of the catalogue, or a TOML file
        print(system, system.parameters)
        states = np.random.rand(1, 2, 32, 32)                # [batch, species, rows, columns]
        rate = system.rate(states)                           # the same shape
        later = system.at("waves").advance(states, time=5)   # with a preset's parameters

    Attributes:
        name: of the system.
        rates: d/dt of each species, as text, see expressions.py.
        parameters: by name.
        usual: those of the system's file, which presets and labels start from; the same where not of the same names.
        limits: lowest and highest value of a species, which a step is clamped to; of those that have some.
        units: of species' values.
        start, run: see there.
        presets: parameters that differ, what of `run` differs, and `moves`, by name.
        moves: whether patterns move; None where it is not known.
        preset: the name of the preset that the parameters are of, '' for others.
        source: paper and year.

    Raises:
        UserError: rates that cannot be read, names or numbers that are not possible.
    """

    name: str
    rates: dict[str, str]
    parameters: dict[str, float] = field(default_factory=dict)
    usual: dict[str, float] = field(default_factory=dict)
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    start: Start = field(default_factory=Start)
    run: Run = field(default_factory=Run)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    moves: bool | None = None
    preset: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        refuse_system(self)
        if set(self.usual) != set(self.parameters):
            object.__setattr__(self, "usual", self.parameters)

    @property
    def species(self) -> tuple[str, ...]:
        """Their names, in order."""
        return tuple(self.rates)

    @functools.cached_property
    def terms(self) -> Terms:
        """Terms and coefficients of each species' rate."""
        return {s: terms(text, self.species, self.parameters) for s, text in self.rates.items()}

    @functools.cached_property
    def trees(self) -> dict[str, Any]:
        """The rates as parsed."""
        return {s: expressions.parse(text, self.rates, self.parameters) for s, text in self.rates.items()}

    @functools.cached_property
    def folded(self) -> dict[str, Any]:
        """The rates as parsed, with numbers in the place of what is made of parameters alone."""
        return {s: expressions.folded(tree, self.rates, self.parameters) for s, tree in self.trees.items()}

    @property
    def reach(self) -> int:
        """How many cells the rates' nested stencils reach."""
        return max(expressions.reach(tree) for tree in self.trees.values())

    def rate(self, state: Any, grid: Grid | None = None, operator: Operator = "5-point") -> Any:
        """d/dt of a state [..., C, H, W], numpy array or torch tensor; the same kind and shape back.

        Args:
            grid: periodic of spacing 1 when None.
        """
        grid = grid or Grid(tuple(state.shape[-2:]))
        functions = expressions.smooth_functions(state) | grid.operators(operator)
        names = {s: state[..., i, :, :] for i, s in enumerate(self.species)}
        made = [0 * names[s] + expressions.evaluate(tree, names, functions) for s, tree in self.folded.items()]
        if isinstance(state, np.ndarray):
            return np.stack(made, axis=-3)
        import torch

        return torch.stack(made, dim=-3)

    def advance(
        self, states: np.ndarray, time: float, grid: Grid | None = None, operator: Operator = "5-point"
    ) -> np.ndarray:
        """States after some time, by equal Euler steps of the compiled kernel, as long as is safe or shorter.

        Args:
            states: [B, C, H, W], in the species' units.
            time: in the system's unit of time, 0 or above.
            grid: periodic of spacing 1 when None.

        Returns:
            float32 [B, C, H, W].

        Raises:
            UserError: another shape, values that are not finite, open edges, or a system that no step is stable for.
        """
        from p2d.systems import stability, stepping

        if not time >= 0:
            raise UserError(f"time = {time} is not possible: it must be 0 or above")
        grid = grid or Grid(tuple(states.shape[-2:]))
        usual = stability.usual_step(self, grid, operator)
        steps = math.ceil(time / usual - 1e-9)
        scheme = stepping.Scheme(grid, time / steps if steps else usual, operator)
        scheme.refuse(self)
        return stepping.run(np.asarray(states, np.float32), self, scheme, steps)

    def amounts(self, kind: str) -> np.ndarray:
        """Amounts of each species in the start's 'rest' or 'noise', float64 [C]."""
        given = {s: self.value(amount) for s, amount in getattr(self.start, kind).items()}
        if kind == "rest" and not given:
            return self._found_rest
        if kind == "noise" and not given and not self.start.blots:
            return UNSAID_NOISE * np.maximum(np.abs(self.amounts("rest")), 1.0)
        return np.array([given.get(s, 0.0) for s in self.species])

    @functools.cached_property
    def _found_rest(self) -> np.ndarray:
        from p2d.systems.stability import rest_state

        return rest_state(self)

    @functools.cached_property
    def blots(self) -> np.ndarray:
        """Amounts of each species in each of the start's K blots, float64 [K, C]; of the rest where not said."""
        rest = dict(zip(self.species, self.amounts("rest"), strict=True))
        blots = [rest | {s: self.value(amount) for s, amount in blot.items()} for blot in self.start.blots]
        return np.array([list(blot.values()) for blot in blots]).reshape(-1, len(rest))

    def value(self, amount: float | str) -> float:
        """The number that an amount is with the system's parameters; nan where it has none.

        Raises:
            UserError: text that cannot be read, or neither text nor number.
        """
        if isinstance(amount, str):
            return expressions.number(expressions.parse(amount, (), self.parameters), self.parameters)
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise UserError(f"{amount!r} is no number")
        return float(amount)

    def described(self) -> tuple[Species, ...]:
        """The species with their units and ranges: their limits, or what the start spans."""
        states = np.concatenate([self.amounts("rest")[None], self.blots])
        reach = OUTGROWN * self.amounts("noise")
        low, high = states.min(axis=0) - reach, states.max(axis=0) + reach
        made = []
        for s, name in enumerate(self.species):
            ends = [float(low[s]), float(high[s])]
            for n, limit in enumerate(self.limits.get(name, (-math.inf, math.inf))):
                ends[n] = limit if math.isfinite(limit) else ends[n]
            if not ends[0] < ends[1]:
                ends = [ends[0], ends[0] + 1.0]
            made.append(Species(name, self.units.get(name, ""), *ends))
        return tuple(made)

    def at(self, preset: str = "", **parameters: float) -> System:
        """The system with the parameters of a preset, otherwise as usual, and these in their place.

        Raises:
            UserError: a preset or a parameter that is not known (says the nearest).
        """
        made = self
        if preset:
            if preset not in self.presets:
                close, known = nearest(preset, self.presets), ", ".join(self.presets) or "none"
                raise UserError(f"unknown preset {preset!r} of {self.name}{close}; known: {known}")
            values = dict(self.presets[preset])
            moves = values.pop("moves", None)
            run = replace(self.run, **{key: values.pop(key) for key in SETTINGS if key in values})
            made = replace(self, parameters={**self.usual, **values}, run=run, moves=moves, preset=preset)
        for name in parameters:
            self.refuse_parameter(name)
        changed = {**made.parameters, **parameters}
        if changed == made.parameters:
            return made
        return replace(made, parameters=changed, preset=self._preset_of(changed), moves=None)

    def refuse_parameter(self, name: str) -> None:
        """Refuse the name of a parameter that there is none of, with the nearest."""
        if name not in self.parameters:
            close, known = nearest(name, self.parameters), ", ".join(self.parameters)
            raise UserError(f"{self.name} has no parameter {name!r}{close}; known: {known}")

    def _preset_of(self, parameters: dict[str, float]) -> str:
        """The preset that these parameters are of, '' for others."""
        for name, preset in self.presets.items():
            values = {key: value for key, value in preset.items() if key in self.parameters}
            if {**self.usual, **values} == parameters and set(preset) <= {*values, "moves"}:
                return name
        return ""

    @property
    def label(self) -> str:
        """What the system is called in datasets: its preset or its parameters, behind its name unless Gray-Scott.

        Parameters that every preset gives are always said, others where they are not the usual ones, and so the step
        of a system of the catalogue.
        """
        from p2d.systems.reading import is_in_catalogue, load_system

        own = [] if self.name == "gray_scott" else [self.name]
        # A system read from a card has no presets.
        known = load_system(self.name) if is_in_catalogue(self.name) else self
        dt = known.presets.get(self.preset, {}).get("dt", known.run.dt)
        if self.preset and self.run.dt == dt:
            return "_".join([*own, self.preset])
        always = set.intersection(*map(set, known.presets.values())) if known.presets else set()
        names = [n for n in self.parameters if n in always]
        names += [n for n, v in self.parameters.items() if n not in always and v != known.usual.get(n)]
        words = [f"{name.replace('_', '')}{self.parameters[name]:.10g}" for name in names[:LISTED]]
        return "_".join([*own, *words, *([f"dt{self.run.dt:.10g}"] if self.run.dt != dt else [])]) or self.name

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; without presets, as the parameters are those of one."""
        left_out = {"presets", "usual"} if self.usual == self.parameters else {"presets"}
        values = {key: value for key, value in asdict(self).items() if key not in left_out}
        values["limits"] = {s: [end if math.isfinite(end) else None for end in ends] for s, ends in self.limits.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> System:
        """The system of a card, or of a parsed TOML file.

        Raises:
            UserError: what is missing, or is no part of a system (says the nearest).
        """
        name = values.get("name")
        if not isinstance(name, str) or not name:
            raise UserError("a system has no name; the file begins with name = ...")
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise UserError(
                    f"system {name!r}: unknown table {key!r}{nearest(key, known)}; known: {', '.join(sorted(known))}"
                )
        if "rates" not in values:
            raise UserError(f"system {name!r} has no rates; [rates] needs one for each species")
        made = dict(values)
        for key, kind in (("start", Start), ("run", Run)):
            table = made.get(key, {})
            parts = {f.name for f in fields(kind)}
            if not isinstance(table, dict) or set(table) - parts:
                raise UserError(f"system {name!r}: [{key}] may hold {', '.join(sorted(parts))}, not {table!r}")
            made[key] = kind(**table)
        limits = made.get("limits", {})
        if isinstance(limits, dict):
            made["limits"] = {s: _ends(ends) for s, ends in limits.items()}
        return cls(**made)

    @classmethod
    def of_terms(
        cls, name: str, terms: Terms, conditions: Mapping[str, float] | None = None, **settings: Any
    ) -> System:
        """The system of these terms, whose parameters are their coefficients: u_1, u_2, ... of species u.

        Args:
            conditions: further parameters, which terms may be multiplied by, as in 'F*u'.
            settings: its start, run, limits and so on.
        """
        rates: dict[str, str] = {}
        parameters: dict[str, float] = {}
        # Two where a species is called as a coefficient would be, such as u_1 beside u.
        others = (*terms, *(conditions or {}))
        mark = "__" if any(re.fullmatch(f"{s}_[0-9]+", other) for s in terms for other in others) else "_"
        for species, coefficients in terms.items():
            names = [f"{species}{mark}{n}" for n in range(1, len(coefficients) + 1)]
            parts = [
                own if term == "1" else f"{own}*{expressions.factor(term, others)}"
                for own, term in zip(names, coefficients, strict=True)
            ]
            rates[species] = " + ".join(parts) or "0"
            parameters |= dict(zip(names, map(float, coefficients.values()), strict=True))
        parameters |= conditions or {}
        return cls(name, rates, parameters, **settings)

    @classmethod
    def load(cls, name: str | Path) -> System:
        """A system by its name in the catalogue, or by the path of its TOML file; see reading.py."""
        from p2d.systems.reading import load_system

        return load_system(name)

    def save(self, path: str | Path) -> None:
        """Write a TOML file that `load` reads as an equal system."""
        from p2d.systems.reading import toml_text

        with whole(place(path)) as part:
            part.write_text(toml_text(self), encoding="utf-8")

    def __str__(self) -> str:
        from p2d.systems.writing import text

        return text(self.terms)

    def _repr_latex_(self) -> str:
        from p2d.systems.writing import latex_lines

        return latex_lines(self.terms)


def _ends(ends: Any) -> Any:
    if not isinstance(ends, list | tuple):
        return ends
    unlimited = (-math.inf, math.inf)
    return tuple(wide if end is None else end for wide, end in zip(unlimited, ends, strict=False)) + tuple(ends[2:])
