"""What a score model makes: new patterns, and clean snapshots from noisy ones."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from p2d.config import DenoiseConfig, SampleConfig, TrainSource, of_each, settings_hash
from p2d.config.stored import Json
from p2d.errors import UserError
from p2d.evaluate.quality import Quality
from p2d.fields import Grid, Scaling, Species
from p2d.pipeline.learn import train_score
from p2d.pipeline.refuse import refuse_other_systems
from p2d.pipeline.simulate import dataset_facts
from p2d.pipeline.stage import Outcome, Tracker, stage
from p2d.progress import progress, say
from p2d.runs import DATA, REPORT, SCORE, read_json, remove_unfinished, short_name, write_json
from p2d.score.model import ScoreModel
from p2d.show.view import View
from p2d.snapshots import made as derived
from p2d.snapshots.card import load_card
from p2d.snapshots.noise import LOOKED_AT, seen, white_noise
from p2d.snapshots.store import Dataset, evenly, find_dataset, open_dataset
from p2d.snapshots.writing import writing
from p2d.tracking.datasets import EVALUATION, MADE
from p2d.tracking.store import Run
from p2d.training.checkpoint import read_config

ROWS = 64  # of a shard
LEAST_NOISE = 1e-3  # of the spread of values: below, the signal level is 1 to six digits
COMPARED = 1024  # generated, training and held-out snapshots each, at most, that are compared
CORES = 8  # of an actor without a GPU: a shard has as many parts of 8 patterns


def sample(score: str, config: SampleConfig, out: Path, track: Tracker) -> Outcome:
    """Generate patterns with a score model into OUT/data/NAME, and hold them against held-out snapshots.

    Raises:
        UserError: no such model, a size that its U-Net cannot take, one trained at a single level, a dataset to compare
            with that the model was not trained on.
    """
    folder = SCORE.find(out, score)
    made = read_config(folder, "score")
    trained_on = made["data"]
    grid = Grid.from_dict(trained_on["grid"])
    shape = (config.height or grid.shape[0], config.width or grid.shape[1])
    name = config.name or f"{folder.name}_generated_{shape[0]}x{shape[1]}"
    place = DATA.place(out, name)
    origin = {
        "kind": derived.GENERATED,
        "score": settings_hash({**made["settings"], **trained_on}),
        "learnt_from": trained_on["dataset_hash"],
    }
    settings = {**config.identity(), "height": shape[0], "width": shape[1], **origin}
    labels = derived.generated_labels(config.num_samples, ROWS, config.seed)
    compared = _own_dataset(config.dataset, trained_on, folder, out)
    report = REPORT.place(out, name) / "quality.json"  # by its full name: sizes may differ
    if derived.is_finished(place, settings, labels) and report.is_file():
        facts = {**dataset_facts(open_dataset(place)), **read_json(report)}
        return Outcome("sample", False, place, facts, result=_quality(facts))
    from p2d.cluster.runtime import shared_folder
    from p2d.cluster.shards import Wish, find_device, make, refuse
    from p2d.score import sample as reverse

    start = time.monotonic()
    reverse.check(ScoreModel.load(folder), shape, config.steps)
    scaling, sized = Scaling.from_dict(trained_on["scaling"]), grid.sized(shape)
    card = derived.first_card(settings, origin, _species(made), sized, scaling, ROWS)
    view = View(card.species, card.grid, config.show)
    maker = reverse.Patterns(shared_folder(folder), card, config.num_samples, config.steps, config.seed, config.churn)
    wish = Wish(find_device("auto"), config.workers, cores=CORES, name="workers")
    refuse(wish, len(labels), place)
    with stage(track, "sample", place, {**config.to_dict(), "score": str(folder)}) as child:
        with progress("sample", config.num_samples, "patterns") as advance, writing(place, card) as kept:
            dataset = make(maker, wish, place, kept, labels, advance)
        child.dataset(dataset, MADE)
        if compared is not None:
            child.dataset(compared, EVALUATION)
        measured = _judge(dataset, compared, trained_on["holdout"], report.parent, view, child)
        write_json(report, measured)
    facts = {**dataset_facts(dataset), **measured}
    return Outcome("sample", True, place, facts, time.monotonic() - start, _quality(facts))


def _quality(facts: Json) -> Quality | None:
    return Quality.from_dict(facts["quality"]) if "quality" in facts else None


def _species(made: Json) -> tuple[Species, ...]:
    """The species that a score model was trained on; models of before knew u and v in [0, 1]."""
    told = made.get("learnt_from", {}).get("species")
    return tuple(Species(**species) for species in told) if told else (Species("u"), Species("v"))


def _own_dataset(name: str, trained_on: Json, model: Path, out: Path) -> Dataset | None:
    """The dataset that a model was trained on: the named one, or the one of its hash under OUT/data, if any.

    Raises:
        UserError: the named one is another.
    """
    if name:
        dataset = find_dataset(name, out)
        refuse_other_systems("score", model, dataset)
        if dataset.card.dataset_hash != trained_on["dataset_hash"]:
            raise UserError(
                f"{model} was not trained on {dataset.folder}, whose hash is {dataset.card.dataset_hash[:8]}...; "
                f"name the dataset of {trained_on['dataset_hash'][:8]}..., of which memory and likeness can be told"
            )
        return dataset
    for known in DATA.names(out):
        card = DATA.place(out, known) / "card.json"
        # The hash also stands in the cards of what was made from it, which may be unfinished.
        if card.is_file() and trained_on["dataset_hash"] in card.read_text():
            held = load_card(card.parent)
            if held.complete and held.dataset_hash == trained_on["dataset_hash"]:
                return open_dataset(card.parent)
    return None


def _judge(dataset: Dataset, compared: Dataset | None, holdout: float, folder: Path, view: View, child: Run) -> Json:
    """Draw generated patterns, and measure them beside the floor where the data are there that they should be like."""
    from p2d.evaluate import quality
    from p2d.show import curves, figures

    name = short_name(dataset.folder.name)
    states = dataset.states(evenly(np.arange(dataset.card.samples), COMPARED))
    sheet = folder / "generated.png"
    remove_unfinished(folder)
    figures.draw_states(sheet, states[:64], view, name)
    child.artifact(sheet)
    if compared is None:
        say("  the dataset that the score model was trained on is not here, so nothing is measured; -m names it")
        return {"contact_sheet": str(sheet)}
    if any(large % small for large, small in zip(dataset.card.grid.shape, compared.card.grid.shape, strict=True)):
        sizes = f"{dataset.card.grid.shape} is no multiple of {compared.card.grid.shape}"
        say(f"  {sizes} of the data, so nothing is measured")
        return {"contact_sheet": str(sheet)}
    train_ids, held_ids = compared.split(holdout)
    train = compared.states(evenly(train_ids, COMPARED))
    held = compared.states(evenly(held_ids, COMPARED))
    measured = quality.measure_quality(states, train, held, species=dataset.card.names, grid=compared.card.grid)
    child.metrics(measured.metrics())
    if dataset.card.grid.shape == compared.card.grid.shape:
        spectra = {"generated": states, "held out": held, "training": train}
        means = {k: quality.spectra(v, dataset.card.grid).mean(axis=0) for k, v in spectra.items()}
        curves.draw_spectra(folder / "spectra.png", means, view, name)
        child.artifact(folder / "spectra.png")
    return {"contact_sheet": str(sheet), "quality": measured.to_dict()}


def denoise(source: TrainSource, config: DenoiseConfig, out: Path, track: Tracker, show: str = "") -> Outcome:
    """Denoise a dataset into OUT/data/NAME, with a score model trained on its noisy snapshots alone.

    Raises:
        UserError: no noise to be seen, or more than the patterns themselves vary by.
    """
    from p2d.cluster.runtime import shared_folder
    from p2d.cluster.shards import Wish, find_device, make, refuse
    from p2d.score import denoise as denoising
    from p2d.show import figures

    start = time.monotonic()
    dataset = find_dataset(source.dataset, out)
    own = dataset.card
    view = View(own.species, own.grid, show)
    grid = own.grid.shape
    short = source.name or short_name(dataset.folder.name)
    place = DATA.place(out, f"{short}_denoised_{grid[0]}x{grid[1]}")
    train_ids, _ = dataset.split(source.holdout)
    some = dataset.states(evenly(train_ids, LOOKED_AT))
    spread = some[..., own.grid.inside(0)].std(axis=(0, 2), dtype=np.float64).tolist()
    given = of_each("noise", config.noise, len(own.species)) if any(config.noise) else None
    sigma = given or _estimated(dataset, some)
    if any(noise >= std for noise, std in zip(sigma, spread, strict=True)):
        raise UserError(
            f"noise = {_by_species(dataset, sigma, 'g')} is as much as the snapshots vary in all "
            f"({_by_species(dataset, spread, '.3g')}); denoising needs less"
        )
    if all(noise < LEAST_NOISE * std for noise, std in zip(sigma, spread, strict=True)):
        raise UserError(
            f"noise = {_by_species(dataset, sigma, 'g')} is next to nothing beside how much the snapshots vary "
            f"({_by_species(dataset, spread, '.3g')}): there is nothing to take out, or it is not in the values' unit"
        )
    told: float | list[float] = sigma[0] if len(set(sigma)) == 1 else list(sigma)
    origin = {
        "kind": "denoised",
        "dataset": dataset.folder.name,
        "dataset_hash": dataset.card.dataset_hash,
        "noise": told,
        "noise_estimated": not given,
    }
    settings = {**config.identity(), **origin, "holdout": source.holdout}
    labels = derived.labels_like(dataset)
    if derived.is_finished(place, settings, labels):
        return Outcome("denoise", False, place, {**dataset_facts(open_dataset(place)), "noise": told})
    trainer = TrainSource(**{**source.to_dict(), "name": f"{short}_denoiser"})
    coordinates, level = denoising.of_equal_noise(dataset.scaling, sigma)
    training = denoising.training_settings(config, sigma, level)
    trained = train_score(training, trainer, out, track, show, coordinates)
    card = derived.first_card(settings, origin, own.species, own.grid, dataset.scaling, own.chunk, like=own)
    wish = Wish(find_device("auto"), source.most_workers, cores=CORES, name="workers")
    refuse(wish, len(labels), place)
    with stage(track, "denoise", place, {**config.to_dict(), **source.to_dict(), "noise": told}) as child:
        child.dataset(dataset)
        with progress("denoise", dataset.card.samples, "snapshots") as advance, writing(place, card) as kept:
            source_data = replace(dataset, folder=shared_folder(dataset.folder))
            maker = denoising.Denoised(shared_folder(trained.where), source_data, coordinates, level, kept)
            made = make(maker, wish, place, kept, labels, advance)
        child.dataset(made, MADE)
        picture = REPORT.place(out, place.name) / "denoised.png"
        ids, name = dataset.living[:4], short_name(place.name)
        pair = np.concatenate([states.states(ids) for states in (dataset, made)])
        seen = " and ".join(f"{level:.3g}" for level in dict.fromkeys(sigma))
        title = f"{name}, with noise {seen} (above) and denoised"
        figures.draw_states(picture, pair, view, title, columns=len(ids))
        child.artifact(picture)
    facts = {**dataset_facts(made), "noise": told, "noise_estimated": not given, "score": str(trained.where)}
    return Outcome("denoise", True, place, facts, time.monotonic() - start)


def _estimated(dataset: Dataset, states: np.ndarray) -> tuple[float, ...]:
    """The noise of each species in some snapshots of a dataset, told on the screen.

    Raises:
        UserError: there is none to be seen.
    """
    grid = dataset.card.grid
    levels = white_noise(states, grid)
    told = _by_species(dataset, levels, ".3g")
    if not any(seen(states, grid)):
        raise UserError(f"{dataset.folder} shows no noise (estimated: {told}); if there is some, give --noise")
    say(f"noise estimated: {told}")
    return levels


def _by_species(dataset: Dataset, values: Sequence[float], form: str) -> str:
    return ", ".join(f"{name} {value:{form}}" for name, value in zip(dataset.card.names, values, strict=True))
