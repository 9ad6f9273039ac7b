"""One equation across known conditions: which terms they turn, on synthetic rates and on small fields."""

import numpy as np
import pytest

import p2d
from p2d.config import SimulateConfig
from p2d.discovery.across import Across, turned_name
from p2d.discovery.fit import Rates, choose_terms
from p2d.discovery.library import free_library
from p2d.errors import UserError
from p2d.evaluate.metrics import cosine
from p2d.snapshots.conditions import Conditions
from p2d.snapshots.passes import InMemory
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system
from p2d.systems.system import System

TERMS = ("1", "u", "u**2", "u**3", "lap(u)")
# Coefficients of one species at a condition p: a + b p of five terms. The first and the second one turn.
STILL, TURNS = np.array([0.5, 0.0, -1.0, 0.0, 1.5]), np.array([2.0, -3.0, 0.0, 0.0, 0.0])
OBSERVABLES, GROUPS, NOISE = 12, 60, 0.05


def across_of(values: list[float], each: int = GROUPS, names: tuple[str, ...] = ("p",)) -> Across:
    """So many groups of runs at each of some values."""
    column = np.repeat(np.array(values, float), each)[:, None]
    conditions = Conditions.of_samples(names, np.arange(len(column)), column)
    base = free_library(TERMS, ("u",))
    return Across(conditions, base, column, conditions.parts(np.arange(len(column))))


def rates_at(values: list[float], speeds: list[float], each: int = GROUPS, seed: int = 0) -> Rates:
    """Rows [N, J, P] whose means at each value vanish along a + b p alone, at whatever speed."""
    rng, rows = np.random.default_rng(seed), []
    for p, speed in zip(values, speeds, strict=True):
        c, mean = STILL + TURNS * p, rng.normal(size=(OBSERVABLES, len(TERMS)))
        mean -= np.outer(mean @ c, c) / (c @ c)
        rows.append(mean / speed + NOISE * rng.normal(size=(each, OBSERVABLES, len(TERMS))))
    return Rates(np.concatenate(rows), np.eye(len(TERMS)), [0, 1, 2, 3, 1], runs=np.ones(each * len(values)))


def chosen(values: list[float], across: Across | None = None) -> dict[str, float]:
    """Terms and coefficients that are found, over that of lap(u)."""
    across = across or across_of(values)
    kept, solution = choose_terms(across.together(rates_at(values, [1.0] * len(values)), [np.eye(5)] * len(values)))
    found = dict(zip((across.library.terms[i] for i in kept), solution.coefficients, strict=True))
    return {term: value / found["lap(u)"] * STILL[4] for term, value in found.items()}


@pytest.mark.parametrize("values", [[0.1, 0.3], [0.1, 0.2, 0.3], [-1.0, 0.5, 2.0]])
def test_the_terms_that_a_condition_turns_are_told_from_those_that_it_does_not(values):
    found = chosen(values)
    truth = {"1": 0.5, "u**2": -1.0, "lap(u)": 1.5, "p": 2.0, "p*u": -3.0}
    assert found.keys() == truth.keys()
    # 60 groups with noise of 0.05 in each rate: errors of some percent
    assert all(abs(found[term] - value) < 0.1 * max(abs(value), 1) for term, value in truth.items()), found


def test_a_condition_that_turns_nothing_has_no_term():
    # the same ensemble under three labels
    across, rates = across_of([1.0, 2.0, 3.0]), rates_at([0.2], [1.0], each=3 * GROUPS)
    order = np.random.default_rng(1).permutation(3 * GROUPS)
    same = Rates(rates.rows[order], rates.root, rates.degrees, runs=rates.runs)
    kept, _ = choose_terms(across.together(same, [np.eye(5)] * 3))
    assert {across.library.terms[i] for i in kept} == {"1", "u", "u**2", "lap(u)"}


def test_no_condition_is_left_out_while_every_term_may_turn():
    # At two values each may have a speed of its own: with weights that follow these, one would end without velocity.
    values = [0.1, 0.3]
    together = across_of(values).together(rates_at(values, [1.0, 1.0]), [np.eye(5)] * 2)
    assert not together.tied
    c = together.solution().coefficients
    speeds = [
        np.linalg.norm(c @ np.kron(np.array([1.0, p]), np.ones(5))[:, None] * 0 + c[:5] + p * c[5:]) for p in values
    ]
    assert min(speeds) > 0.4 * max(speeds)
    some = together.over(np.array([0, 4, 5]))  # 1, lap(u), p: lap(u) does not turn
    assert some.tied


def test_rates_of_a_part_stand_beside_zeros_of_the_others():
    across, rows = across_of([0.1, 0.3], each=2), np.arange(4 * 3 * 5, dtype=float).reshape(4, 3, 5)
    made = across.rates(rows)
    assert made.shape == (4, 6, 10)
    np.testing.assert_array_equal(made[:2, 3:], 0)
    np.testing.assert_array_equal(made[2:, :3], 0)
    np.testing.assert_array_equal(made[0, :3, :5], rows[0])
    np.testing.assert_allclose(made[3, 3:, 5:], 0.3 * rows[3])
    assert across.library.terms == (*TERMS, "p", "p*u", "p*u**2", "p*u**3", "p*lap(u)")
    assert across.library.degrees == [0, 1, 2, 3, 1, 1, 2, 3, 4, 2]
    np.testing.assert_allclose(across.at_centre(np.arange(5.0)), [0, 1, 2, 3, 4, 0, 0.2, 0.4, 0.6, 0.8])


