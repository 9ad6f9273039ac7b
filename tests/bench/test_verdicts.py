"""The cases of the verdicts have the right answers they say, and claims are counted as they should be."""

import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest

from p2d.bench import answering, beginnings, foreign, scenes, verdicts
from p2d.bench.answering import Answer
from p2d.bench.answers import Truth, renamed, rescaled
from p2d.bench.faults import DECK, FAULTS, make_case
from p2d.bench.scenes import HELD_OUT, Scene
from p2d.bench.verdict_scores import Confusion, Outcome, judged, tables
from p2d.config.bench import BenchVerdictsConfig
from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import stepping
from p2d.systems.reading import catalogue, load_system
from p2d.systems.stepping import Scheme
from p2d.systems.system import System

GRAY_SCOTT = load_system("gray_scott").at("waves")


def smooth(count, shape, species=2, seed=0):
    """Fields of a few waves: the first species between 0.1 and 0.9, others to 0.4, as in Gray-Scott."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, species, *shape))
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    waves = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-200 * (rows**2 + columns**2)), s=shape)
    low, high = waves.min(axis=(2, 3), keepdims=True), waves.max(axis=(2, 3), keepdims=True)
    span = np.array([0.8] + [0.3] * (species - 1))[:, None, None]
    return (0.1 + span * (waves - low) / (high - low)).astype(np.float32)


@pytest.fixture
def no_simulation(monkeypatch):
    """Scenes are of smooth fields, which are no snapshots of any system but have rates as well."""

    def scene(rng, wish):
        system = wish.system or GRAY_SCOTT
        grid = Grid((wish.size, wish.size), system.run.spacing)
        return Scene(system, grid, wish.operator, smooth(wish.count + HELD_OUT, grid.shape, seed=int(rng.integers(99))))

    monkeypatch.setattr(beginnings, "draw_scene", scene)
    monkeypatch.setattr(beginnings, "MOST", 24)


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_scaled_and_renamed_systems_have_the_rates_of_scaled_and_renamed_states(name):
    system = load_system(name)
    count, grid = len(system.species), Grid((16, 20), 0.7)
    c = smooth(2, grid.shape, count).astype(np.float64)
    scale, shift = np.linspace(0.5, 2, count), np.linspace(-0.3, 0.2, count)
    x = (c - shift[:, None, None]) / scale[:, None, None]
    rates = system.rate(c, grid)
    np.testing.assert_allclose(
        rescaled(system, scale, shift).rate(x, grid), rates / scale[:, None, None], rtol=1e-9, atol=1e-9 * rates.std()
    )
    turned = renamed(system, system.species[::-1])
    np.testing.assert_allclose(turned.rate(c[:, ::-1], grid), rates[:, ::-1], rtol=1e-9, atol=1e-9 * rates.std())
    assert turned.species == system.species


PLAIN = [(kind, size) for kind, size in dict.fromkeys(DECK) if not kind.startswith("two") and kind != "static"]


@pytest.mark.parametrize(("kind", "size"), PLAIN, ids=[" ".join(fault) for fault in PLAIN])
def test_the_true_terms_have_the_true_velocity_on_the_held_out_snapshots(no_simulation, monkeypatch, kind, size):
    monkeypatch.setattr(scenes, "_euler", lambda states, *_: states)  # of frames
    case = make_case(3, 5, kind, size)
    assert case.states.dtype == np.float32 and np.isfinite(case.states).all()
    assert case.states.shape[1:] == (len(case.species), *case.grid.shape)
    operator = size if kind == "operator" else "5-point"
    if kind == "missing term":
        assert case.truth.terms is None and not case.truth.terms_knowable
        return
    assert case.truth.cosine(System.of_terms("true", case.truth.terms), operator) == pytest.approx(1, abs=1e-6)
    assert case.truth.has_terms(case.truth.terms)
    assert all(case.grid == one.grid for one in case.truth.judged[:1])
    seen = case.truth.judged[0].states
    # What is judged is of the same units as the snapshots.
    low, high = case.states.min(axis=(0, 2, 3)), case.states.max(axis=(0, 2, 3))
    assert (np.abs(seen.mean(axis=(0, 2, 3)) - case.states.mean(axis=(0, 2, 3))) < 0.3 * (high - low)).all()


def test_of_two_parameters_each_snapshot_has_its_own_velocity_and_both_the_same_terms(no_simulation):
    case = make_case(3, 5, "two parameters", "0.2")
    (one,) = case.truth.judged
    half, feed = HELD_OUT // 2, GRAY_SCOTT.parameters["F"]
    first = GRAY_SCOTT.rate(one.states[:half], one.grid)
    np.testing.assert_allclose(one.rates[:half], first)
    others = [replace(GRAY_SCOTT, parameters=GRAY_SCOTT.parameters | {"F": f * feed}) for f in (0.8, 1.2)]
    assert any(np.allclose(one.rates[half:], other.rate(one.states[half:], one.grid)) for other in others)
    assert case.truth.has_terms(GRAY_SCOTT.terms)
    unknown = {t for own in case.truth.terms.values() for t, c in own.items() if np.isnan(c)}
    assert unknown == {"1", "u", "v"}  # F, -F and -(F + k) have no one value


def test_rounded_values_are_levels_and_windows_are_parts(no_simulation):
    levels = make_case(0, 0, "rounded", "10 bits").states * 1023
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
    contrast = make_case(0, 0, "rounded", "autocontrast").states
    assert contrast.min() == 0 and contrast.max() == 1
    copies = make_case(0, 0, "duplicates", "0.5").states
    assert len(np.unique(copies, axis=0)) <= (len(copies) + 1) // 2
    assert make_case(0, 0, "window", "as open").grid.edges == ("open", "open")


def test_decks_hold_every_fault_and_are_dealt_by_seed_and_number():
    deck = [verdicts.dealt(4, n) for n in range(len(DECK))]
    assert sorted(deck) == sorted(DECK) and deck != DECK
    assert deck != [verdicts.dealt(5, n) for n in range(len(DECK))]
    assert {kind for kind, _ in DECK} == set(FAULTS)
    chosen = verdicts.numbers(4, 3, "jpeg")
    assert [verdicts.dealt(4, n)[0] for n in chosen] == ["jpeg"] * 3
    with pytest.raises(UserError, match="did you mean 'static'"):
        verdicts.numbers(4, 3, "statics")


def test_a_case_is_the_same_whenever_it_is_made(monkeypatch):
    monkeypatch.setattr(scenes, "PILOT", (2, 48))
    wish = scenes.Wish(count=4, size=48, systems=("gray_scott",), preset="waves")
    first, again = (scenes.draw_scene(np.random.Generator(np.random.Philox(2)), wish) for _ in range(2))
    assert first.system == again.system and np.array_equal(first.states, again.states)
    assert len(first.states) == 4 + HELD_OUT
    off = [first.system.parameters[name] / value - 1 for name, value in GRAY_SCOTT.parameters.items()]
    assert 0 < max(map(abs, off)) <= scenes.PERTURBED + 1e-6


@pytest.mark.parametrize("operator", ["5-point", "9-point"])
def test_runge_kutta_is_of_fourth_order(operator):
    grid, states = Grid((24, 24)), smooth(2, (24, 24)).astype(np.float32)
    exact = foreign.runge_kutta(states, GRAY_SCOTT, grid, 1 / 8, 64, operator)
    euler = stepping.run(states, GRAY_SCOTT, Scheme(grid, 1 / 256, operator), 2048, "cpu", 1)
    assert np.abs(exact - euler).max() < 2e-4  # of Euler's own error, 256 steps a unit
    errors = [np.abs(foreign.runge_kutta(states, GRAY_SCOTT, grid, 8 / n, n, operator) - exact).max() for n in (4, 8)]
    assert errors[0] > 9 * errors[1]


def test_fourier_modes_do_what_the_modes_of_p2d_do():
    grid, states = Grid((24, 24)), smooth(2, (24, 24))
    own = foreign.fourier_modes(states, GRAY_SCOTT, grid, 0.5, 20)
    other = stepping.run(states, GRAY_SCOTT, Scheme(grid, 0.25, "spectral", "etdrk4"), 40, "cpu", 1)
    np.testing.assert_allclose(own, other, atol=2e-5)


def test_least_squares_of_a_balance_keeps_its_terms():
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((400, 4))
    balance = np.column_stack([columns, -2 * columns[:, 0] + 3 * columns[:, 2] + 1e-6 * rng.standard_normal(400)])
    terms = answering._null_terms(balance, ["1", "u", "v", "u*v", "lap(u)"], 4, [0, 1, 2, 3, 4])
    assert terms == {"lap(u)": 1.0, "1": pytest.approx(2, abs=1e-5), "v": pytest.approx(-3, abs=1e-5)}


def test_pysindy_is_right_with_the_order_of_time(no_simulation, monkeypatch):
    pytest.importorskip("pysindy")
    monkeypatch.setattr(answering, "FRAMES", 6)
    monkeypatch.setattr(answering, "THRESHOLDS", (1e-3, 1e-2))
    case = make_case(0, 0, "none", "")
    answer = answering.sindy(case)
    assert case.truth.has_terms(answer.terms)
    assert case.truth.cosine(answer.system, "5-point") > 1 - 1e-6
    assert answering.sindy(replace(case, fault="jpeg")) is None


def outcome(number, right, claimed, terms=(False, False), **others):
    values = {"method": "p2d", "seed": 0, "number": number, "fault": "none", "size": "", "system": "waves"}
    values |= {"snapshots": 64, "length": 48, "cosine": 0.999 if right else 0.5, "bound": None, "held": 0}
    values |= {"intervals": 0, "doubts": (), "verdict": "", "seconds": 1.0, "made_in": 1.0}
    values |= {"velocity_right": right, "velocity_claimed": claimed, "terms_right": terms[0], "terms_claimed": terms[1]}
    return Outcome(**{**values, "knowable": True, "terms_knowable": True, **others})


def test_a_confident_wrong_answer_costs_ten_right_ones():
    made = [outcome(n, True, True) for n in range(12)] + [outcome(12, True, False), outcome(13, False, True)]
    made += [outcome(14, False, False, knowable=False), outcome(15, False, False)]
    count = Confusion.of(made, "velocity")
    assert (count.right_claimed, count.right_unclaimed, count.wrong_claimed, count.wrong_unclaimed) == (12, 1, 1, 2)
    assert count.knowable == 15  # but for the one that nobody could know
    assert count.score == pytest.approx((12 - 10) / 15)
    assert count.missed == pytest.approx(1 / 13)
    assert count.honest == pytest.approx(15 / 16)
    assert Confusion.of([outcome(0, True, True, knowable=False)], "velocity").score == 1
    text = tables(made)
    assert "| p2d | velocity | 16 | 12 | 1 | 1 | 2 | 8 % | +0.13 |" in text
    assert "| 13 | none | waves | 64 | 48 | velocity | 5.0e-01 |  |" in text


def test_bounds_are_checked_where_the_velocity_is_claimed():
    assert outcome(0, True, True, bound=2e-3).bound_holds is True
    assert outcome(0, True, True, bound=5e-4).bound_holds is False
    assert outcome(0, True, False, bound=5e-4).bound_holds is None


def test_answers_are_judged_by_their_terms_velocity_and_intervals(no_simulation):
    case = make_case(1, 1, "none", "")
    terms = GRAY_SCOTT.terms
    twice = {s: {t: 2 * c for t, c in own.items()} for s, own in terms.items()}
    ends = {s: {t: tuple(sorted((1.98 * c, 2.02 * c))) for t, c in own.items()} for s, own in terms.items()}
    ends["u"]["1"] = (3.0, 4.0)
    made = judged(case, Answer(twice, velocity_known=True, intervals=ends), "p2d", 1.0, 1.0)
    assert made.velocity_right and made.terms_right and made.velocity_claimed and not made.terms_claimed
    assert made.cosine == pytest.approx(1)
    assert (made.held, made.intervals) == (6, 7)  # its unit of time is twice the true one
    named = judged(case, Answer(twice, intervals=ends, named=True), "p2d", 1.0, 1.0)
    assert (named.held, named.intervals) == (0, 7)
    backwards = {s: {t: -c for t, c in own.items()} for s, own in terms.items()}
    assert not judged(case, Answer(backwards), "p2d", 1.0, 1.0).velocity_right
    assert judged(case, Answer(backwards, directed=False), "p2d", 1.0, 1.0).velocity_right
    more = {s: own | {"u**3": 1e-9} for s, own in terms.items()}
    assert not judged(case, Answer(more), "p2d", 1.0, 1.0).terms_right
    refused = judged(case, Answer(verdict="refused: too few"), "p2d", 1.0, 1.0)
    assert refused.cosine is None and not (refused.velocity_right or refused.terms_right)


def test_small_terms_may_be_left_out_but_no_others_be_in():
    truth = Truth({"u": {"u": 1.0, "1": 1e-3}}, {"u": {"1"}}, ())
    assert truth.has_terms({"u": {"u": 1.0}}) and truth.has_terms({"u": {"u": 1.0, "1": 0.1}})
    assert not truth.has_terms({"u": {"1": 1.0}}) and not truth.has_terms({"u": {"u": 1.0, "u**2": 1.0}})
    assert not Truth(None, {}, ()).has_terms({"u": {"u": 1.0}})


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    asked, broken = [], {2}

    def answer(seed, number, methods):
        if number in broken:
            raise KeyboardInterrupt
        asked.append(number)
        return [outcome(number, True, number % 2 == 0)]

    @contextmanager
    def here(workers):
        yield SimpleNamespace(map=map)

    monkeypatch.setattr(verdicts, "_outcomes", answer)
    monkeypatch.setattr(verdicts, "single_threaded", here)
    config = BenchVerdictsConfig(cases=4)
    with pytest.raises(KeyboardInterrupt):
        verdicts.measure(config, tmp_path)
    (file,) = (tmp_path / "verdicts").glob("*.jsonl")
    with file.open("a") as cut:
        cut.write(json.dumps(asdict(outcome(2, True, True)))[:50])
    broken.clear()
    made = verdicts.measure(config, tmp_path)
    assert asked == [0, 1, 2, 3]
    assert made.outcomes == [outcome(n, True, n % 2 == 0) for n in range(4)]
    assert str(verdicts.measure(config, tmp_path)) == str(made) and asked == [0, 1, 2, 3]
    assert (file.with_suffix(".md")).read_text() == f"{made}\n"


def test_pysindy_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(answering.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        verdicts.measure(BenchVerdictsConfig(beside=True), tmp_path)
