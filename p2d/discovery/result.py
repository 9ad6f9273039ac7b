"""A discovered equation: a system whose parameters are its coefficients, with error bars and a verdict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2d.config.stored import Json
from p2d.discovery.known import named
from p2d.discovery.library import Library
from p2d.discovery.moments import Measure
from p2d.discovery.verdict import Claims
from p2d.errors import UNREADABLE, UserError, nearest, one_line, refuse_other_types
from p2d.fields import Grid, Operator, Species
from p2d.places import place
from p2d.runs import read_json, write_json
from p2d.systems import writing
from p2d.systems.system import Amounts, System
from p2d.systems.terms import Terms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Intervals = dict[str, dict[str, tuple[float, float]]]
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f")  # of species
# What those of before do not tell.
OLDER: Json = {"rounded": False, "dropped": 0, "seconds": {}, "system": None}
OLDER |= {"directed": True, "grid": None, "operator": "5-point", "claims": Claims().to_dict()}
OLDER |= {"dynamics_noise": {}, "dynamics_noise_errors": {}, "timed": False, "time_unit": "", "value_units": {}}
OLDER |= {"conditions": {}}
UNDIRECTED = "the direction of time is not known, as no term that damps short waves is kept"
INTERVAL = (5.0, 95.0)  # percentiles
LISTED = 6  # values of a condition, or terms that it turns, at most
SAME_TIME = 0.1  # relative, within which the unit of time is taken for that of the true system
KEYS = {
    "terms": "equation",
    "errors": "error",
    "intervals": "interval",
    "simulable": "system",
}  # JSON's names of what is called otherwise


@dataclass(frozen=True)
class Discovery:
    """A discovered equation, with error bars and what is known of it. `p2d.discover` makes one.

    Example:
        import p2d
        dataset = p2d.simulate("waves", num_samples=48, height=64, width=64, steps=6000)
        equation = p2d.discover(dataset)
        print(equation, equation.parameters)         # F, k, D_u and D_v where the terms are Gray-Scott's
        print(equation.to_dict()["sympy"])           # also latex and py_pde
        equation.system.rate(dataset.states()[:4])   # as a System
        equation.plot()
        equation.save("waves.json")
        equation = p2d.Discovery.load("waves.json")

    Attributes:
        terms: coefficients of each species' terms, in the unit of time that unit_of_time says.
        errors: standard deviations of the coefficients over bootstrap resamples.
        intervals: their 90 % intervals.
        frequency: share of the resampled ensembles that keep each term; None where no term is ever left out.
        gap: how much worse the next best dynamics fits, relative to the best.
        spectrum: the smallest chi-squared values of orthogonal dynamics, over their degrees of freedom, ascending.
        misfit: excess of chi-squared of the mean rates, a run; far below 1 where the library holds the dynamics.
        z_max: the largest z-score of the rates of 40 held-out observables; None where nothing moves.
        unbalanced: share of the Laplacians' power that is no function of the values, near 0 where nothing moves.
        step: length of the explicit steps that made the snapshots and its standard error, in the unit of time; None
            where there is no sign of them.
        noise: standard deviation of each species' white noise that is corrected for.
        smoothing: width in cells of the kernel that snapshots are seen through, 0 for none.
        rounded: whether the snapshots are 8-bit images.
        snapshots: how many it is from.
        claims: what of it is known.
        statement: what else has to be said first: that nothing moves.
        unit_of_time: in words.
        timed: whether it is that of the times of frames.
        time_unit: then, of these; '' where it has no name.
        value_units: of species' values, by name, where they have some.
        directed: whether the direction of time is known: some term damps short waves.
        grid: of the snapshots: lengths are in its unit.
        operator: of the Laplacians and slopes, with which rates are those of the snapshots.
        dynamics_noise: sigma of white noise in the dynamics, dc = v dt + sigma dW, of the species that show it, in
            their unit over the root of that of time.
        dynamics_noise_errors: their standard deviations over bootstrap resamples.
        conditions: known ones that the equation holds across, and the values of each that it was fitted at; terms such
            as 'F*u' are those that a condition turns.
        simulable: the equation with the start, limits and run of the system that its data are of, see `simulated_as`.
        dropped: snapshots that were left out, as they are uniform.
        seconds: wall time of the passes and of the fit.
    """

    terms: Terms
    errors: Terms
    intervals: Intervals
    frequency: Terms | None
    gap: float
    spectrum: tuple[float, ...]
    misfit: float
    z_max: float | None
    unbalanced: float
    step: tuple[float, float] | None
    noise: tuple[float, ...]
    smoothing: float
    rounded: bool
    snapshots: int
    claims: Claims
    unit_of_time: str
    statement: str = ""
    timed: bool = False
    time_unit: str = ""
    value_units: dict[str, str] = field(default_factory=dict)
    directed: bool = True
    grid: Grid | None = None
    operator: Operator = "5-point"
    dynamics_noise: dict[str, float] = field(default_factory=dict)
    dynamics_noise_errors: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, tuple[float, ...]] = field(default_factory=dict)
    simulable: System | None = None
    dropped: int = field(default=0, compare=False)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)

    @classmethod
    def of(
        cls,
        library: Library,
        measure: Measure,
        operator: Operator,
        free: np.ndarray,
        draws: list[np.ndarray],
        **others: Any,
    ) -> Discovery:
        """The equation of these free numbers [P] of a library, with errors and intervals of resampled ones."""
        coefficients = np.array([library.ties @ draw for draw in draws])
        terms = library.name_terms(library.ties @ free)
        deviation, (low, high) = coefficients.std(axis=0), np.percentile(coefficients, INTERVAL, axis=0)
        places = {s: {term: library.place(s, term) for term in of_species} for s, of_species in terms.items()}
        noise = measure.noise or (0.0,) * len(measure.species)
        return cls(
            terms=terms,
            errors={s: {term: float(deviation[i]) for term, i in own.items()} for s, own in places.items()},
            intervals={s: {t: (float(low[i]), float(high[i])) for t, i in own.items()} for s, own in places.items()},
            noise=noise,
            smoothing=measure.smoothing,
            rounded=measure.rounded,
            grid=measure.grid,
            operator=operator,
            **others,
        )

    @cached_property
    def system(self) -> System:
        """The equation as a system, whose parameters are the coefficients, and conditions, in the middle of theirs."""
        return self.simulable or System.of_terms("discovered", self.terms, self.middle)

    @property
    def middle(self) -> dict[str, float]:
        """Each condition in the middle of its range."""
        return {name: (min(values) + max(values)) / 2 for name, values in self.conditions.items()}

    def at(self, **conditions: float) -> System:
        """The equation as a system under other conditions, measured or not.

        Raises:
            UserError: a condition that it does not know (says the nearest).
        """
        for name in conditions:
            if name not in self.conditions:
                known = f"known: {', '.join(self.conditions)}" if self.conditions else "it was fitted across none"
                raise UserError(f"the equation has no condition {name!r}{nearest(name, self.conditions)}; {known}")
        return self.system.at("", **conditions)

    def beyond(self, conditions: Mapping[str, float]) -> str:
        """What has to be said of conditions outside of those that the equation was fitted at; '' of others."""
        outside = [
            f"{name} = {value:g} lies outside of {min(self.conditions[name]):g} to {max(self.conditions[name]):g}"
            for name, value in conditions.items()
            if not min(self.conditions[name]) <= value <= max(self.conditions[name])
        ]
        return f"{', '.join(outside)}, where the equation was fitted: this is extrapolated" if outside else ""

    @property
    def turned(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """By condition, the terms of each species' equation that it turns."""
        return {name: {s: _turned_by(name, own) for s, own in self.terms.items()} for name in self.conditions}

    @property
    def _turning(self) -> list[str]:
        """Of each condition, in words: which terms it turns, and where that was fitted."""
        lines = []
        for name, values in self.conditions.items():
            parts = [
                f"{'the constant' if term == '1' else writing.term_text(term)} in d{s}/dt"
                for s, terms in self.turned[name].items()
                for term in terms
            ]
            told = ", ".join(parts[:LISTED]) + f" and {len(parts) - LISTED} more terms" * (len(parts) > LISTED)
            others = "; no other term is seen to depend on it" if parts else ""
            lines.append(f"{name} turns {told or 'nothing that is seen'}{others} ({_fitted_at(values)})")
            if len(values) == 2:
                lines.append(
                    f"from two values of {name} it cannot be told whether terms follow it along a straight line, nor "
                    "whether time runs as fast at both; a third tells"
                )
        return lines

    def simulated_as(self, truth: System, states: np.ndarray, grid: Grid, name: str = "discovered") -> System:
        """The equation as a system with the start, limits and burn-in of the system that its data are of.

        The step is such that rates are as fast on the data as the true system's.

        Args:
            states: some of the data, [N, C, H, W].
        """
        start, dt = truth.start, truth.run.dt

        def numbers(amounts: Amounts) -> Amounts:
            return {s: truth.value(amount) for s, amount in amounts.items()}

        start = replace(
            start,
            rest=dict(zip(truth.species, truth.amounts("rest").tolist(), strict=True)),
            blot=[numbers(blot) for blot in start.blot] if isinstance(start.blot, list) else numbers(start.blot),
            noise=numbers(start.noise),
        )
        wished = truth.rate(states.astype(np.float64), grid, self.operator)
        own = System.of_terms(name, self.terms, self.middle).rate(states.astype(np.float64), grid, self.operator)
        ratio = float(np.sqrt((wished**2).mean() / max((own**2).mean(), np.finfo(float).tiny)))
        # Nothing moves to take the step from, or it is the same to within what is known of it.
        dt *= ratio if own.any() and abs(ratio - 1) > SAME_TIME else 1.0
        run = replace(truth.run, dt=dt, spacing=grid.spacing)
        known = {"start": start, "limits": truth.limits, "units": truth.units, "run": run}
        return System.of_terms(name, self.terms, self.middle, **known)

    @property
    def parameters(self) -> dict[str, float]:
        """Those of a system of the catalogue, where the equation is that; otherwise {}."""
        known = named(self.terms)
        return known.parameters(self.terms) if known else {}

    @property
    def verdict(self) -> str:
        """What is known, in words."""
        return self.statement or str(self.claims)

    @property
    def short_verdict(self) -> str:
        """In a few words: 'velocity and terms known', 'velocity known', 'not known' or 'static'."""
        if self.statement:
            return self.statement.split(":")[0]
        if self.claims.terms_known:
            return "velocity and terms known"
        return "velocity known" if self.claims.velocity_known else "not known"

    def in_units(self, species: Iterable[Species], time_unit: str) -> Discovery:
        """The same with what the data's values and times are in."""
        values = {s.name: s.unit for s in species if s.unit}
        return replace(self, value_units=values, time_unit=time_unit if self.timed else "")

    @property
    def units_text(self) -> str:
        """What coefficients are in: 'lengths in um, times in min, a in nM'; '' where that is cells."""
        words = []
        if self.grid and self.grid.unit:
            words.append(f"lengths in {self.grid.unit}")
        elif self.grid and self.grid.spacing != 1:
            words.append(f"lengths in units of which a cell is {self.grid.spacing:g}")
        if self.time_unit:
            words.append(f"times in {self.time_unit}")
        return ", ".join([*words, *(f"{name} in {unit}" for name, unit in self.value_units.items())])

    @property
    def remarks(self) -> list[str]:
        """What else has to be said of the equation, a line each: conditions, doubts, units, noise."""
        lines = [*self._turning, *map(str, self.claims.doubts)]
        if self.units_text:
            lines.append(self.units_text)
        if not self.directed:
            lines.append(UNDIRECTED)
        if self.operator != "5-point":
            lines.append(f"Laplacians are {self.operator}")
        if any(self.noise):
            noise = " and ".join(f"{sigma:.4f} in {s}" for s, sigma in zip(self.terms, self.noise, strict=True))
            lines.append(f"corrected for white noise of {noise}")
        if self.dynamics_noise:
            errors = self.dynamics_noise_errors
            noise = " and ".join(f"{writing.number_text(v, errors[s])} in {s}" for s, v in self.dynamics_noise.items())
            lines.append(f"noise in the dynamics: {noise}, over the root of the unit of time")
        if self.step:
            step = writing.number_text(*self.step)
            lines.append(f"the snapshots show the explicit steps that made them: {step} units of time each")
        return lines

    def __str__(self) -> str:
        lines = [
            writing.text(self.terms, self.errors, self.conditions),
            f"{self.verdict}, {self.snapshots} snapshot{'s' * (self.snapshots != 1)}; "
            f"unit of time: {self.unit_of_time}",
            *self.remarks,
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        equations = "; ".join(writing.text(self.terms, self.errors, self.conditions).splitlines())
        return f"<Discovery {equations}: {self.short_verdict}>"

    def _repr_html_(self) -> str:
        equation, *worth = str(self).split(f"\n{self.verdict}", 1)
        remarks = "<br>".join(escape(line) for line in f"{self.verdict}{worth[0]}".splitlines())
        return f"<pre>{escape(equation)}</pre><p>{remarks}</p>"

    def _repr_latex_(self) -> str:
        return writing.latex_lines(self.terms, self.conditions)

    def plot(self, axes: Axes | None = None, truth: System | None = None) -> Axes:
        """Draw each coefficient, with its 90 % interval, over that of the truth (or itself, where that is not known).

        Args:
            axes: of matplotlib; the current ones when None.
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.gca()
        labels: list[str] = []
        for species, colour in zip(self.terms, COLOURS, strict=False):
            for term, value in self.terms[species].items():
                true = truth.terms[species].get(term, 0.0) if truth else value
                middle, *ends = (number / (true or 1.0) for number in (value, *self.intervals[species][term]))
                reach = [[max(middle - min(ends), 0)], [max(max(ends) - middle, 0)]]
                style: dict[str, Any] = {"fmt": "o" if true else "x", "color": colour, "capsize": 3, "markersize": 4}
                axes.errorbar([middle], [len(labels)], xerr=reach, **style)
                labels.append(f"d{species}/dt: {writing.term_text(term)}{'' if true else ' (absent)'}")
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.set_title(f"coefficient / {'true one' if truth else 'itself'}, 90 % intervals", fontsize=9)
        return axes

    def to_dict(self) -> Json:
        """As JSON types: the equation in several forms, its errors, and the numbers of the verdict."""
        values = {KEYS.get(key, key): value for key, value in asdict(replace(self, simulable=None, grid=None)).items()}
        del values["system"]
        values |= {"claims": self.claims.to_dict(), "verdict": self.verdict}
        values["grid"] = self.grid.to_dict() if self.grid else None
        if self.simulable:
            values["system"] = self.simulable.to_dict()
        if self.parameters:
            values["parameters"] = self.parameters
        values["text"] = writing.text(self.terms, self.errors, self.conditions)
        forms = {"sympy": writing.sympy_text, "latex": writing.latex, "py_pde": writing.py_pde_text}
        values |= {key: form(self.terms, self.conditions) for key, form in forms.items()}
        return json.loads(json.dumps(values))

    @classmethod
    def from_dict(cls, values: Json) -> Discovery:
        """The discovery of these JSON types; what it does not know is left out."""
        if "claims" not in values:  # what its words say is all that is known of it
            values = {**values, "statement": values["verdict"]}
        values = {**OLDER, "statement": "", **values}
        own = {f.name: values[KEYS.get(f.name, f.name)] for f in fields(cls)}
        ends = {s: {term: tuple(pair) for term, pair in terms.items()} for s, terms in own["intervals"].items()}
        step = tuple(own["step"]) if own["step"] else None
        simulable = System.from_dict(own["simulable"]) if own["simulable"] else None
        own["grid"] = Grid.from_dict(own["grid"]) if own["grid"] else None
        own |= {"intervals": ends, "step": step, "simulable": simulable, "claims": Claims.from_dict(own["claims"])}
        own["conditions"] = {name: tuple(values) for name, values in own["conditions"].items()}
        made = cls(**own | {k: tuple(own[k]) for k in ("spectrum", "noise")})
        refuse_other_types(made, cls, "equation")
        known = [(s, t) for s, own in made.terms.items() for t in own]
        tables = (made.errors, made.intervals)
        if not all(known == [(s, t) for s, own in table.items() for t in own] for table in tables):
            raise ValueError("its errors are not those of its terms")
        if len(made.noise) != len(made.system.species):
            raise ValueError("its noise is not that of its species")
        return made

    def save(self, path: str | Path, **beside: Any) -> Path:
        """Write equation.json into a folder, or a file of another name that ends with .json.

        Args:
            beside: other entries of the file, such as the settings.
        """
        file = _file(path)
        write_json(file, {**beside, "found": self.to_dict()})
        return file

    @classmethod
    def load(cls, path: str | Path) -> Discovery:
        """The discovery of an equation.json, or of the folder it lies in.

        Raises:
            UserError: no such file, or one that holds no equation.
        """
        file = _file(path)
        try:
            return cls.from_dict(read_json(file, "found")["found"])
        except FileNotFoundError:
            raise UserError(f"there is no equation {file}; p2d discover makes one") from None
        except (*UNREADABLE, UserError) as error:
            raise UserError(
                f"{file} holds no equation that can be read ({one_line(error)}); p2d discover makes one"
            ) from error


def _turned_by(condition: str, terms: Mapping[str, float]) -> tuple[str, ...]:
    """Which terms stand behind a condition: '1' and 'u' of 'F' and 'F*u'."""
    behind = f"{condition}*"
    return tuple(
        "1" if term == condition else term.removeprefix(behind)
        for term in terms
        if term == condition or term.startswith(behind)
    )


def _fitted_at(values: tuple[float, ...]) -> str:
    if len(values) > LISTED:
        return f"fitted at {len(values)} values from {values[0]:g} to {values[-1]:g}"
    return f"fitted at {', '.join(f'{value:g}' for value in values[:-1])} and {values[-1]:g}"


def _file(path: str | Path) -> Path:
    path = place(path)
    return path if path.suffix == ".json" else path / "equation.json"
