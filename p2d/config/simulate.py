"""Settings of a simulated dataset, and what they come to: systems with their parameters, and how each is advanced."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import numpy as np

from p2d.config.base import HOW, MACHINE, SIGMAS, Config, at_least, of_each, option, quantity, values_set
from p2d.errors import UserError, refuse_unknown
from p2d.fields import Edge, Grid, Operator, Species
from p2d.systems import initial, stability
from p2d.systems.reading import load_system
from p2d.systems.stepping import Integrator, Scheme
from p2d.systems.system import Run, System
from p2d.systems.wiener import Wiener

Device = Literal["auto", "cpu", "cuda"]
LARGEST_SEED = 2**63 - 1  # as the shards' column holds it
LABELS_IN_A_NAME = 3


@dataclass(frozen=True)
class SimulateConfig(Config):
    """Simulate a system's patterns into a dataset of parquet shards."""

    system: Annotated[str, option(help="system: its name (p2d systems lists them), or a TOML file of one's own")] = (
        "gray_scott"
    )
    preset: Annotated[
        tuple[str, ...], option("-p", help="presets to simulate; the system's first when none is given")
    ] = ()
    set: Annotated[
        tuple[str, ...],
        option(
            help="parameters in place of the preset's: F=0.014,0.018 k=0.05 makes every combination; of an equation, "
            "conditions that it was found across"
        ),
    ] = ()
    equation: Annotated[str, option(help="a discovered equation instead of a system, by name or path")] = ""
    dt: Annotated[float, option(help="step, in the system's time; 0: the system's own")] = 0.0
    num_samples: Annotated[int, option(help="samples (snapshots) of each system")] = 512
    height: Annotated[int, option(help="grid rows; 1: one dimension")] = 128
    width: Annotated[int, option(help="grid columns")] = 128
    spacing: Annotated[str, option(help="from cell to cell, such as 0.5 or 0.65um; the system's own when empty")] = ""
    edges: Annotated[
        tuple[Edge, ...],
        option(
            help="periodic or mirror (no flux), of both axes or of y and x; periodic when empty, or those of the data "
            "that an --equation is of, and walls where these are open"
        ),
    ] = ()
    operator: Annotated[Operator, option(help="Laplacian")] = "5-point"
    integrator: Annotated[
        Integrator, option(help="forward Euler, or etdrk4: fourth order, for stiff systems and continuum-true data")
    ] = "euler"
    initial: Annotated[
        str, option(help="initial states: discs, centre or noise, or a dataset; the system's own when empty")
    ] = ""
    steps: Annotated[int | None, option(help="steps before a snapshot; the system's own burn-in when not given")] = None
    snapshots_per_run: Annotated[int, option(help="snapshots taken of each run, from --steps on")] = 1
    interval: Annotated[int, option(help="steps from one snapshot of a run to the next")] = 0
    noise: Annotated[
        float, option(help="standard deviation of measurement noise on the snapshots, as a share of a species' range")
    ] = 0.0
    dynamics_noise: Annotated[
        tuple[float, ...],
        option(
            help="noise in the dynamics: random kicks to every cell throughout the run, one size or one a species, in "
            "the values' unit a square root of a unit of time; 0.003 alone moves a value by 0.3 within 10,000 units"
        ),
    ] = (0.0,)
    seed: Annotated[int, option(help="dataset seed; a sample depends on (seed, sample id) alone")] = 0
    normalize: Annotated[bool, option(help="train on values scaled to about -1 to 1 rather than on values")] = True
    name: Annotated[str, option(help="name under OUT/data; the systems and the size when empty")] = field(
        default="", metadata=HOW
    )
    chunk: Annotated[int, MACHINE, option(help="samples simulated at a time, and rows of a shard")] = field(
        default=64, metadata=HOW
    )
    actors: Annotated[int, MACHINE, option(help="simulating processes; 0: one a GPU, or one a core")] = field(
        default=0, metadata=HOW
    )
    threads: Annotated[int, MACHINE, option(help="CPU threads of each actor; 0: the cores shared out")] = field(
        default=0, metadata=HOW
    )
    device: Annotated[Device, MACHINE, option(help="where to simulate")] = field(default="auto", metadata=HOW)
    cuda: Annotated[bool, MACHINE, option(help="the same as --device cuda")] = field(default=False, metadata=HOW)

    def __post_init__(self) -> None:
        for key in ("num_samples", "height", "width", "chunk", "snapshots_per_run"):
            at_least(key, getattr(self, key), 1)
        for key in ("steps", "interval", "seed", "actors", "threads"):
            at_least(key, getattr(self, key) or 0, 0)
        SIGMAS.refuse("dynamics_noise", self.dynamics_noise)
        refuse_unknown("device", self.device, get_args(Device))
        beside = self.preset or self.system != SimulateConfig.system
        mistakes = {
            f"seed = {self.seed} is not possible: it must be {LARGEST_SEED} or below": self.seed > LARGEST_SEED,
            f"noise = {self.noise} is not possible: a share of the range of 0 or above, and below 1": (
                not 0 <= self.noise < 1
            ),
            f"dt = {self.dt} is not possible: it must be a finite number above 0, or 0 for the system's own": (
                not (math.isfinite(self.dt) and self.dt >= 0)
            ),
            f"edges = {' '.join(self.edges)} is not possible: give one for both axes, or those of y and x": (
                len(self.edges) > 2
            ),
            "several snapshots a run need --interval, the steps from one to the next (say 1000)": (
                self.snapshots_per_run > 1 and not self.interval
            ),
            f"interval = {self.interval} needs --snapshots-per-run above 1": (
                self.interval and self.snapshots_per_run == 1
            ),
            "--cuda and --device cpu exclude each other; give one of them": self.cuda and self.device == "cpu",
            "--equation is a system of its own: it takes no --system or --preset": self.equation and beside,
        }
        for told, wrong in mistakes.items():
            if wrong:
                raise UserError(told)
        if not self.equation:
            self.simulation()

    def simulation(self, equation: System | None = None) -> Simulation:
        """What these settings come to.

        Args:
            equation: the discovered one, where the settings name one.

        Raises:
            UserError: a system, preset or parameter that is not known, or a scheme that cannot advance the system.
        """
        systems = self._chosen(equation) if equation else self._systems()
        length, unit = self._spacing(systems)
        grid = Grid((self.height, self.width), length, self.both_edges, unit)
        resolved = {}
        for label, system in systems.items():
            if self.initial in ("", *initial.KINDS):
                initial.refuse_kind(system, self.initial or initial.usual_kind(system))
            dt = self.dt or system.run.dt or stability.usual_step(system, grid, self.operator)
            scheme = Scheme(grid, dt, self.operator, self.integrator)
            scheme.refuse(system)
            noise = of_each("dynamics_noise", self.dynamics_noise, len(system.species))
            if any(noise):
                scheme.refuse_noise()
            steps = system.run.steps if self.steps is None else self.steps
            resolved[label] = dataclasses.replace(system, run=Run(dt, steps, length))
        shared = ("operator", "integrator", "num_samples", "snapshots_per_run", "interval", "noise", "seed")
        return Simulation(
            resolved,
            grid,
            initial=self.initial or initial.usual_kind(next(iter(systems.values()))),
            normalize=self.normalize,
            chunk=self.chunk,
            dynamics_noise=noise if any(noise) else (),
            **{key: getattr(self, key) for key in shared},
        )

    def _systems(self) -> dict[str, System]:
        """The systems, by label: every preset, with every combination of the given parameters."""
        return self._chosen(load_system(self.system))

    def _chosen(self, base: System) -> dict[str, System]:
        """A system with every combination of the given parameters, of every preset."""
        choices = [[(name, value) for value in values] for name, values in self._given(base).items()]
        made: dict[str, System] = {}
        for preset in self.preset or tuple(base.presets)[:1] or ("",):
            for chosen in itertools.product(*choices):
                system = base.at(preset, **dict(chosen))
                if self.dt:
                    system = dataclasses.replace(system, run=dataclasses.replace(system.run, dt=self.dt))
                if system.label in made:
                    raise UserError(f"the system {system.label} is named twice; each may be given once")
                made[system.label] = system
        return made

    def _given(self, base: System) -> dict[str, tuple[float, ...]]:
        """The values of --set by parameter."""
        given = values_set(self.set)
        for name in given:
            base.refuse_parameter(name)
        return given

    def _spacing(self, systems: dict[str, System]) -> tuple[float, str]:
        """The grid's spacing, and its unit."""
        if not self.spacing:
            own = sorted({system.run.spacing for system in systems.values()})
            if len(own) > 1:
                raise UserError(f"the systems have spacings of {' and '.join(map(str, own))}; give one --spacing")
            return own[0], ""
        return quantity("spacing", self.spacing, None, "0.65um")

    @property
    def both_edges(self) -> tuple[Edge, Edge]:
        """Of y and x."""
        edges = self.edges or ("periodic",)
        return edges[0], edges[-1]

    @property
    def dataset_name(self) -> str:
        """The folder's name under OUT/data."""
        return self.name or f"{self._name_of_systems()}_{self.height}x{self.width}"

    def _name_of_systems(self) -> str:
        if self.equation:
            name = self.equation.rstrip("/").rsplit("/", 1)[-1].removesuffix(".json")
            return "_".join(
                [f"{name}_equation", *(re.sub(r"[^\w.+-]", "-", text.replace("=", "")) for text in self.set)]
            )
        base, systems = load_system(self.system), self._systems()
        if len(systems) <= max(LABELS_IN_A_NAME, len(self.preset)):
            return re.sub(r"[^\w.+-]", "-", "+".join(systems))
        own = [] if base.name == "gray_scott" else [re.sub(r"[^\w.+-]", "-", base.name)]
        values = {key: sorted({s.parameters[key] for s in systems.values()}) for key in base.parameters}
        given = self._given(base)
        ranges = [
            f"{key.replace('_', '')}{'-'.join(f'{v:g}' for v in dict.fromkeys((each[0], each[-1])))}"
            for key, each in values.items()
            if key in given or len(each) > 1
        ]
        return "_".join([*own, *ranges, f"{len(systems)}systems"])

    @property
    def wished_device(self) -> str:
        """--device, or 'cuda' by its original option --cuda."""
        return "cuda" if self.cuda else self.device


