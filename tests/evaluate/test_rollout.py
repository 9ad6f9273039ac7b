"""Rollouts of fields that are known: they follow the true system, and each baseline does what it is there for."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from p2d.config import SimulateConfig
from p2d.evaluate import rollout
from p2d.evaluate.course import Clock, Course, Rollout
from p2d.evaluate.metrics import known_system
from p2d.evaluate.rollout import roll_out
from p2d.evaluate.ways import (
    LANGEVIN_ETA,
    RANDOM,
    RECOVERED,
    REVERSED,
    SCORE,
    STILL,
    TRUE,
    UNKNOWN_RATE,
    Subject,
    score_beside,
    time_scale,
)
from p2d.fields import Grid, Mask, Scaling
from p2d.flow.integrate import NOISY, heun, stable_step, stiffest_rate
from p2d.flow.model import Flow
from p2d.flow.skew import SkewField
from p2d.flow.velocity import LocalField
from p2d.snapshots.simulated import simulate_here
from p2d.systems.reading import load_system
from p2d.systems.stepping import Scheme
from p2d.systems.stepping import run as advance
from p2d.systems.system import Run, System

from .helpers import AFFINE, SCALING, as_seen, dataset_of, field_of, linear_field, patterns, quiet_score, write_score

KINDS = (TRUE, RECOVERED, SCORE, REVERSED, RANDOM, STILL)
TIMES = [0, 20, 40, 60, 80]
CHAOS = load_system("gray_scott").at("chaos")


def run(states: np.ndarray, system: System, steps: int) -> np.ndarray:
    return advance(states, system, Scheme(Grid(states.shape[-2:]), system.run.dt), steps, "cpu", 1)


@pytest.fixture(scope="module")
def states(tmp_path_factory) -> np.ndarray:
    """Twelve patterns of chaos that are on the move."""
    config = SimulateConfig(preset=("chaos",), num_samples=12, height=32, width=32, steps=300, device="cpu", threads=1)
    return simulate_here(config, tmp_path_factory.mktemp("chaos") / "chaos").states()


@pytest.fixture(scope="module")
def field(states) -> LocalField:
    """The nearest to the rate of chaos, to 1e-4 of it, along the way of all twelve."""
    way = [states]
    for _ in TIMES[1:]:
        way.append(run(way[-1], CHAOS, 20))
    return field_of(CHAOS, np.concatenate(way))


def subject(field: LocalField, states: np.ndarray, system: System | None = None, **others) -> Subject:
    """Three states carried on, held against the others."""
    plain = {"score": None, "times": TIMES, "starts": states[:3], "ensemble": states[3:]}
    return Subject(flow=Flow(field, SCALING, others.pop("level", None)), system=system, **{**plain, **others})


def course(kind: str, *of, **others) -> Course:
    return roll_out(subject(*of, **others), (kind,), lambda *_: None).courses[kind]


def diffusion(rate: float = 0.5) -> LocalField:
    """v = rate (lap u, lap v / 2), whose stiffest mode, the checkerboard of u, falls at 8 times the rate."""
    return linear_field([0, 0], [[0, 0, rate, 0], [0, 0, 0, rate / 2]])


# Beside the true system


@pytest.fixture(scope="module")
def courses(field, states) -> dict[str, Course]:
    return roll_out(subject(field, states, CHAOS), KINDS, lambda *_: None).courses


def test_the_recovered_course_follows_the_true_one(courses):
    true, found = courses[TRUE], courses[RECOVERED]
    # the field is off by 1e-4, and Euler's steps of the simulator by a few per cent of the fastest changes
    assert min(found.cosine) > 0.999 and len(found.cosine) == len(TIMES) - 1
    assert_allclose(found.correlation, true.correlation, atol=0.02)
    assert true.correlation[-1] < 0.4, "they do move"
    assert_allclose(found.ratio, true.ratio, rtol=0.05)
    assert found.blown_up is None and true.blown_up is None


def test_the_true_course_is_the_simulator_s(courses, states):
    assert_array_equal(courses[TRUE].frames, np.stack([run(states[:1], CHAOS, t)[0] for t in TIMES]))
    # float64 sums of float32 numbers
    assert_allclose(courses[TRUE].cosine, 1.0, rtol=1e-6)


def test_all_courses_start_alike(courses, states):
    for found in courses.values():
        # there and back by the affine map, in float32
        assert_allclose(found.frames[0], states[0], atol=1e-6)
        assert found.correlation[0] == pytest.approx(1, abs=1e-5)
        assert found.ratio[0] == pytest.approx(courses[TRUE].ratio[0], rel=1e-4)
        assert len(found.frames) == len(TIMES)


def test_the_reversed_course_blows_up_and_is_not_a_number_from_there_on(courses):
    found = courses[REVERSED]
    assert found.blown_up in TIMES[1:]
    first = TIMES.index(found.blown_up)
    assert len(found.ratio) == len(found.correlation) == first and len(found.cosine) == first - 1
    for n, frame in enumerate(found.frames):
        assert np.isfinite(frame).all() if n < first else np.isnan(frame).all()


def test_without_flow_nothing_moves(courses, states):
    found = courses[STILL]
    assert_array_equal(found.frames, np.broadcast_to(states[0], (len(TIMES), *states[0].shape)))
    assert len(set(found.ratio)) == 1 and found.cosine == (0.0,) * (len(TIMES) - 1)
    assert_allclose(found.correlation, 1.0, atol=1e-5)  # float32 means


def test_the_random_flow_is_as_fast_as_the_flow_at_the_start_and_leads_elsewhere(field, states):
    few = {"times": [0, 1], "step": 0.05}
    moved = {}
    for kind in (RECOVERED, RANDOM):
        # one state alone, as the frames of the first are kept
        found = course(kind, field, states, CHAOS, starts=states[:1], **few)
        moved[kind] = (found.frames[1] - found.frames[0]).ravel()
    # over one step of the simulator either velocity changes by some per cent
    ratio = np.linalg.norm(moved[RANDOM]) / np.linalg.norm(moved[RECOVERED])
    assert ratio == pytest.approx(1, abs=0.1)
    cosine = moved[RANDOM] @ moved[RECOVERED] / np.linalg.norm(moved[RANDOM]) / np.linalg.norm(moved[RECOVERED])
    assert abs(cosine) < 0.9


def test_the_random_flow_belongs_to_the_seed(field, states):
    first, again, other = (
        course(RANDOM, field, states, CHAOS, times=[0, 5], seed=seed).frames[1] for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("dt", [0.5, 2.0])
def test_a_course_keeps_up_with_a_simulator_of_other_steps(field, states, dt):
    system = dataclasses.replace(CHAOS, run=Run(dt=dt))
    found = roll_out(subject(field, states, system, times=[0, 10, 20]), (TRUE, RECOVERED), lambda *_: None).courses
    assert min(found[RECOVERED].cosine) > 0.999  # as with steps of 1
    assert_allclose(found[RECOVERED].correlation, found[TRUE].correlation, atol=0.02)


@torch.no_grad()
def diffusion_of(species: int, grid: Grid) -> LocalField:
    """v = lap x / 10 of each species."""
    field = LocalField((3,), species=species, grid=grid, generator=torch.Generator().manual_seed(0))
    field.last.zero_()
    field.last[range(species), range(1 + species, 1 + 2 * species)] = 0.1
    return field


GROUNDS = {
    "mirror": Grid((16, 12), edges=("mirror", "mirror")),
    "open": Grid((16, 12), edges=("open", "periodic")),
    "mask": Grid((16, 12), mask=Mask.of(np.hypot(*(np.mgrid[:16, :12] - 6)) < 5.5)),
    "line": Grid((1, 12)),
    "spacing": Grid((16, 12), 0.5),
}


@pytest.mark.parametrize(("name", "operator"), [*((name, "5-point") for name in GROUNDS), ("mirror", "9-point")])
def test_flows_and_systems_are_carried_on_with_their_edges(name, operator):
    grid = GROUNDS[name]
    rows, columns = grid.shape
    states = patterns(9, max(rows, 8), columns)[:, [0, 1, 0], :rows]
    heat = System("heat", {s: f"{0.1 * grid.spacing**2}*lap({s})" for s in "abc"}, run=Run(dt=0.1))
    flow = Flow(diffusion_of(3, grid), Scaling((0.5,) * 3, (0.5,) * 3))
    of = Subject(flow, heat, None, states[:3], states[3:], [0, 10, 60], grid=grid, operator=operator)
    found = roll_out(of, (TRUE, RECOVERED), lambda *_: None).courses
    # the flow takes one step for 200 of Euler's; smooth fields, of which both Laplacians are nearly alike
    assert min(found[RECOVERED].cosine) > (0.9998 if operator == "5-point" else 0.98)
    inside = grid.inside(0)
    start, true, end = states[0], found[TRUE].frames[-1], found[RECOVERED].frames[-1]
    assert np.abs(true - start)[..., inside].max() > 0.005, "it moves"
    # no flux through any wall, and nothing beyond
    assert_allclose(end[..., inside].mean(axis=-1), start[..., inside].mean(axis=-1), atol=1e-5)
    assert_allclose(true[..., inside].mean(axis=-1), start[..., inside].mean(axis=-1), atol=1e-5)
    assert_allclose(end[..., ~inside], start[..., ~inside], atol=1e-6)


# What there is, and what is told


def test_kinds_that_need_what_is_not_there_are_left_out(states):
    found = roll_out(subject(diffusion(), states, times=[0, 1]), KINDS, lambda *_: None).courses
    assert set(found) == {RECOVERED, REVERSED, RANDOM, STILL}
    assert all(c.cosine == () for c in found.values()), "there is no true displacement"
    found = roll_out(subject(diffusion(), states, CHAOS, times=[0, 1]), (SCORE, TRUE), lambda *_: None).courses
    assert set(found) == {TRUE}
    of = subject(diffusion(), states, score=quiet_score(states), times=[0, 1], step=0.5)
    found = roll_out(of, KINDS, lambda *_: None).courses
    assert set(found) == {RECOVERED, SCORE, REVERSED, RANDOM, STILL}


@pytest.mark.parametrize(("system", "times"), [(None, [0, 40, 50, 60]), (CHAOS, [0, 1])])
def test_every_frame_of_every_kind_is_told_once_left_out_or_blown_up(system, times):
    told = []
    states = patterns(9, 16, 16) * np.float32([[[[1.0]], [[0.1]]]])  # slow ones
    found = roll_out(
        subject(diffusion(), states, system, times=times), KINDS, lambda n, note="": told.append(n)
    ).courses
    assert sum(told) == len(KINDS) * len(times) * 3, "starts"
    assert SCORE not in found and (system is None) == (TRUE not in found)
    assert (found[REVERSED].blown_up is not None) == (len(times) > 2)


@pytest.mark.parametrize("presets", [("chaos",), ("chaos", "waves")])
def test_the_system_is_known_where_all_samples_are_of_one(tmp_path, presets):
    config = SimulateConfig(preset=presets, num_samples=1, height=8, width=8, steps=1, device="cpu", threads=1)
    chaos = dataclasses.replace(CHAOS, presets={}, run=dataclasses.replace(CHAOS.run, steps=1))  # as a card has it
    assert known_system(simulate_here(config, tmp_path / "some")) == (chaos if len(presets) == 1 else None)
    assert known_system(dataset_of(patterns(2, 8, 8), tmp_path / "unknown")) is None


def test_the_score_beside_a_flow_is_its_own_or_that_of_a_folder(tmp_path):
    states = patterns(3, 8, 8)
    write_score(tmp_path / "score", dataset_of(states, tmp_path / "data"), quiet_score(states, (0.5, 0.9)))
    local, own = Flow(diffusion(), SCALING), quiet_score(states)
    assert score_beside(local, None) is None
    assert score_beside(local, tmp_path / "score").alpha == (0.5, 0.9)
    assert score_beside(Flow(SkewField(own, 0.8, 0.0, 1), SCALING, 0.8), tmp_path / "score") is own


def two_courses() -> Rollout:
    times = (0, 10, 30)
    true = Course(times, (1.0, 2.0, 4.0), (1.0, 0.5, 0.0), (0.9, 0.8), step=1.0)
    gone = Course(times, (1.5,), (1.0,), step=0.5, blown_up=10.0)
    return Rollout(times, {TRUE: true, REVERSED: gone}, starts=(4, 7), inputs={"eta": 0.0})


def test_the_times_of_an_equation_are_shown_in_its_own_unit():
    timed = dataclasses.replace(two_courses(), clock=Clock(0.25, "min"))
    head, true, gone, *_ = str(timed).splitlines()
    assert head.startswith("7.5 min") and true.split() == ["true", "3.00", "4.00", "3.82", "0.8000", "0.25"]
    assert "blown up by 2.5" in gone and timed.clock.label == "time (min)"
    assert Clock(0.25).text(2) == "0.5 units of time" and Clock().text(2) == "2 steps"
    again = Rollout.from_dict(json.loads(json.dumps(timed.to_dict())))
    assert again == timed
    older = {key: value for key, value in two_courses().to_dict().items() if key != "clock"}
    assert Rollout.from_dict(older) == two_courses()


def test_a_known_pace_sets_how_far_a_step_goes():
    flow, states = Flow(diffusion(), SCALING), patterns(2, 8, 8)
    subject = Subject(flow=flow, system=None, score=None, starts=states, ensemble=states, times=[0, 4])
    x = SCALING.to_training(torch.from_numpy(states))
    assert time_scale(dataclasses.replace(subject, pace=0.125), x) == 0.125 != time_scale(subject, x)


def test_a_rollout_prints_its_table():
    head, true, gone, *_ = str(two_courses()).splitlines()
    assert head.split("  ")[0] == "30 steps" and head.split()[2:] == [
        *("distance", "largest", "decorrelated", "cosine", "step")
    ]
    assert true.split() == ["true", "3.00", "4.00", "15", "0.8000", "1"]
    assert gone.split() == ["reversed", "blown", "up", "by", "10", "0.5"]
    assert repr(two_courses()) == "<Rollout over 30 steps: true, reversed>"


def test_a_rollout_is_saved_and_loaded_whole_but_for_its_frames(tmp_path):
    two_courses().save(tmp_path / "rollout.json")
    assert Rollout.load(tmp_path / "rollout.json") == two_courses()


def test_a_rollout_draws_its_curves():
    axes = Figure().subplots(1, 2)
    assert two_courses().plot(axes) is axes
    for place, curves in zip(axes, (([1, 2, 4], [1.5]), ([1, 0.5, 0], [1.0])), strict=True):
        lines = place.get_lines()
        assert [line.get_label() for line in lines] == [TRUE, REVERSED]
        for line, curve in zip(lines, curves, strict=True):
            assert_array_equal(line.get_xydata(), np.stack([[0, 10, 30][: len(curve)], curve], axis=1))
    assert axes[0].get_yscale() == "log" and axes[1].get_title() == "correlation with the start"


def test_what_is_tracked_are_the_ratios_of_a_frame():
    assert two_courses().metrics(0) == {"ratio_true": 1.0, "ratio_reversed": 1.5}
    assert two_courses().metrics(2) == {"ratio_true": 4.0}


def test_the_summary_has_curves_and_what_they_come_to():
    found = json.loads(json.dumps(two_courses().to_dict()))
    assert set(found) == {"times", TRUE, REVERSED, "starts", "inputs", "clock"} and found["times"] == [0, 10, 30]
    assert found[TRUE] == {
        "ratio_mean": 3.0,  # without the start
        "ratio_largest": 4.0,
        "decorrelation_time": pytest.approx(10 + 20 * (0.5 - math.exp(-1)) / 0.5),
        "blown_up": None,
        "step": 1.0,
        "ratio": [1.0, 2.0, 4.0],
        "correlation": [1.0, 0.5, 0.0],
        "displacement_cosine": [0.9, 0.8],
    }
    assert found[REVERSED] == {
        **dict.fromkeys(("ratio_mean", "ratio_largest", "decorrelation_time")),
        "blown_up": 10.0,
        "step": 0.5,
        "ratio": [1.5],
        "correlation": [1.0],
        "displacement_cosine": [],
    }


# The unit of time


@pytest.mark.parametrize("factor", [1.0, 1e-3, 40.0, -2.0])
def test_a_flow_is_as_fast_as_the_true_system_and_keeps_its_direction(states, factor):
    # where v is nowhere and F 0, Gray-Scott is diffusion, whose D_u is 0.1
    alone = states[:3] * np.float32([[[[1.0]], [[0.0]]]])
    system = CHAOS.at(F=0.0, k=0.0)
    found = time_scale(subject(diffusion(0.1 * factor), states, system, starts=alone), as_seen(alone))
    # the field is in float32; differences of neighbours lose three of its seven digits
    assert found == pytest.approx(1 / abs(factor), rel=1e-3)


@pytest.mark.parametrize("rate", [0.5, 0.01, -3.0])
def test_without_a_system_the_fastest_change_falls_to_1_over_e_in_a_step(rate):
    few = patterns(3, 8, 8)
    found = time_scale(subject(diffusion(rate), few), as_seen(few))
    # of 8 x 8 modes the next fall at 0.93 of the largest, and 0.93^60 of their power is left by 30 power iterations:
    # some per cent where there was little of the largest
    assert found == pytest.approx(UNKNOWN_RATE / (8 * abs(rate)), rel=0.05)


# The integration


@pytest.mark.parametrize("times", [[0, 7], [0, 3, 10]])
@pytest.mark.parametrize("step", [0.0, 0.4, 5.0])
def test_frames_are_those_of_a_plain_loop_of_heun_s_steps(field, states, times, step):
    of = subject(field, states, CHAOS, times=times, step=step)
    found = roll_out(of, (RECOVERED,), lambda *_: None).courses[RECOVERED]
    with torch.no_grad():
        speed = time_scale(of, as_seen(states[:3]))
        largest = step or stable_step(speed * stiffest_rate(field, as_seen(states[:2])))
        assert found.step == pytest.approx(largest, rel=1e-5)
        x = as_seen(states[:1])
        for before, after in itertools.pairwise(times):
            steps = math.ceil((after - before) / largest)
            for _ in range(steps):
                x = heun(lambda y: speed * field(y), x, (after - before) / steps)
            frame = ((x[0] - AFFINE["shift"]) / AFFINE["scale"]).numpy()
            assert_array_equal(found.frames[times.index(after)], frame)


@pytest.mark.parametrize("waves", [1, 3])
def test_a_wave_falls_as_diffusion_says(waves):
    columns = np.arange(24) / 24 * np.ones((1, 2, 24, 1))
    start = (0.5 + 0.3 * np.cos(2 * np.pi * waves * columns)).astype(np.float32)
    found = course(RECOVERED, diffusion(), patterns(9, 24, 24), starts=start, times=[0, 5, 20], step=0.1)
    # the fastest falls at the rate 1, 8 D_u, but for 2 % of the power iterations
    rate = 2 / 8 * (1 - np.cos(2 * np.pi * waves / 24))
    for time, frame in zip((0, 5, 20), found.frames, strict=True):
        for species, share in ((0, 1.0), (1, 0.5)):
            expected = 0.5 + 0.3 * np.exp(-rate * share * time) * np.cos(2 * np.pi * waves * columns[0, 0])
            assert_allclose(frame[species], expected, atol=0.3 * 0.02)


def test_a_flow_in_reverse_goes_back_where_it_came_from(field, states):
    there = course(RECOVERED, field, states, CHAOS, starts=states[:1], times=[0, 3], step=0.1).frames[1]
    back = course(REVERSED, field, states, CHAOS, starts=there[None], times=[0, 3], step=0.1).frames[1]
    # it is timed by its own start, some per cent otherwise, and rounding grows at the fastest rate: e^3 of 1e-7
    assert np.linalg.norm(back - states[0]) < 0.1 * np.linalg.norm(there - states[0])


# With a score model


@pytest.mark.parametrize(
    ("kind", "noise"), [(RECOVERED, False), pytest.param(REVERSED, True, marks=pytest.mark.slow), (RANDOM, True)]
)
def test_a_corrected_course_runs_and_stays_finite(noise, kind):
    states = patterns(9, 8, 8)
    few = {"score": quiet_score(states), "eta": 0.5, "alpha": 0.9, "noise": noise, "times": [0, 2, 4], "step": 0.5}
    found, again, other = (course(kind, diffusion(), states, **few, seed=seed) for seed in (0, 0, 1))
    assert found.blown_up is None and np.isfinite(found.frames).all()
    assert len(found.ratio) == 3 and np.isfinite(found.ratio).all()
    assert_array_equal(found.frames, again.frames)
    assert (np.array(found.frames) != other.frames).any(), "noise belongs to the seed"


@pytest.mark.parametrize("alpha", [0.9, pytest.param(0.99, marks=pytest.mark.slow)])
def test_the_step_of_a_corrected_course_is_stable_for_flow_and_score_together(alpha):
    states = patterns(9, 8, 8)
    of = subject(diffusion(), states, score=quiet_score(states), alpha=alpha, eta=0.5, times=[0, 1])
    found = roll_out(of, (RECOVERED,), lambda *_: None).courses[RECOVERED]
    # noised cells of variance S fall to their mean at eta / (alpha S + 1 - alpha), and the checkerboard of what is
    # clean in them, S sqrt(alpha) / (alpha S + 1 - alpha), at sqrt(alpha) times 8 and 4 times the flow's diffusion
    spread = as_seen(states).var(dim=(0, 2, 3)).numpy()
    rate = (0.5 + 0.5 * np.array([8, 4]) * alpha * spread) / (alpha * spread + 1 - alpha)
    speed = time_scale(of, as_seen(of.starts))
    # the power iteration leaves some per cent where there was little of the largest
    assert found.step == pytest.approx(stable_step(speed * rate.max(), NOISY), rel=0.05)


def test_the_corrector_acts_by_its_strength_and_its_noise():
    states = patterns(9, 16, 16)
    few = {"score": quiet_score(states), "alpha": 0.9, "times": [0, 4], "step": 0.5}
    ends = [
        course(RECOVERED, diffusion(), states, **few, eta=eta, noise=noise).frames[1]
        for eta, noise in ((0.0, True), (0.1, True), (1.0, True), (1.0, False))
    ]
    assert all((a != b).any() for n, a in enumerate(ends) for b in ends[:n])


def test_without_a_corrector_a_score_model_changes_nothing():
    states = patterns(9, 16, 16)
    plain, beside = (
        course(RECOVERED, diffusion(), states, times=[0, 10], score=score) for score in (None, quiet_score(states))
    )
    assert_array_equal(plain.frames, beside.frames)


def test_a_flow_of_noised_states_carries_them_and_shows_the_denoised():
    states = patterns(9, 32, 32)
    score, alpha = quiet_score(states), 0.9
    found = course(RECOVERED, diffusion(), states, level=alpha, score=score, times=[0, 4])
    # at the start a share alpha S / (alpha S + 1 - alpha) of a cell's power is its own
    power = alpha * as_seen(states).var(dim=(0, 2, 3)).numpy()
    expected = np.sqrt(power / (power + 1 - alpha)).mean()
    assert found.correlation[0] == pytest.approx(expected, abs=4 / (3 * 2 * 1024) ** 0.5)
    # diffusion mixes some ten cells, whose noise is their own and whose pattern is not
    assert found.correlation[1] > expected + 0.1
    assert found.blown_up is None


def test_the_score_alone_keeps_cells_that_do_not_know_each_other_and_forgets_their_start():
    # Gaussian cells, of which a model that says nothing knows everything
    rng = np.random.default_rng(0)
    mean, std = np.float32([0.6, 0.3]).reshape(1, 2, 1, 1), np.float32([0.1, 0.05]).reshape(1, 2, 1, 1)
    states = mean + std * rng.standard_normal((8, 2, 16, 16), dtype=np.float32)
    alpha = 0.8
    # as fast as diffusion at 0.16; a tenth of the decay of the fastest species a step
    of = subject(diffusion(), states, score=quiet_score(states), alpha=alpha)
    variance = (AFFINE["scale"] * std) ** 2
    decay = LANGEVIN_ETA * time_scale(of, as_seen(states[:3])) / (alpha * variance + 1 - alpha)
    time = math.ceil(6 / decay.min())  # e^-6 of the start is left
    found = course(SCORE, diffusion(), states, score=of.score, alpha=alpha, times=[0, time], step=0.1 / decay.max())
    end = found.frames[1]
    # the spread of posterior means: S sqrt(alpha) / sqrt(alpha S + 1 - alpha); of 256 cells to within 4 / sqrt(512)
    expected = variance * math.sqrt(alpha) / np.sqrt(alpha * variance + 1 - alpha) / AFFINE["scale"]
    assert_allclose(end.std(axis=(1, 2)), expected.ravel(), rtol=0.18)
    assert_allclose(end.mean(axis=(1, 2)), mean.ravel(), atol=4 * expected.max() / 16)
    assert abs(found.correlation[1]) < 4 / (3 * 2 * 256) ** 0.5
    assert found.blown_up is None


def test_a_level_that_a_score_model_does_not_know_is_moved_to_the_nearest_it_knows():
    states = patterns(9, 16, 16)
    score, asked = quiet_score(states, (0.5, 0.9)), []
    inside = score.score
    score.score = lambda y, alpha: asked.append(alpha) or inside(y, alpha)
    for alpha, nearest in ((0.99, 0.9), (0.2, 0.5), (0.7, 0.7)):
        asked.clear()
        course(SCORE, diffusion(), states, score=score, alpha=alpha, times=[0, 1], step=0.5)
        assert set(asked) == {nearest}


def test_an_ensemble_a_thousand_floors_away_counts_as_blown_up():
    growth = linear_field([0, 0], [[1.0, 0, 0, 0], [0, 0, 0, 0]])  # u grows from 1/2, by e a step
    found = course(RECOVERED, growth, patterns(9, 16, 16), times=[0, 1, 10, 20], step=0.1)
    kept = len(found.ratio)
    assert found.blown_up == [0, 1, 10, 20][kept]
    assert max(found.ratio) < rollout.GONE
    assert np.isfinite(found.frames[:kept]).all() and np.isnan(found.frames[kept:]).all()
