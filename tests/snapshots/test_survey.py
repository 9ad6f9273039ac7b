"""What snapshots are is told right, each fault by its finding, and clean ensembles are left alone."""

import json

import numpy as np
import pytest

from p2d.fields import Grid, Mask
from p2d.snapshots.findings import Finding, ordered
from p2d.snapshots.survey import Stored, Survey, survey
from tests.snapshots.helpers import patterns

SIZE = 32
NAMES = ("u", "v")
CLEAN = patterns(72, SIZE).astype(np.float32)


def look(states: np.ndarray, runs: np.ndarray | None = None, mask: Mask | None = None, **stored) -> Survey:
    species = NAMES[: states.shape[1]]
    return survey(
        states, species, Grid(states.shape[-2:], edges=("open", "open"), mask=mask), runs, None, Stored(**stored)
    )


def warnings(states: np.ndarray, **given) -> list[str]:
    return [finding.kind for finding in look(states, **given).findings if finding.advice]


def test_of_clean_snapshots_only_facts_are_said():
    seen = look(CLEAN)
    assert not [finding for finding in seen.findings if finding.advice]
    assert seen.edges == ("periodic", "periodic")
    assert seen.repeated == (False, False)
    assert abs(seen.independent - 72) < 4
    size = seen.findings[0]
    assert size.text.startswith("72 snapshots of 32 x 32 cells: u ")
    np.testing.assert_allclose(size.numbers["highest v"], CLEAN[:, 1].max())


def test_a_window_has_open_edges_and_a_masked_field_too():
    assert look(CLEAN[..., :28, :25]).edges == ("open", "open")
    cells = np.hypot(*(np.indices((SIZE, SIZE)) - SIZE / 2)) < 13
    seen = look(np.where(cells, CLEAN, np.nan), mask=Mask.of(cells))
    assert seen.edges == ("open", "open")
    assert not [finding for finding in seen.findings if finding.advice]


def test_a_repeated_end_is_found_and_the_rest_is_periodic():
    seen = look(np.concatenate([CLEAN, CLEAN[..., :1]], axis=-1))
    assert seen.repeated == (False, True)
    assert seen.edges == ("periodic", "periodic")
    assert "32 x 32 cells" in seen.findings[0].text


def test_edges_that_are_known_are_kept_and_doubted_where_they_cannot_be():
    window = CLEAN[..., :25, :25]
    periodic = Grid(window.shape[-2:])
    seen = survey(window, NAMES, periodic, stored=Stored(edges_known=True))
    assert seen.edges == ("periodic", "periodic")
    assert "edges" in [finding.kind for finding in seen.findings]


