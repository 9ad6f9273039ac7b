"""Datasets made by a model: labelled, sound, the same for any interruption, and told from others."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Scaling, Species
from p2d.snapshots import made as derived
from p2d.snapshots.card import load_card
from p2d.snapshots.files import read_table
from p2d.snapshots.schema import KNOWN, Labels, array_of
from p2d.snapshots.shards import shard_name
from p2d.snapshots.simulated import ALIVE_SHARE, simulate_here
from p2d.snapshots.store import Dataset, open_dataset
from p2d.snapshots.verify import Fault, verify
from p2d.snapshots.writing import ensembles_text

from .helpers import DAMAGES, averages_of, contents, interrupted, read_rows, small

SPECIES = (Species("u"), Species("v"))
SCALING = Scaling((0.5, 0.5), (0.5, 0.5))
READ = pa.schema([*KNOWN.items(), ("alive", pa.bool_())])  # of the labels of a shard
GENERATED = {"kind": "generated", "score": "0123456789", "learnt_from": "abc"}
SETTINGS = {"num_samples": 10, "seed": 3, "kind": "generated"}


def made_up(ids: list[int], height: int = 6, width: int = 8) -> np.ndarray:
    """A state for each id, of values between 0 and 1."""
    each = [np.random.default_rng(100 + i).random((2, height, width), dtype=np.float32) for i in ids]
    return np.stack(each)


def generate(
    folder, count: int = 10, chunk: int = 4, advance=lambda rows, note: None, states=made_up, **settings
) -> Dataset:
    """A generated dataset of made-up states."""
    labels = derived.generated_labels(count, chunk, seed=3)
    asked = {**SETTINGS, **settings}
    card = derived.first_card(asked, GENERATED, SPECIES, Grid(states([0]).shape[-2:]), SCALING, chunk)

    def samples(number: int):
        return derived.samples_of(states(labels[number].sample_id.tolist()), labels[number], card)

    return derived.make(folder, card, labels, samples, "cpu", advance)


def denoise(noisy: Dataset, folder, clean=lambda states: np.clip(states, 0, 1)) -> Dataset:
    """A denoised dataset, by a plain function of states."""
    labels = derived.labels_like(noisy)
    origin = {"kind": "denoised", "dataset": noisy.folder.name, "noise": 0.02}
    known = noisy.card
    card = derived.first_card(origin, origin, known.species, known.grid, noisy.scaling, known.chunk, known)

    def samples(number: int):
        ids, states = noisy.read_shard(shard_name(number))
        return derived.samples_of(clean(states), labels[number], card, np.isin(ids, noisy.living))

    return derived.make(folder, card, labels, samples, "cpu", lambda rows, note: None)


# Labels


@pytest.mark.parametrize(
    ("count", "chunk", "rows"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 64, [3]), (3, 1, [1] * 3)]
)
def test_every_generated_pattern_is_a_run_of_a_system_that_is_not_known(count, chunk, rows):
    labels = derived.generated_labels(count, chunk, seed=5)
    assert list(labels) == list(range(len(rows)))
    assert [len(part) for part in labels.values()] == rows
    every = [row for part in labels.values() for row in part.rows()]
    unknown = {"seed": 5, "system": "generated", "steps": 0, "time": None}
    assert every == [{"sample_id": i, "run_id": i, **unknown} for i in range(count)]
    for part in labels.values():
        assert Labels.of(pa.Table.from_pylist(part.rows(), READ)).are(part)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preset": ("waves", "life")},
        {"snapshots_per_run": 3, "interval": 7, "noise": 0.02},
        {"chunk": 64, "seed": 9},
    ],
    ids=str,
)
def test_a_denoised_dataset_is_labelled_as_the_noisy_one(tmp_path, settings):
    noisy = simulate_here(small(**settings), tmp_path / "noisy")
    clean = denoise(noisy, tmp_path / "clean")
    assert clean.index.equals(noisy.index)
    assert [shard["rows"] for shard in clean.card.shards] == [shard["rows"] for shard in noisy.card.shards]
    kept = ("species", "systems", "conditions", "grid", "scaling", "chunk", "samples", "alive")
    assert {key: getattr(clean.card, key) for key in kept} == {key: getattr(noisy.card, key) for key in kept}
    ids = np.arange(noisy.card.samples)
    assert_array_equal(clean.states(ids), np.clip(noisy.states(ids), 0, 1))
    for holdout in (0.1, 0.5):
        for one, other in zip(clean.split(holdout), noisy.split(holdout), strict=True):
            assert_array_equal(one, other)


# Contents


@pytest.mark.parametrize(("height", "width"), [(6, 8), (1, 7)])
def test_states_come_back_to_the_last_bit_with_their_averages(tmp_path, height, width):
    dataset = generate(tmp_path, states=lambda ids: made_up(ids, height, width))
    ids = np.arange(10)
    assert dataset.states(ids).tobytes() == made_up(ids.tolist(), height, width).tobytes()
    names = ("averages", "averages_before")
    rows = read_rows(tmp_path, names)
    for name in names:
        assert_array_equal(array_of(rows, name), averages_of(made_up(ids.tolist(), height, width)))


@pytest.mark.parametrize("dead", [[], [1, 5, 6], [0]])
def test_uniform_patterns_count_as_dead(tmp_path, dead):
    def states(ids):
        found = made_up(ids)
        for place, i in enumerate(ids):
            if i in dead:
                found[place] = 0.25 + ALIVE_SHARE * (found[place] - 0.5)  # uniform numbers vary by 0.29 of that
            elif i == 9:
                found[place, 1] = 0.25  # a species that varies is enough
        return found

    dataset = generate(tmp_path, states=states)
    living = sorted(set(range(10)) - set(dead))
    assert_array_equal(dataset.living, living)
    assert (dataset.card.samples, dataset.card.alive) == (10, len(living))
    ensemble = dataset.card.ensembles["generated"]
    assert (ensemble.samples, ensemble.alive) == (10, len(living))
    everything = dataset.states(np.array(living)).astype(np.float64)
    # the card rounds to nine digits
    moments = [*everything.mean((0, 2, 3)), *everything.std((0, 2, 3))]
    assert_close([*ensemble.mean.values(), *ensemble.std.values()], moments, rtol=6e-9, atol=0)


def test_who_lives_in_a_denoised_dataset_is_who_lived_in_the_noisy_one(tmp_path):
    config = small(preset=("holes",), num_samples=12, height=12, width=16, steps=300, noise=0.05)
    noisy = simulate_here(config, tmp_path / "noisy")
    assert 0 < noisy.card.alive < 12
    clean = denoise(noisy, tmp_path / "clean", lambda states: np.zeros_like(states))  # all of them uniform
    assert_array_equal(clean.living, noisy.living)


def test_whether_it_is_stationary_is_left_open(tmp_path):
    dataset = generate(tmp_path)
    assert dataset.card.ensembles["generated"].change.stationary is None
    (line,) = ensembles_text(dataset.card)
    assert line.startswith("generated: all patterns live; too few steps")


def test_the_system_of_a_generated_pattern_is_not_known_and_that_of_a_denoised_one_is(tmp_path):
    assert generate(tmp_path / "generated").systems_of(np.arange(3)) is None
    noisy = simulate_here(small(preset=("waves", "life")), tmp_path / "noisy")
    clean = denoise(noisy, tmp_path / "clean")
    ids = np.array([3, 12, 7])
    assert clean.systems_of(ids) == noisy.systems_of(ids)
    assert [system.preset for system in clean.systems_of(ids)] == ["waves", "life", "waves"]


# The card


def test_the_card_says_what_the_dataset_was_made_from(tmp_path):
    generate(tmp_path / "generated")
    noisy = simulate_here(small(noise=0.02), tmp_path / "noisy")
    denoise(noisy, tmp_path / "clean")
    cards = {name: json.loads((tmp_path / name / "card.json").read_text()) for name in ("generated", "clean", "noisy")}
    assert cards["generated"]["origin"] == GENERATED
    assert cards["generated"]["systems"] == cards["generated"]["conditions"] == {}
    assert cards["clean"]["origin"] == {"kind": "denoised", "dataset": "noisy", "noise": 0.02}
    assert cards["clean"]["systems"].keys() == {"waves"}
    assert cards["noisy"]["origin"] == {}
    for name in ("generated", "clean"):
        assert load_card(tmp_path / name).origin["kind"] in cards[name]["generator"]
        assert cards[name]["complete"]


def test_an_altered_origin_is_noticed(tmp_path):
    generate(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({**card, "origin": {**GENERATED, "score": "another"}}))
    assert verify(tmp_path) == [Fault("card.json", "altered since it was written")]


# Sound and unsound


def test_generated_and_denoised_datasets_have_no_faults(tmp_path):
    generate(tmp_path / "generated")
    assert verify(tmp_path / "generated") == []
    for settings in (
        {},
        {"preset": ("waves", "life"), "set": ("F=0.02,0.03",)},
        {"snapshots_per_run": 3, "interval": 7},
    ):
        name = f"{len(settings)}{[*settings][:1]}"
        denoise(simulate_here(small(**settings), tmp_path / f"noisy{name}"), tmp_path / f"clean{name}")
        assert verify(tmp_path / f"clean{name}") == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("finished", [True, False], ids=["finished", "interrupted"])
def test_a_damaged_shard_is_named_and_made_again(tmp_path, damage, finished):
    made = generate(tmp_path)
    sound, file = contents(tmp_path), tmp_path / shard_name(1)
    file.write_bytes(damage(file.read_bytes()))
    assert [fault.name for fault in verify(tmp_path)] == [shard_name(1)]
    if not finished:
        interrupted(tmp_path)
    assert not derived.is_finished(tmp_path, SETTINGS, derived.generated_labels(10, 4, 3))
    assert generate(tmp_path).card.dataset_hash == made.card.dataset_hash
    assert contents(tmp_path) == sound
    assert verify(tmp_path) == []
    assert derived.is_finished(tmp_path, SETTINGS, derived.generated_labels(10, 4, 3))


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_interrupted_dataset_goes_on_and_keeps_its_shards(tmp_path, at):
    whole = generate(tmp_path / "whole")
    asked: list[list[int]] = []

    def states(ids):
        if len(ids) > 1 or ids != [0]:  # but for the one that tells the grid
            asked.append(list(ids))
        return made_up(ids)

    def stops(ids):
        if ids[0] == 4 * at and len(ids) > 1:
            raise KeyboardInterrupt
        return states(ids)

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "stopped", states=stops)
    assert contents(tmp_path / "stopped").keys() == {shard_name(i) for i in range(at)}
    assert [fault.name for fault in verify(tmp_path / "stopped")] == ["card.json"]
    counted: list[tuple[int, str]] = []
    dataset = generate(tmp_path / "stopped", states=states, advance=lambda *told: counted.append(told))
    assert asked == [list(range(4)), list(range(4, 8)), [8, 9]]  # each once, before or after
    assert counted == [(4 * at, f"{at} shards kept")] * (at > 0)  # what is made tells its own progress
    assert dataset.card.dataset_hash == whole.card.dataset_hash
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_the_hash_does_not_depend_on_the_chunk(tmp_path):
    hashes = {generate(tmp_path / str(chunk), chunk=chunk).card.dataset_hash for chunk in (1, 3, 4, 64)}
    assert len(hashes) == 1
    assert generate(tmp_path / "fewer", count=9).card.dataset_hash not in hashes


@pytest.mark.parametrize(
    ("other", "told"),
    [({"seed": 4}, "seed is 3 there, 4 was asked"), ({"steps": 8}, "steps is None there, 8 was asked")],
)
def test_other_settings_are_refused_and_named(tmp_path, other, told):
    generate(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=re.escape(told)):
        generate(tmp_path, **other)
    with pytest.raises(UserError, match=re.escape(told)):
        derived.is_finished(tmp_path, {**SETTINGS, **other}, derived.generated_labels(10, 4, 3))
    assert contents(tmp_path) == before


def test_a_simulated_dataset_is_not_written_over(tmp_path):
    made = simulate_here(small(), tmp_path)
    with pytest.raises(UserError, match=r"other settings.*kind is None there, 'generated' was asked"):
        generate(tmp_path)
    assert open_dataset(tmp_path).card == made.card


def test_a_generated_shard_knows_no_time(tmp_path):
    generate(tmp_path)
    table = read_table(tmp_path / shard_name(2))
    assert table.column("time").to_pylist() == [None, None]
    assert table.column("system").to_pylist() == ["generated"] * 2


def test_shards_made_again_otherwise_are_refused(tmp_path):
    generate(tmp_path)
    card = (tmp_path / "card.json").read_bytes()
    (tmp_path / shard_name(1)).unlink()
    with pytest.raises(UserError, match=r"made again are not what they were.*make it anew under another --name"):
        generate(tmp_path, states=lambda ids: made_up([i + 1 for i in ids]))
    assert (tmp_path / "card.json").read_bytes() == card
