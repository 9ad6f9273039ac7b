"""What a sweep ends with on the screen: its trials, best first, and where the time went."""

import math

import pytest

from p2d.show.summary import sweep_text


def trial(alpha: str, state: str = "FINISHED", error: str = "", **values: float) -> dict:
    return {"settings": {"alpha": alpha, "epochs": "4"}, "state": state, "error": error, "values": values}


def printed(trials: list[dict], metric: str = "cosine", **seconds: float) -> list[str]:
    """The lines on the screen, without the spaces at their ends; the first trial is the best."""
    found = {"metric": metric, "best": trials[0], "trials": trials[::-1], "seconds": {"trials": 61.4, **seconds}}
    return sweep_text(found).splitlines()


@pytest.mark.parametrize(("metric", "order"), [("cosine", ["0.9", "0.8", "0.5"]), ("z_rms", ["0.5", "0.8", "0.9"])])
def test_the_best_is_first(metric, order):
    trials = [
        trial("0.9", cosine=0.3, z_rms=3.0, epoch=4),
        trial("0.5", cosine=-0.1, z_rms=1.0, epoch=4),
        trial("0.8", cosine=0.2, z_rms=2.0, epoch=4),
    ]
    lines = printed(trials, metric)
    assert [line.split()[0] for line in lines[1:4]] == order


def test_those_stopped_early_come_after_and_those_that_failed_last_with_their_error():
    trials = [
        trial("0.8", cosine=0.2, epoch=4),
        trial("0.5", "FAILED", "alpha = 0.5 is not known"),
        trial("0.9", "KILLED", cosine=0.9, epoch=1),
    ]
    lines = printed(trials)
    assert [line.split(maxsplit=3) for line in lines[1:3]] == [
        ["0.8", "0.2", "4"],
        ["0.9", "0.9", "1", "stopped early"],
    ]
    assert lines[3].split(maxsplit=1) == ["0.5", "alpha = 0.5 is not known"]


@pytest.mark.parametrize("metric", ["cosine", "z_rms"])
def test_a_metric_that_is_not_finite_comes_after_those_that_are(metric):
    values = (0.1, math.nan, 0.1, math.inf, 0.1, math.nan, 0.1)
    lines = printed([trial(f"0.{n}", **{metric: value}) for n, value in enumerate(values, 1)], metric)
    assert [line.split()[1] for line in lines[1:5]] == ["0.1"] * 4
    assert sorted(line.split()[1] for line in lines[5:8]) == ["inf", "nan", "nan"]


def test_what_all_trials_have_is_not_shown():
    lines = printed([trial("0.8", cosine=0.2, epoch=4), trial("0.9", cosine=0.1, epoch=4)])
    assert lines[0].split() == ["alpha", "cosine", "epochs"]


def test_a_trial_alone_shows_all_its_settings():
    lines = printed([trial("0.8", z_rms=1.23456, cosine=0.2, validation_loss=-3.5, epoch=4)], "z_rms")
    assert lines[0].split() == ["alpha", "epochs", "z_rms", "cosine", "validation_loss", "epochs"]
    assert lines[1].split() == ["0.8", "4", "1.235", "0.2", "-3.5", "4"]


def test_an_error_is_told_as_it_is_written():
    trials = [trial("0.8", cosine=0.2), trial("0.5", "FAILED", "no file [/bold] in [rank0]")]
    assert printed(trials)[2].endswith("no file [/bold] in [rank0]")


def test_seconds_are_told():
    trials = [trial("0.8", cosine=0.2)]
    assert printed(trials)[-1] == "trials 61 s"
    assert printed(trials, overhead=1.26, score_models=20.2, score_in_each_trial=300.0)[-1] == (
        "trials 61 s; 1.3 s a trial are not in its epochs; score models 20 s; "
        "with a score model trained in each trial it would be 300 s"
    )
