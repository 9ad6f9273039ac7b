"""The ensemble that an equation makes from fresh starts: that of the data for the true one, and far for others."""

from dataclasses import replace

import numpy as np
import pytest

import p2d
from p2d.discovery.result import Discovery
from p2d.evaluate.fresh import measure_fresh
from p2d.fields import Grid
from p2d.snapshots.store import Dataset
from p2d.systems.reading import load_system
from p2d.systems.system import System

from ..discovery.test_result import discovery

CHAOS = load_system("gray_scott").at("chaos")
STEPS = 3000


@pytest.fixture(scope="module")
def chaos(tmp_path_factory) -> Dataset:
    settings = {"num_samples": 96, "height": 64, "width": 64, "steps": STEPS}
    return p2d.simulate("chaos", out=tmp_path_factory.mktemp("runs"), **settings)


def of(system: System, factor: float = 1.0, **others) -> Discovery:
    """The equation of a system, in a unit of time that is so many times its own."""
    terms = {s: {t: factor * c for t, c in own.items()} for s, own in system.terms.items()}
    intervals = {s: {t: (c, c) for t, c in own.items()} for s, own in terms.items()}
    return discovery(terms=terms, errors=terms, intervals=intervals, **others)


def test_the_true_equation_makes_the_ensemble_of_the_data(chaos):
    fresh = measure_fresh(of(CHAOS), chaos)
    # one draw of 32 more than those of the floor, which vary by a third of themselves
    assert 0.4 < fresh.distance < 2.2
    assert fresh.runs == 32 and fresh.alive > 24 and fresh.steps == STEPS and not fresh.broken
    assert str(fresh) == f"{fresh.distance:.2f} floors, {fresh.alive} of 32 live"


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_an_equation_in_another_unit_of_time_makes_it_by_steps_that_are_as_much_longer(chaos, factor):
    found = of(CHAOS, factor, unit_of_time="mean square velocity 1")
    states = chaos.states(chaos.living[:4])
    assert found.simulated_as(CHAOS, states, chaos.card.grid).run.dt == pytest.approx(CHAOS.run.dt / factor, rel=1e-6)
    # the same steps but for rounding, which chaos outgrows
    assert 0.4 < measure_fresh(found, chaos).distance < 2.2


def test_an_equation_of_another_parameter_is_far(chaos):
    assert measure_fresh(of(CHAOS.at("", k=CHAOS.parameters["k"] * 1.03)), chaos).distance > 5


def test_an_equation_under_which_all_dies_or_nothing_stays_finite_makes_none(chaos):
    dead = measure_fresh(of(CHAOS.at("", k=0.1)), chaos)
    assert (dead.distance, dead.alive, str(dead)) == (None, 0, "no pattern of 32 lives")
    terms = {"u": {"u": 1.0, "lap(u)": 0.1}, "v": {"v": 1.0}}
    broken = measure_fresh(of(System.of_terms("growing", terms)), replace_limits(chaos))
    assert broken.distance > 1e3  # as slow on the data as the truth, it grows without end
    terms["u"]["u**2"] = 1.0
    broken = measure_fresh(of(System.of_terms("growing", terms)), replace_limits(chaos))
    assert broken.distance is None and str(broken) == "blown up in 32 of 32 runs"


def replace_limits(dataset: Dataset) -> Dataset:
    """The dataset as of a system without limits, which would keep a growing state finite."""
    systems = {label: replace(system, limits={}) for label, system in dataset.card.systems.items()}
    return replace(dataset, card=replace(dataset.card, systems=systems))


def test_without_the_one_system_of_the_data_their_starts_are_not_known(chaos):
    unknown = replace(chaos, card=replace(chaos.card, systems={}))
    generated = replace(chaos, card=replace(chaos.card, origin={"kind": "denoised"}))
    others = replace(chaos, card=replace(chaos.card, settings={**chaos.card.settings, "initial": "/data/others"}))
    assert {measure_fresh(of(CHAOS), dataset) for dataset in (unknown, generated, others)} == {None}


def test_amounts_made_of_parameters_become_numbers_and_the_start_is_the_data_s():
    truth = load_system("brusselator")
    truth = replace(truth, run=replace(truth.run, dt=0.01))
    states = np.random.default_rng(0).random((2, 2, 8, 8))
    system = of(truth).simulated_as(truth, states, Grid((8, 8)), "mine_equation")
    assert system.name == system.label == "mine_equation"
    assert system.amounts("rest").tolist() == truth.amounts("rest").tolist()
    assert system.amounts("noise").tolist() == truth.amounts("noise").tolist()
    assert system.run == replace(truth.run, spacing=1.0, dt=pytest.approx(0.01))