SCALED = (CLEAN - CLEAN.min(axis=(0, 2, 3), keepdims=True)) / np.ptp(CLEAN, axis=(0, 2, 3), keepdims=True)
EACH = (CLEAN - CLEAN.mean(axis=(2, 3), keepdims=True)) / CLEAN.std(axis=(2, 3), keepdims=True)
LIGHT = 1 + 0.2 * np.linspace(-1, 1, SIZE)
FAULTS = {
    "few": (CLEAN[:9], {}),
    "rounded": (np.round(CLEAN * 60) / 60, {}),
    "gamma": (CLEAN, {"bits": 8}),
    "compressed": (CLEAN, {"lossy": True, "bits": 16}),
    "saturated": (np.minimum(CLEAN, np.quantile(CLEAN, 0.98)), {}),
    "illumination": (CLEAN * LIGHT, {}),
    "rescaled": (SCALED, {}),
    "resolution": (np.random.default_rng(0).normal(size=(80, 1, 24, 24)), {}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_is_told_with_what_it_means_and_what_to_do(kind):
    states, stored = FAULTS[kind]
    own = [finding for finding in look(states, **stored).findings if finding.kind == kind]
    assert len(own) == 1
    assert own[0].meaning
    assert own[0].advice


def test_snapshots_that_were_standardised_one_by_one_are_told_from_all_together():
    text = {kind: look(states).findings[-1].text for kind, states in (("each", EACH), ("all", SCALED))}
    assert "each was scaled by itself" in text["each"]
    assert "spans 0 to 1" in text["all"]


def test_uneven_light_is_not_taken_for_anything_else():
    assert warnings(CLEAN * LIGHT) == ["illumination"]
    finding = look(CLEAN * LIGHT).findings[-1]
    assert finding.numbers["range of u"] == pytest.approx(0.4, abs=0.05)


def test_pixels_that_are_stuck_and_a_frame_are_found():
    stuck = CLEAN.copy()
    stuck[:, 0, 20, 7] = 0.9
    (finding,) = (finding for finding in look(stuck).findings if finding.advice)
    assert "(20, 7)" in finding.text
    framed = CLEAN.copy()
    framed[..., [0, -1], :] = framed[..., [0, -1]] = 0.5
    (finding,) = (finding for finding in look(framed).findings if finding.kind == "pixels")
    assert "edges held at a value" in finding.text
    assert look(framed).edges == ("open", "open")


def test_uniform_snapshots_are_counted_and_left_out():
    dead = np.concatenate([CLEAN[:40], np.full((8, 2, SIZE, SIZE), 0.5, np.float32)])
    seen = look(dead)
    assert [f.numbers["uniform"] for f in seen.findings if f.kind == "uniform"] == [8.0]
    assert len(seen.runs) == 48
    alone = look(np.full((4, 1, 16, 16), 0.5))
    assert alone.independent == 0
    assert "all snapshots are uniform" in str(alone)


def test_frames_of_runs_are_worth_less_than_they_are_many():
    frames = patterns(10, SIZE, each=6, memory=0.95).astype(np.float32)
    seen = look(frames, runs=np.repeat(range(10), 6))
    assert 8 < seen.independent < 16
    assert "10 runs" in str(seen)
    one = look(frames[:6], runs=np.zeros(6, int))
    assert one.independent == 1
    assert look(frames[:6]).independent == 6  # as many as are said to be, where nothing tells
    given = np.random.default_rng(0).permutation(60)
    shuffled = survey(
        frames[given], NAMES, Grid((SIZE, SIZE)), np.repeat(range(10), 6)[given], np.tile(range(6), 10)[given] * 1.0
    )
    np.testing.assert_array_equal(shuffled.runs, np.repeat(range(10), 6)[given])


def test_experiments_that_are_given_as_frames_of_a_run_are_too_few():
    (few,) = [f for f in look(CLEAN, runs=np.zeros(len(CLEAN), int)).findings if f.kind == "few"]
    assert few.numbers == {"runs": 1.0} and "--runs-from" in few.advice


def test_one_dimension_and_one_snapshot():
    line = patterns(40, SIZE)[:, :1, :1].astype(np.float32)
    seen = look(line)
    assert "40 snapshots of 32 cells" in seen.findings[0].text
    assert seen.edges[1] == "periodic"
    assert "1 snapshot of" in str(look(CLEAN[:1]))


def test_a_survey_comes_back_from_json():
    seen = look(CLEAN[:9] * LIGHT, bits=8)
    again = Survey.from_dict(json.loads(json.dumps(seen.to_dict())))
    assert str(again) == str(seen)
    assert (again.edges, again.repeated, again.independent) == (seen.edges, seen.repeated, seen.independent)
    np.testing.assert_array_equal(again.runs, seen.runs)


def test_facts_come_first_then_what_matters_most():
    facts = [Finding("size", "."), Finding("noise", ".")]
    doing = [Finding("symmetric", ".", ".", "."), Finding("few", ".", ".", ".")]
    assert ordered([doing[0], facts[0], doing[1], facts[1]]) == (*facts, doing[1], doing[0])
    assert str(doing[1]).splitlines() == ["! .", "    so: .", "    do: ."]
