"""The history of a training: to and from a checkpoint's JSON, in words, drawn, and in a notebook."""

import json
import math

import pytest
from matplotlib.figure import Figure

from p2d.training.history import Epoch, History

FALLING = [
    {"epoch": 0, "validation_loss": 2.0, "seconds": 0.5},
    {"epoch": 1, "training_loss": 1.5, "validation_loss": 0.25, "seconds": 1.0},
    {"epoch": 2, "training_loss": 1.0, "validation_loss": 0.75, "seconds": 2.0},
]


def axes_of(epochs, *names):
    axes = Figure().subplots()
    assert History.from_dicts(epochs).plot(axes, *names) is axes
    return axes


def test_it_comes_back_from_its_file_with_the_keys_in_their_order(tmp_path):
    history = History.from_dicts(FALLING)
    history.save(tmp_path)
    text = (tmp_path / "history.json").read_text()
    assert json.loads(text) == FALLING
    assert text.index('"epoch"') < text.index('"validation_loss"') < text.index('"seconds"')
    assert History.load(tmp_path) == history


def test_it_knows_its_last_epoch_its_time_and_its_curves():
    history = History.from_dicts(FALLING)
    assert (history.last.number, history.last.validation_loss, history.seconds) == (2, 0.75, 3.5)
    assert history.curve("training_loss") == [(1, 1.5), (2, 1.0)]
    assert history.curve("z_rms") == []


def test_an_epoch_that_follows_leaves_the_history_before_it_as_it_was():
    history = History.from_dicts(FALLING[:2])
    assert history.followed_by(Epoch(2, {k: v for k, v in FALLING[2].items() if k != "epoch"})).to_dicts() == FALLING
    assert history.to_dicts() == FALLING[:2]


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        ([], "not trained yet"),
        (FALLING[:1], "epoch 0: validation loss 2"),
        (FALLING, "2 epochs: validation loss 0.75, from 2\nlowest in epoch 1: 0.25"),
        (
            [{"epoch": 0, "validation_loss": math.nan}, *FALLING[1:2]],
            "1 epoch: validation loss 0.25, from nan\nlowest in epoch 1: 0.25",
        ),
    ],
)
def test_it_says_in_a_line_or_two_what_was_reached(epochs, words):
    assert str(History.from_dicts(epochs)) == words


def test_it_draws_both_losses_over_epochs():
    axes = axes_of(FALLING)
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {"training loss": ([1, 2], [1.5, 1.0]), "validation loss": ([0, 1, 2], [2.0, 0.25, 0.75])}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(lines)
    assert axes.get_xlabel() == "epoch"


@pytest.mark.parametrize(("lowest", "scale"), [(0.5, "log"), (-0.5, "linear"), (0.0, "linear")])
def test_the_scale_is_logarithmic_where_every_value_is_positive(lowest, scale):
    epochs = [*FALLING, {"epoch": 3, "validation_loss": lowest}]
    assert axes_of(epochs, ("validation_loss",)).get_yscale() == scale
    assert axes_of(epochs, ("training_loss",)).get_yscale() == "log"


def test_a_metric_that_no_epoch_has_is_left_out():
    axes = axes_of(FALLING[:1])
    assert [line.get_label() for line in axes.lines] == ["validation loss"]
    assert axes.get_legend() is None


def test_in_a_notebook_it_shows_its_words_and_its_picture():
    html = History.from_dicts(FALLING)._repr_html_()
    assert html.startswith("<pre>2 epochs: validation loss 0.75")
    assert "</pre><svg" in html and html.rstrip().endswith("</svg>")
