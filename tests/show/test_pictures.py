"""Pictures of a score model: which files there are, of how many panels, and that they show the model."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from p2d.fields import Grid, Scaling, Species
from p2d.score.model import ScoreModel
from p2d.score.spectrum import Spectrum
from p2d.show import pictures
from p2d.show.view import View
from p2d.training.history import Epoch, History

VIEW = View((Species("u"), Species("v")), Grid((8, 8)))
SCALING = Scaling((-1.0, -1.0), (2.0, 2.0))
EPOCHS = [
    {"epoch": 0, "validation_loss": 1.0},
    {
        "epoch": 1,
        "validation_loss": 0.5,
        "training_loss": 0.6,
        "gradient_norm": 0.1,
        "learning_rate": 1e-3,
        "samples_per_second": 9.0,
    },
]


HISTORY = History.from_dicts(EPOCHS)


def model_of(alpha: tuple[float, ...], sampled: bool = False, seed: int = 0) -> ScoreModel:
    """Of two levels of the U-Net; its output is not that of a fresh one, so that the seed shows."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        spectrum = Spectrum.white(torch.zeros(2), torch.ones(2) * 0.5)
        model = ScoreModel((4, 4), alpha, spectrum, sampled)
        torch.nn.init.normal_(model.net.head.bias)
    return model.eval()


def state_of(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((2, height, width), dtype=np.float32)


@pytest.mark.parametrize(
    ("alpha", "rows"), [((0.5, 0.999), 3), ((0.6, 0.9), 1), ((0.8,), 1), ((0.3,), 1), ((0.96, 0.99), 2)]
)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 8)])
def test_denoised_has_a_row_for_each_pictured_level_that_is_trained_or_for_the_ends(height, width, alpha, rows):
    state = state_of(height, width)
    panels = pictures.denoised_states(model_of(alpha), state, SCALING)
    assert len(panels) == rows and all(min(alpha) <= level <= max(alpha) for level, _, _ in panels)
    for _, noisy, mean in panels:
        assert noisy.shape == mean.shape == state.shape and (noisy != state).any()


def test_denoised_is_of_the_model_and_the_same_twice():
    made = [pictures.denoised_states(model_of((0.8,), seed=seed), state_of(8, 8), SCALING) for seed in (0, 0, 1)]
    one, again, other = (mean for ((_, _, mean),) in made)
    assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("sampled", [True, False])
def test_a_training_has_its_pictures_named_by_their_epoch(tmp_path, drawn, sampled):
    model = model_of((0.5, 0.999), sampled)
    made = pictures.draw_progress(tmp_path / "new", model, state_of(8, 8), SCALING, HISTORY, VIEW, "waves")
    names = ["denoised-0001.png", *(["generated-0001.png"] if sampled else []), "training.png"]
    assert [path.name for path in made] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    if sampled:
        assert len([axes for axes in drawn[1].axes if axes.get_images()]) == 4


def test_a_later_epoch_leaves_the_pictures_of_the_earlier(tmp_path, drawn):
    model = model_of((0.8,))
    pictures.draw_progress(tmp_path, model, state_of(8, 8), SCALING, HISTORY, VIEW, "waves")
    before = (tmp_path / "denoised-0001.png").stat().st_mtime_ns
    later = HISTORY.followed_by(Epoch(12, HISTORY.last.metrics))
    made = pictures.draw_progress(tmp_path, model, state_of(8, 8), SCALING, later, VIEW, "waves")
    assert [path.name for path in made] == ["denoised-0012.png", "training.png"]
    assert (tmp_path / "denoised-0001.png").stat().st_mtime_ns == before
