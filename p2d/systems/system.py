"""A system: its species, their rates as text, parameters and presets; in a TOML file of about 20 lines.

    name = "brusselator"
    [rates]
    x = "D_x*lap(x) + a - (b + 1)*x + x**2*y"
    y = "D_y*lap(y) + b*x - x**2*y"
    [parameters]
    D_x = 1.0
    ...
    [presets.turbulence]
    b = 3.0
    moves = true

Optional are [limits] of species ([low, high]), [units] of species, [start] (rest, blot, noise: amounts by species, numbers
or made of parameters; kind), and [run] (dt, steps, spacing): what a simulation does where nothing else is asked for. A
preset may set what [run] sets, too, and says whether its patterns move.
"""

from __future__ import annotations

import difflib
import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2d.errors import UserError, nearest
from p2d.fields import MOST_SPECIES, Grid, Operator, Species
from p2d.systems import expressions
from p2d.systems.terms import Terms, terms

CATALOGUE = Path(__file__).parent / "catalogue"
STEPS = 10_000  # of a system that says nothing
RUN_KEYS = ("dt", "steps", "spacing")
LISTED = 12  # parameters in a label
UNSAID_NOISE = 0.01  # of the rest value, or of 1, of a system that says neither blot nor noise
OUTGROWN = 10  # by how much patterns outgrow the noise that they grow from
ROOT_STEPS = 60
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

    Attributes:
        name: of the system.
        rates: d/dt of each species, as text, see expressions.py.
        parameters: by name.
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
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    start: Start = field(default_factory=Start)
    run: Run = field(default_factory=Run)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    moves: bool | None = None
    preset: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.rates, dict) or not self.rates:
            raise UserError(f"system {self.name!r} has no rates; [rates] needs one for each species")
        if len(self.rates) > MOST_SPECIES:
            raise UserError(f"system {self.name!r} has {len(self.rates)} species; {MOST_SPECIES} are the most")
        for name in self.rates:
            expressions.refuse_name(name, f"system {self.name!r}: species")
        for name, value in self.parameters.items():
            expressions.refuse_name(name, f"system {self.name!r}: parameter")
            if name in self.rates:
                raise UserError(f"system {self.name!r}: {name!r} is both a species and a parameter")
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"system {self.name!r}: parameter {name} = {value!r} is no finite number")
        for name, text in self.rates.items():
            self._refuse_rate(name, text)
        for table in ("limits", "units"):
            self._refuse_strangers(table, getattr(self, table), self.rates)
        for key, table in (
            ("rest", self.start.rest),
            ("noise", self.start.noise),
            *(("blot", b) for b in self.start.blots),
        ):
            self._refuse_strangers(f"start.{key}", table, self.rates)
            for species, amount in table.items():
                self._refuse_amount(f"start.{key}.{species}", amount)
        for name, ends in self.limits.items():
            if not (isinstance(ends, tuple) and len(ends) == 2 and ends[0] < ends[1]):
                raise UserError(f"system {self.name!r}: limits of {name} are {ends!r}; give [lowest, highest]")
        for name, preset in self.presets.items():
            self._refuse_strangers(f"presets.{name}", preset, (*self.parameters, *RUN_KEYS, "moves"))

    def _refuse_rate(self, species: str, text: Any) -> None:
        try:
            if not isinstance(text, str):
                raise UserError(f"{text!r} is no text; write the rate in quotes")
            expressions.parse(text, self.rates, self.parameters)
        except UserError as error:
            raise UserError(f"system {self.name!r}, rate of {species}: {error}") from None

    def _refuse_amount(self, where: str, amount: Any) -> None:
        try:
            value = self._amount(amount)
        except UserError as error:
            raise UserError(f"system {self.name!r}, {where}: {error}") from None
        if not math.isfinite(value):
            raise UserError(f"system {self.name!r}, {where} = {amount!r} is no finite number")

    def _refuse_strangers(self, table: str, given: Any, known: Any) -> None:
        if not isinstance(given, dict):
            raise UserError(f"system {self.name!r}: {table} is {given!r}; it must be a table")
        for name in given:
            if name not in known:
                raise UserError(
                    f"system {self.name!r}: unknown name {name!r} in [{table}]{nearest(name, known)}; "
                    f"known: {', '.join(known)}"
                )

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

    @property
    def reach(self) -> int:
        """How many cells the rates' nested stencils reach."""
        return max(expressions.reach(tree) for tree in self.trees.values())

    def rate(self, state: Any, grid: Grid | None = None, operator: Operator = "5-point") -> Any:
        """d/dt of a state [..., C, H, W], numpy array or torch tensor; the same kind and shape back.

        Args:
            grid: periodic of spacing 1 when None.
        """
        grid = grid or Grid((int(state.shape[-2]), int(state.shape[-1])))
        functions = expressions.smooth_functions(state) | grid.operators(operator)
        names = {**self.parameters, **{s: state[..., i, :, :] for i, s in enumerate(self.species)}}
        made = [0 * names[s] + expressions.evaluate(tree, names, functions) for s, tree in self.trees.items()]
        if isinstance(state, np.ndarray):
            return np.stack(made, axis=-3)
        import torch

        return torch.stack(made, dim=-3)

    def amounts(self, kind: str) -> np.ndarray:
        """Amounts of each species in the start's 'rest' or 'noise', float64 [C]."""
        given = {s: self._amount(amount) for s, amount in getattr(self.start, kind).items()}
        if kind == "rest" and not given:
            return self._rest
        if kind == "noise" and not given and not self.start.blots:
            return UNSAID_NOISE * np.maximum(np.abs(self.amounts("rest")), 1.0)
        return np.array([given.get(s, 0.0) for s in self.species])

    @functools.cached_property
    def blots(self) -> np.ndarray:
        """Amounts of each species in each of the start's K blots, float64 [K, C]; of the rest where not said."""
        rest = dict(zip(self.species, self.amounts("rest"), strict=True))
        told = [rest | {s: self._amount(amount) for s, amount in blot.items()} for blot in self.start.blots]
        return np.array([[blot[s] for s in self.species] for blot in told]).reshape(-1, len(rest))

    @functools.cached_property
    def _rest(self) -> np.ndarray:
        """A uniform state that the rates leave as it is, by Newton's method; zeros where none is found."""
        from p2d.systems import stability

        ends = [self.limits.get(s, (-math.inf, math.inf)) for s in self.species]
        low, high = (np.array(e, float) for e in zip(*ends, strict=True))
        for guess in (0.5, 0.0, 1.0, -1.0):
            bounded = np.isfinite(low) & np.isfinite(high)
            state = np.where(
                bounded, np.where(bounded, low, 0) * (1 - guess) + np.where(bounded, high, 0) * guess, guess
            )
            for _ in range(ROOT_STEPS):
                rate = self.rate(state[:, None, None])[:, 0, 0]
                slope = stability.jacobian(self, 0.0, state)
                if not (np.isfinite(rate).all() and np.isfinite(slope).all()):
                    break
                if np.abs(rate).max() < 1e-12 * max(np.abs(state).max(), 1.0):
                    break
                state = state - np.linalg.lstsq(slope, rate, rcond=None)[0]
            rate = self.rate(state[:, None, None])
            if np.isfinite(rate).all() and np.abs(rate).max() < 1e-9 and (state >= low).all() and (state <= high).all():
                return state
        return np.clip(np.zeros(len(ends)), low, high)

    def _amount(self, amount: float | str) -> float:
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
        """The system with the parameters of a preset, and these in their place.

        Raises:
            UserError: a preset or a parameter that is not known (says the nearest).
        """
        made = self
        if preset:
            if preset not in self.presets:
                told = ", ".join(self.presets) or "none"
                raise UserError(
                    f"unknown preset {preset!r} of {self.name}{nearest(preset, self.presets)}; known: {told}"
                )
            values = dict(self.presets[preset])
            moves = values.pop("moves", None)
            run = {key: values.pop(key) for key in RUN_KEYS if key in values}
            made = replace(
                made,
                parameters={**made.parameters, **values},
                run=replace(made.run, **run),
                moves=moves,
                preset=preset,
            )
        for name in parameters:
            if name not in self.parameters:
                raise UserError(
                    f"{self.name} has no parameter {name!r}{nearest(name, self.parameters)}; "
                    f"known: {', '.join(self.parameters)}"
                )
        changed = {**made.parameters, **parameters}
        if changed == made.parameters:
            return made
        return replace(made, parameters=changed, preset=self._preset_of(changed), moves=None)

    def _preset_of(self, parameters: dict[str, float]) -> str:
        """The preset that these parameters are of, '' for others."""
        for name, preset in self.presets.items():
            values = {key: value for key, value in preset.items() if key in self.parameters}
            if {**self.parameters, **values} == parameters and set(preset) <= {*values, "moves"}:
                return name
        return ""

    @property
    def label(self) -> str:
        """What the system is called in datasets: its preset or its parameters, behind its name unless Gray-Scott.

        Parameters that every preset gives are always said, others (and the step) where they are not the usual ones.
        """
        own = [] if self.name == "gray_scott" else [self.name]
        usual = load_system(self.name) if is_in_catalogue(self.name) else self
        dt = usual.presets.get(self.preset, {}).get("dt", usual.run.dt)
        if self.preset and self.run.dt == dt:
            return "_".join([*own, self.preset])
        always = set.intersection(*map(set, usual.presets.values())) if usual.presets else set()
        said = [n for n in self.parameters if n in always]
        said += [n for n, v in self.parameters.items() if n not in always and v != usual.parameters.get(n)]
        told = [f"{name.replace('_', '')}{self.parameters[name]:.10g}" for name in said[:LISTED]]
        return "_".join([*own, *told, *([f"dt{self.run.dt:.10g}"] if self.run.dt != dt else [])]) or self.name

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; the presets are left out, as the parameters are those of one."""
        values = {key: value for key, value in asdict(self).items() if key != "presets"}
        values["limits"] = {s: [_told(end) for end in ends] for s, ends in self.limits.items()}
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
    def of_terms(cls, name: str, terms: Terms, **settings: Any) -> System:
        """The system of these terms, whose parameters are their coefficients: u_1, u_2, ... of species u.

        Args:
            settings: its start, run, limits and so on.
        """
        rates, parameters = {}, dict[str, float]()
        for species, coefficients in terms.items():
            names = [f"{species}_{n}" for n in range(1, len(coefficients) + 1)]
            parts = [
                own if term == "1" else f"{own}*{expressions.factor(term, terms)}"
                for own, term in zip(names, coefficients, strict=True)
            ]
            rates[species] = " + ".join(parts) or "0"
            parameters |= dict(zip(names, coefficients.values(), strict=True))
        return cls(name, rates, parameters, **settings)

    def __str__(self) -> str:
        from p2d.systems.writing import text

        return text(self.terms)

    def _repr_latex_(self) -> str:
        from p2d.systems.writing import latex

        return r"$$\begin{aligned}" + r"\\".join(latex(self.terms).values()).replace("=", "&=") + r"\end{aligned}$$"


def _told(end: float) -> float | None:
    return end if math.isfinite(end) else None


def _ends(ends: Any) -> Any:
    if not isinstance(ends, list | tuple):
        return ends
    wide = (-math.inf, math.inf)
    return tuple(wide[n] if end is None else end for n, end in enumerate(ends)) if len(ends) == 2 else tuple(ends)


def is_in_catalogue(name: str) -> bool:
    """Whether the catalogue holds a system of this name."""
    return (CATALOGUE / f"{name.replace('-', '_')}.toml").is_file()


def catalogue() -> dict[str, System]:
    """All systems of the catalogue, by name."""
    return {file.stem: load_system(file.stem) for file in sorted(CATALOGUE.glob("*.toml"))}


def load_system(name: str) -> System:
    """A system by its name in the catalogue, or by the path of its TOML file.

    Raises:
        UserError: no such system (says the nearest), or a file that is none (says the line).
    """
    if is_in_catalogue(name):
        return _read(CATALOGUE / f"{name.replace('-', '_')}.toml")
    file = Path(name).expanduser()
    if file.is_file():
        return _read(file)
    known = sorted(f.stem for f in CATALOGUE.glob("*.toml"))
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.5)
    told = f" (did you mean {close[0]!r}?)" if close else ""
    raise UserError(f"there is no system {name!r}{told}: give the path of its TOML file, or one of {', '.join(known)}")


@functools.cache
def _parsed(file: Path, _: float) -> System:
    try:
        return System.from_dict(tomllib.loads(file.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is no TOML: {error}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _read(file: Path) -> System:
    return _parsed(file, file.stat().st_mtime)
