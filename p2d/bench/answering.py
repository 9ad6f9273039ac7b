"""What p2d and others say of a case, in one form."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

import numpy as np

from p2d import api
from p2d.bench.answers import Case
from p2d.errors import UserError
from p2d.fields import Operator
from p2d.systems.system import System
from p2d.systems.terms import Terms

FRAMES, OF_RUNS = 16, 4  # of the films that pysindy is given, a step apart
THRESHOLDS = np.logspace(-4, -0.5, 15)  # of pysindy's sparse regression, as shares of a rate's size
SINDY_FAULTS = ("none", "noise", "missing term")  # whose films are plain, or have a camera's noise
NEEDS_SINDY = 'pysindy is not installed, which --beside asks; pip install "p2d[bench]" brings it'


@dataclass(frozen=True)
class Answer:
    """What a method says of a case.

    Attributes:
        terms: of its equation; None where it gives none.
        operator: of its Laplacians.
        directed: whether it claims to know the direction of time.
        velocity_known, terms_known: what it claims.
        bound: of 1 - cosine of its velocity, where it gives one.
        intervals: 90 % intervals of the coefficients.
        named: whether its unit of time is that of a system it recognised.
        doubts: kinds of what it doubts.
        verdict: in words.
    """

    terms: Terms | None = None
    operator: Operator = "5-point"
    directed: bool = True
    velocity_known: bool = False
    terms_known: bool = False
    bound: float | None = None
    intervals: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    named: bool = False
    doubts: tuple[str, ...] = ()
    verdict: str = ""

    @property
    def system(self) -> System:
        """Its equation."""
        assert self.terms is not None
        return System.of_terms("answer", self.terms)


def now(case: Case) -> Answer:
    """Of p2d as it is."""
    try:
        made = api.discover(case.states, **case.arguments)
    except UserError as error:
        return Answer(verdict=f"refused: {error}")
    claims = made.claims
    return Answer(
        terms=made.terms,
        operator=made.operator,
        directed=made.directed,
        velocity_known=claims.velocity_known,
        terms_known=claims.terms_known,
        bound=claims.velocity,
        intervals=made.intervals,
        named=bool(made.parameters),
        doubts=tuple(sorted({doubt.kind for doubt in claims.doubts})),
        verdict=made.verdict,
    )


def refuse_no_sindy() -> None:
    """Refuse to go on without pysindy.

    Raises:
        UserError: it is not installed.
    """
    if importlib.util.find_spec("pysindy") is None:
        raise UserError(NEEDS_SINDY)


def sindy(case: Case) -> Answer | None:
    """Of pysindy with the order of time: short films of the same system, a step apart, and its library of PDE terms.

    Rates are the forward differences that Euler's steps are made of, which is the best that can be given; with noise,
    pysindy's smoothed ones. Its sparse regression is taken over shares of the rates (unit columns), at the threshold
    that is best on a film held out, by BIC. None where it does not apply.
    """
    species, dt = case.scene.system.species, case.scene.system.run.dt
    if case.fault not in SINDY_FAULTS or case.scene.system.reach != 1 or case.settings.get("terms"):
        return None
    import pysindy

    films = np.moveaxis(case.scene.later(1, FRAMES)[:, :OF_RUNS].astype(np.float64), 1, 0)  # [R, T, C, H, W]
    if case.fault == "noise":
        rng = np.random.Generator(np.random.Philox(case.number))
        films += float(case.size) * np.ptp(films, axis=(0, 1, 3, 4))[:, None, None] * rng.standard_normal(films.shape)
    axes = (np.arange(n) * case.grid.spacing for n in case.grid.shape)
    library = pysindy.PDELibrary(
        function_library=pysindy.PolynomialLibrary(degree=case.settings.get("degree") or 3, include_bias=True),
        derivative_order=2,
        spatial_grid=np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1),
        include_interaction=False,
    )
    slow = pysindy.SmoothedFiniteDifference(axis=2) if case.fault == "noise" else None
    features, rates = [], []
    for film in films:
        x = np.moveaxis(film, (0, 1), (2, 3))  # [H, W, T, C]
        own = slow(x, t=dt)[:, :, :-1] if slow else np.diff(x, axis=2) / dt
        # Edges are left out, where its differences are one-sided, and most of the rest, which is much alike.
        cells = (slice(2, -2, 2), slice(2, -2, 2))
        features.append(np.asarray(library.fit_transform(x[:, :, :-1]))[cells].reshape(-1, library.n_output_features_))
        rates.append(own[cells].reshape(-1, len(species)))
    *train, last = range(len(films))
    fit, target = np.concatenate([features[n] for n in train]), np.concatenate([rates[n] for n in train])
    scale = np.linalg.norm(target, axis=0)
    best: tuple[float, np.ndarray] = (np.inf, np.zeros((len(species), fit.shape[1])))
    for threshold in THRESHOLDS:
        model = pysindy.STLSQ(threshold=threshold, alpha=0.0, normalize_columns=True)
        coefficients = np.asarray(model.fit(fit, target / scale).coef_) * scale[:, None]
        error = (((features[last] @ coefficients.T - rates[last]) / scale) ** 2).mean()
        bic = rates[last].size * np.log(error) + np.log(rates[last].size) * np.count_nonzero(coefficients)
        if bic < best[0]:
            best = (float(bic), coefficients)
    terms = _sindy_terms(species, best[1], library.get_feature_names(list(species)))
    return Answer(terms, velocity_known=True, terms_known=True, verdict="pysindy")


def _sindy_terms(species: tuple[str, ...], coefficients: np.ndarray, names: list[str]) -> Terms:
    """pysindy's terms in our notation: u_11 and u_22 are one Laplacian, where both are there."""
    made: Terms = {}
    for s, row in zip(species, coefficients, strict=True):
        own = {name: float(c) for name, c in zip(names, row, strict=True) if c}
        terms: dict[str, float] = {}
        for other in species:
            pair = [own.pop(f"{other}_{axis}", 0.0) for axis in ("11", "22")]
            if any(pair):
                terms[f"lap({other})"] = float(np.mean(pair))
        for name, c in own.items():
            if "_" in name:  # slopes and mixed derivatives: none of ours
                terms[f"d({name.split('_')[0]},x)"] = c
            else:
                terms["*".join(name.replace("^", "**").split())] = c
        made[s] = terms
    return made


