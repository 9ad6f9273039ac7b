"""Cards of version 2 as those of version 3: they knew Gray-Scott alone, periodic, of spacing 1, values in [0, 1]."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from p2d.config.simulate import SimulateConfig
from p2d.fields import Grid, Scaling, Species
from p2d.systems.reading import load_system
from p2d.systems.system import Run

VERSION = 2


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a card of version 2 as a card of version 3 has them; its shards stay as they are."""
    kept = {
        k: v for k, v in values.items() if k not in ("parameters", "grid", "burn_in", "affine", "units", "boundary")
    }
    base = load_system("gray_scott")
    systems = {}
    for label, known in values["parameters"].items():
        own = {key: known[key] for key in ("D_u", "D_v", "F", "k")}
        system = base.at(label if label in base.presets else "", **own)
        systems[label] = replace(system, run=Run(known["dt"], values["burn_in"])).to_dict()
    return kept | {
        "written": VERSION,
        "card_hash": "",
        "settings": values["settings"] if values.get("origin") else _settings(values["settings"]),
        "species": [asdict(Species("u")), asdict(Species("v"))],
        "grid": Grid(tuple(values["grid"])).to_dict(),
        "systems": systems,
        "conditions": {label: system["parameters"] for label, system in systems.items()},
        "scaling": Scaling.from_dict(values["affine"]).to_dict(),
    }


def _settings(old: dict[str, Any]) -> dict[str, Any]:
    """Settings of a simulation, so that the same command knows its dataset again."""
    given = {"F": old["feed"], "k": old["kill"], "D_u": old["diffusion_u"], "D_v": old["diffusion_v"]}
    lists = {name: values if isinstance(values, list) else [values] for name, values in given.items()}
    told = tuple(f"{name}={','.join(map(repr, v))}" for name, v in lists.items() if v and v[0] is not None)
    same = ("num_samples", "height", "width", "initial", "steps", "snapshots_per_run", "interval", "seed", "normalize")
    config = SimulateConfig(
        preset=tuple(old["preset"]),
        set=told,
        dt=old["dt"] or 0.0,
        noise=old.get("noise", 0.0),
        **{key: old[key] for key in same},
    )
    return json.loads(json.dumps(config.simulation().identity()))