@dataclass(frozen=True)
class Simulation:
    """What is simulated, in full: one object from the command to the actor, and what a card keeps of it.

    Attributes:
        systems: by label; `run` of each says the step, the burn-in and the spacing that are taken.
        initial: kind of the initial states, or the folder of a dataset of them.
        chunk: samples simulated at a time, which does not decide what comes out.
        initial_hash: of what that dataset holds, '' for a kind.
        dynamics_noise: of each species; none where there is no noise in the dynamics.
        others: see SimulateConfig, and Scheme.
    """

    systems: dict[str, System]
    grid: Grid
    operator: Operator
    integrator: Integrator
    initial: str
    num_samples: int
    snapshots_per_run: int
    interval: int
    noise: float
    seed: int
    normalize: bool
    chunk: int = 64
    initial_hash: str = ""
    dynamics_noise: tuple[float, ...] = ()

    def noise_of(self, runs: np.ndarray) -> Wiener | None:
        """The noise in the dynamics of runs of these numbers, from their first step on; None where there is none.

        Runs that go on from the states of a dataset have other noise than those that made it.
        """
        others = int(self.initial_hash[:15] or "0", 16)  # 60 bits
        return Wiener(self.dynamics_noise, self.seed ^ others, runs) if self.dynamics_noise else None

    def scheme(self, label: str) -> Scheme:
        """How a system is advanced."""
        return Scheme(self.grid, self.systems[label].run.dt, self.operator, self.integrator)

    @property
    def species(self) -> tuple[Species, ...]:
        """Of all systems, whose ranges span those of each."""
        each = [system.described() for system in self.systems.values()]
        return tuple(
            dataclasses.replace(same[0], low=min(s.low for s in same), high=max(s.high for s in same))
            for same in zip(*each, strict=True)
        )

    @property
    def runs(self) -> int:
        """Simulated runs of each system."""
        return -(-self.num_samples // self.snapshots_per_run)

    @property
    def updates(self) -> int:
        """Of cells, in all."""
        later = self.interval * (self.snapshots_per_run - 1)
        steps = sum(system.run.steps + later for system in self.systems.values())
        return self.runs * steps * self.grid.shape[0] * self.grid.shape[1]

    @property
    def is_fast(self) -> bool:
        """Whether kernels advance it, and no Fourier modes."""
        return self.integrator == "euler" and self.operator not in ("spectral", "8th-order")

    def identity(self) -> dict[str, Any]:
        """What decides the contents, as JSON types."""
        told = dataclasses.asdict(dataclasses.replace(self, systems={})) | {"grid": self.grid.to_dict()}
        del told["chunk"]
        if not self.dynamics_noise:
            del told["dynamics_noise"]  # which older cards do not know
        told["systems"] = {label: system.to_dict() for label, system in self.systems.items()}
        for system in told["systems"].values():
            for key in ("source", "moves", "preset", "usual"):
                system.pop(key, None)
        return json.loads(json.dumps(told))

    @classmethod
    def of_settings(cls, settings: dict[str, Any], chunk: int) -> Simulation:
        """The simulation that a card keeps, see `identity`."""
        systems = {label: System.from_dict(system) for label, system in settings["systems"].items()}
        typed = {"systems": systems, "grid": Grid.from_dict(settings["grid"]), "chunk": chunk}
        return cls(**{**settings, **typed, "dynamics_noise": tuple(settings.get("dynamics_noise", ()))})
