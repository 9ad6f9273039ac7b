"""Settings of a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from p2d.config.base import DATA, FINITE, MACHINE, MODEL, OUTPUT, Config, Show, least, option, values_set
from p2d.config.learn import check_alpha
from p2d.errors import UserError

Animation = Literal["gif", "mp4", "none"]


@dataclass(frozen=True)
class RolloutSource(Config):
    """Which flow, from which snapshots, and what the result is called."""

    group = MODEL

    flow: Annotated[str, option(help="flow model, by name or path")] = "waves"
    equation: Annotated[str, option(help="discovered equation instead, by name or path")] = ""
    set: Annotated[
        tuple[str, ...],
        option(
            help="the conditions that are shown, measured or not, of an equation that p2d discover --across found: "
            "F=0.02; in the middle of those it was fitted at where none are given"
        ),
    ] = ()
    start: Annotated[
        str, DATA, tyro.conf.arg(name="from", help="dataset of the starts, of any size; the flow's own when empty")
    ] = ""
    score: Annotated[
        str,
        option(help="score model, for corrector and baseline; that of the flow's dataset when empty, if there is one"),
    ] = ""
    name: Annotated[str, OUTPUT, option(help="name of the result; the flow's when empty")] = ""
    workers: Annotated[
        int, MACHINE, option(help="processes; 0: as many as the machine is best used with"), least(0)
    ] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.set and not self.equation:
            raise UserError(f"--set {' '.join(self.set)} needs --equation, one that p2d discover --across found")
        _ = self.conditions  # refuses what is none

    @property
    def conditions(self) -> dict[str, float]:
        """The values of --set by name.

        Raises:
            UserError: text that is no NAME=NUMBER, or several values of one name.
        """
        given = values_set(self.set)
        for name, values in given.items():
            if len(values) > 1:
                raise UserError(f"--set {name} has {len(values)} values; a rollout shows one, and p2d simulate several")
        return {name: value for name, (value,) in given.items()}


@dataclass(frozen=True)
class RolloutConfig(Config):
    """Carry snapshots on in time by a flow or an equation, beside the true system: animation, panels, measures."""

    group = MODEL

    sample: Annotated[int, DATA, option(help="sample id of the snapshot that is shown"), least(0)] = 0
    steps: Annotated[int, option("-n", help="steps of the simulator that the rollout is as long as"), least(1)] = 1000
    time: Annotated[
        float,
        option(help="how long it is in the equation's unit of time instead, where the true system is not known"),
        FINITE,
    ] = 0.0
    frames: Annotated[int, OUTPUT, option(help="frames that are kept and measured, beside the start"), least(1)] = 40
    ensemble: Annotated[
        int, DATA, option(help="snapshots that are rolled out, and measured, the shown one among them"), least(1)
    ] = 8
    eta: Annotated[float, option(help="strength of the score corrector; 0: none"), FINITE] = 0.0
    noise: Annotated[bool, option(help="with the corrector, the noise of Langevin dynamics")] = True
    alpha: Annotated[
        float, option("-a", help="signal level of the states that the score corrects; the flow's own if it has one")
    ] = 0.99
    step: Annotated[float, option(help="of Heun's method; 0: the largest that is stable"), FINITE] = 0.0
    animation: Annotated[Animation, OUTPUT, option(help="of the shown sample; mp4 needs ffmpeg")] = "gif"
    seed: Annotated[int, option(help="seed of noise and of the random flow"), least(0)] = 0
    show: Show = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames > self.steps:
            raise UserError(f"frames = {self.frames} is not possible in {self.steps} steps: give {self.steps} or fewer")
        check_alpha((self.alpha,))

    @property
    def times(self) -> list[int]:
        """Of the start and the frames, in steps of the simulator."""
        return [round(self.steps * n / self.frames) for n in range(self.frames + 1)]
