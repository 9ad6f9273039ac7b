"""How like held-out snapshots generated patterns are: the numbers of quality.json, and their table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from p2d.config.stored import Json
from p2d.evaluate.tables import table_text
from p2d.runs import write_json


@dataclass(frozen=True)
class BesideFloor:
    """A distance to held-out snapshots, and that of as many training snapshots.

    Attributes:
        ratio: of the distance to the floor.
    """

    distance: float
    floor: float
    ratio: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        return f"{self.distance:.4f}", f"{self.floor:.4f}", f"{self.ratio:.2f}"


@dataclass(frozen=True)
class Moment(BesideFloor):
    """The mean of an observable, whose distance is in standard deviations of a snapshot's average.

    Attributes:
        generated, held_out: the means.
    """

    generated: float
    held_out: float

    @property
    def cells(self) -> tuple[str, ...]:
        """Of the table."""
        return (*super().cells, f"{self.generated:.4g}", f"{self.held_out:.4g}")


@dataclass(frozen=True)
class Nearest:
    """Distances to the nearest training snapshot: 0 for a copy, about 1 for a stranger.

    Attributes:
        memorised: share of generated patterns that are closer than half of the held-out snapshots' median.
    """

    generated_median: float
    generated_smallest: float
    held_out_median: float
    held_out_smallest: float
    memorised: float

    def __str__(self) -> str:
        return (
            f"nearest training snapshot (0: a copy, 1: unrelated): generated {self.generated_median:.2f} at the "
            f"median, {self.generated_smallest:.2f} at the closest; held-out {self.held_out_median:.2f}, "
            f"{self.held_out_smallest:.2f}; memorised: {100 * self.memorised:.0f} %"
        )


@dataclass(frozen=True)
class Quality:
    """Distances of generated patterns to held-out snapshots.

    Attributes:
        moments: by observable.
        spectrum, nearest: None where the sizes of the grids differ.
    """

    energy_distance: BesideFloor
    moments: dict[str, Moment]
    spectrum: BesideFloor | None = None
    nearest: Nearest | None = None

    def __str__(self) -> str:
        rows = [("radial power spectrum", *self.spectrum.cells)] if self.spectrum else []
        rows += [("energy distance", *self.energy_distance.cells)]
        rows += [(f"mean of {name}", *moment.cells) for name, moment in self.moments.items()]
        lines = [
            table_text(("distance to held-out", "generated", "floor", "ratio", "mean", "held-out"), rows),
            "floor: as many training snapshots; means differ in standard deviations of a snapshot's average",
        ]
        return "\n".join([*lines, *([str(self.nearest)] if self.nearest else [])])

    def metrics(self) -> dict[str, float]:
        """The numbers by name, for tracking."""
        numbers: dict[str, float] = {}
        for key, value in self.to_dict().items():
            for name, number in value.items():
                nested = number if isinstance(number, dict) else {"": number}
                label = "_".join(name.replace("|", "").replace("^", "").split())
                numbers |= {f"{key}_{label}{'_' * bool(part)}{part}": float(n) for part, n in nested.items()}
        return numbers

    def to_dict(self) -> Json:
        """As JSON types, without what there is not."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: Json) -> Quality:
        """The quality of these JSON types."""
        return cls(
            energy_distance=BesideFloor(**values["energy_distance"]),
            moments={name: Moment(**moment) for name, moment in values["moments"].items()},
            spectrum=BesideFloor(**values["spectrum"]) if "spectrum" in values else None,
            nearest=Nearest(**values["nearest"]) if "nearest" in values else None,
        )

    def save(self, file: str | Path, **beside: Any) -> None:
        """Write it as JSON, with other entries beside it."""
        write_json(Path(file), {**beside, "quality": self.to_dict()})

    @classmethod
    def load(cls, file: str | Path) -> Quality:
        """The quality of a quality.json."""
        return cls.from_dict(json.loads(Path(file).read_text())["quality"])
