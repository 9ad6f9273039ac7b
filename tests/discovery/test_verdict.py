"""What is said of an equation, by the numbers of its fit."""

import numpy as np
import pytest

from p2d.discovery.verdict import static_text, too_few_text, verdict_text

GOOD = {"gap": 100.0, "spectrum": np.array([1.0, 100.0]), "misfit": 0.1, "z_max": 2.0, "runs": 100}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "dynamics identified (gap 1e+02), ensemble stationary (largest |z| 2.0 of 40 held-out observables)"),
        ({"z_max": 5.0}, "not stationary: under the best equation largest |z| 5.0"),
        ({"misfit": 4.0}, "not stationary: "),
        ({"gap": 5.0}, "ambiguous: 1 dynamics fit about as well (gap 5.0)"),
        ({"gap": 5.0, "spectrum": np.array([0.5, 5.0, 19.0, 21.0])}, "ambiguous: 3 dynamics fit"),
        ({"gap": 5.0, "runs": 63}, "too few snapshots: "),
        ({"gap": 5.0, "runs": 63, "noisy": True}, "too noisy: "),
    ],
)
def test_the_verdict_begins_with_what_decides(changes, words):
    assert verdict_text(**{**GOOD, "noisy": False, "rounded": False, **changes}).startswith(words)


def test_rounded_images_are_said_to_be_that():
    plain, rounded = (verdict_text(**GOOD, noisy=False, rounded=rounded) for rounded in (False, True))
    assert rounded.startswith(plain) and rounded.endswith("of which small terms may be artefacts")


def test_too_few_runs_and_a_steady_state_are_told_with_their_numbers():
    assert too_few_text(12, 37).startswith("too few snapshots: 12 independent runs")
    assert too_few_text(12, 37).endswith("about 37 are needed")
    for named, words in ((True, "the parameters of that"), (False, "the parameters of a")):
        told = static_text(2e-5, "Klausmeier", named=named)
        assert told.startswith("static: Laplacians are functions of the values in every cell to 2e-05 of their power")
        assert f"{words} steady state, if its terms are Klausmeier's" in told and "cannot be known" in told
    told = static_text(2e-5, "", named=False)
    assert "nothing moves, and no velocity can be told; --library SYSTEM gives the parameters" in told