def one_static(case: Case) -> Answer | None:
    """Of least squares on one snapshot of what stands still: R + D lap c = 0 in every cell, up to a factor.

    The smallest singular vector of the terms' columns, each of norm 1, terms dropped one by one while it leaves no
    tenth more. None where it does not apply.
    """
    if case.fault != "static" or case.scene.system.reach != 1 or case.settings.get("terms"):
        return None
    state = case.states[0].astype(np.float64)
    names = [t for t in case.library if t.count("(") < 2]
    values = {t: System.of_terms("t", {case.species[0]: {t: 1.0}, **{s: {} for s in case.species[1:]}}) for t in names}
    columns = np.stack([system.rate(state, case.grid)[0].ravel() for system in values.values()], axis=1)
    made: Terms = {}
    for s in case.species:
        own = [n for n, t in enumerate(names) if not t.startswith("lap(") or t == f"lap({s})"]
        made[s] = _null_terms(columns[:, own], [names[n] for n in own], names.index(f"lap({s})"), own)
    return Answer(made, velocity_known=False, terms_known=True, verdict="least squares")


def _null_terms(columns: np.ndarray, names: list[str], lap: int, own: list[int]) -> dict[str, float]:
    """Terms whose sum vanishes, with the Laplacian among them: fewest that leave no tenth more than all do."""
    lap = own.index(lap)
    unit = columns / np.linalg.norm(columns, axis=0)
    gram = unit.T @ unit
    kept = [n for n in range(len(names)) if n != lap]

    def left(chosen: list[int]) -> tuple[float, np.ndarray]:
        weights = np.linalg.lstsq(gram[np.ix_(chosen, chosen)], -gram[chosen, lap], rcond=1e-12)[0]
        residual = unit[:, lap] + unit[:, chosen] @ weights
        return float(residual @ residual), weights

    floor = 1.1 * left(kept)[0]
    while len(kept) > 1:
        smallest = min(kept, key=lambda n: left([m for m in kept if m != n])[0])
        fewer = [n for n in kept if n != smallest]
        if left(fewer)[0] > floor:
            break
        kept = fewer
    weights = left(kept)[1] / np.linalg.norm(columns, axis=0)[kept]
    scale = 1 / np.linalg.norm(columns[:, lap])
    return {names[lap]: 1.0} | {names[n]: float(w / scale) for n, w in zip(kept, weights, strict=True)}