def test_terms_that_are_no_product_are_put_in_brackets_behind_a_condition():
    assert [turned_name(t, "F") for t in ("1", "u*v", "1/(1+u)", "(1-u)**2")] == [
        *("F", "F*u*v", "F*(1/(1+u))", "F*(1-u)**2")
    ]


FEEDS = (0.014, 0.018, 0.022)
GRAY_SCOTT = load_system("gray_scott").at("waves")


@pytest.fixture(scope="module")
def fed(tmp_path_factory):
    """A dataset of Gray-Scott at three feed rates."""
    settings = {"set": ("F=0.014,0.018,0.022",), "preset": ("waves",), "height": 48, "width": 48, "steps": 6000}
    return simulate_here(SimulateConfig(num_samples=24, seed=1, **settings), tmp_path_factory.mktemp("fed") / "d")


@pytest.fixture(scope="module")
def found(fed):
    return p2d.discover(fed, across=("F",), operator="5-point", bootstrap=20)


@pytest.mark.slow
def test_gray_scott_across_feeds_is_the_law_and_holds_where_nobody_measured(fed, found, tmp_path):
    assert {s: set(own) for s, own in found.terms.items()} == {
        "u": {"lap(u)", "u*v**2", "F", "F*u"},
        "v": {"lap(v)", "v", "u*v**2", "F*v"},
    }
    assert found.turned == {"F": {"u": ("1", "u"), "v": ("v",)}} and found.conditions == {"F": FEEDS}
    assert found.terms["u"]["F"] == pytest.approx(1, rel=0.02) and found.terms["v"]["F*v"] == pytest.approx(-1, rel=0.1)
    states, between = fed.states()[24:32].astype(float), 0.02
    rates = [system.rate(states) for system in (found.at(F=between), GRAY_SCOTT.at("", F=between))]
    assert cosine(*rates)["cosine"] > 0.999
    assert "F turns the constant in du/dt, u in du/dt, v in dv/dt" in str(found)
    found.save(tmp_path)
    assert p2d.Discovery.load(tmp_path) == found


@pytest.mark.slow
def test_wrong_labels_are_not_claimed(fed):
    states = fed.states()
    labels = np.random.default_rng(0).permutation(np.repeat(FEEDS, 24)[fed.living])
    claims = p2d.discover(states, conditions={"F": labels}, operator="5-point", bootstrap=2).claims
    assert not claims.velocity_known and not claims.terms_known


def fields(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 2, 8, 8))


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"F": [0.1] * 20}, "F = 0.1 in all snapshots: what it turns shows at several values"),
        ({"F": [0.1] * 19}, "it must be 20 numbers, one for each snapshot"),
        ({"F": [0.1] * 19 + [np.nan]}, "condition 'F' of snapshot 19 is nan"),
        ({"u": [0.1] * 20}, "has the name of a species"),
        ({"lap": [0.1] * 20}, "has the name of a function"),
        ({"F": np.arange(20) % 2, "k": 2.0 * (np.arange(20) % 2)}, "F and k change together in all snapshots"),
        (
            {"F": np.array([0.1] * 15 + [0.2] * 5)},
            "5 living runs of F = 0.2 are too few: at least 8 are needed of each",
        ),
    ],
)
def test_conditions_that_tell_nothing_are_refused_in_one_line(conditions, told):
    with pytest.raises(UserError) as caught:
        p2d.discover(fields(20), conditions=conditions)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_what_does_not_go_with_conditions_is_refused():
    labels = np.arange(20) % 2
    with pytest.raises(UserError, match="across = F is not possible with the library gray_scott"):
        p2d.discover(fields(20), "gray_scott", conditions={"F": labels})
    with pytest.raises(UserError, match="run 0 has frames of several conditions"):
        p2d.discover(fields(20), conditions={"F": labels}, runs=np.arange(20) // 2)
    with pytest.raises(UserError, match="nothing is known of F of these snapshots"):
        p2d.discover(InMemory.of_states(fields(20)), across="F")


def test_a_name_that_no_snapshot_has_is_refused_with_the_nearest(tmp_path):
    config = SimulateConfig(num_samples=2, height=8, width=8, steps=1, set=("F=0.01,0.02",))
    dataset = simulate_here(config, tmp_path / "d")
    with pytest.raises(UserError, match=r"has no condition 'D_uu' \(did you mean 'D_u'\?\); known: D_u, D_v, F, k"):
        p2d.discover(dataset, across=("D_uu",))


def test_where_nothing_moves_is_said_with_the_condition():
    x = np.arange(16)
    waves = np.stack([np.sin(2 * np.pi * (x + s) / 16) * np.ones((16, 1)) for s in range(16)])
    still = np.stack([waves, 0.5 * waves], axis=1)  # Laplacians are functions of the values
    with pytest.raises(UserError, match=r"nothing moves at F = 1, so that no velocity can be told there; leave it out"):
        p2d.discover(np.concatenate([still, still]), conditions={"F": np.repeat([1, 2], 16)})


def test_a_system_has_its_conditions_among_its_parameters():
    terms = {"u": {"lap(u)": 0.16, "F": 1.0, "F*u": -1.0}}
    system, x = System.of_terms("found", terms, {"F": 0.02}), np.random.default_rng(0).random((1, 8, 8))
    np.testing.assert_allclose(system.rate(x), System("s", {"u": "0.16*lap(u) + 0.02*(1 - u)"}).rate(x), atol=1e-15)
    np.testing.assert_allclose(system.at("", F=0.5).rate(x), System("s", {"u": "0.16*lap(u) + 0.5*(1 - u)"}).rate(x))
