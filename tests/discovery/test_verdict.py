"""What is claimed of an equation, and in which words."""

import json
from dataclasses import replace

import pytest

from p2d.discovery.verdict import (
    KNOWN,
    STABLE,
    Alternative,
    Claims,
    few_doubt,
    judged_doubt,
    static_text,
    symmetry_doubt,
)
from p2d.snapshots.doubts import Doubt

GOOD = Claims(velocity=3e-4, stable=1.0, fewest=1.0, p_value=0.4)
OTHER = Alternative(("du/dt: u v^2",), ("du/dt: u^2",))


@pytest.mark.parametrize(
    ("changes", "velocity", "terms"),
    [
        ({}, True, True),
        ({"velocity": None}, False, False),
        ({"velocity": 1.01 * KNOWN}, False, False),
        ({"velocity": KNOWN}, True, True),
        ({"fewest": STABLE - 0.01}, True, False),
        ({"alternatives": (OTHER,)}, True, False),
        ({"doubts": (Doubt("rounded", "."),)}, True, False),
        ({"doubts": (Doubt("joined", "."),)}, True, True),
        *(({"doubts": (Doubt(kind, "."),)}, False, False) for kind in ("judges", "few", "mixture", "changing")),
    ],
)
def test_each_claim_falls_by_what_speaks_against_it(changes, velocity, terms):
    claims = replace(GOOD, **changes)
    assert (claims.velocity_known, claims.terms_known) == (velocity, terms)


def test_claims_are_told_in_words_with_what_would_decide():
    assert str(GOOD) == (
        "velocity known (1 - cosine at most 3e-04 with 95 % confidence), terms known, "
        "held-out observables agree (p = 0.4)"
    )
    several = str(replace(GOOD, alternatives=(OTHER, OTHER), p_value=1e-5))
    assert "terms not known (2 other sets fit as well, such as with du/dt: u^2 instead of du/dt: u v^2" in several
    assert several.endswith("held-out observables disagree (p = 1e-05)")
    assert "of resampled ensembles 40 % have just these" in str(replace(GOOD, stable=0.4, fewest=0.4))
    assert str(Claims()) == "velocity not known, terms not known"
    doubted = str(replace(GOOD, doubts=(symmetry_doubt(),)))
    assert doubted.startswith("velocity not known (1 - cosine at most 3e-04 with 95 % confidence, were it not for the")


def test_claims_are_kept_as_json():
    whole = replace(GOOD, alternatives=(OTHER,), doubts=(Doubt("rounded", "it is", {"step of u": 0.004}),))
    values = json.loads(json.dumps(whole.to_dict()))
    assert (values["velocity_known"], values["terms_known"]) == (True, False)
    assert Claims.from_dict(values) == whole


def test_doubts_and_a_steady_state_are_told_with_their_numbers():
    assert few_doubt(12, 37).text.startswith("too few snapshots: 12 independent runs")
    assert few_doubt(12, 37).text.endswith("about 37 are needed")
    assert "(p = 2e-06)" in judged_doubt(2e-6, 1e-3).text
    assert [judged_doubt(2e-6, bound).kind for bound in (None, 1e-3, 1e-5)] == ["judges", "judges", "slight"]
    for named, words in ((True, "the parameters of that"), (False, "the parameters of a")):
        told = static_text(2e-5, "Klausmeier", named=named)
        assert told.startswith("static: Laplacians are functions of the values in every cell to 2e-05 of their power")
        assert f"{words} steady state, if its terms are Klausmeier's" in told and "cannot be known" in told
    told = static_text(2e-5, "", named=False)
    assert "nothing moves, and no velocity can be told; --library SYSTEM gives the parameters" in told
