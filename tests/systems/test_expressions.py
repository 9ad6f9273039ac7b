"""Terms as text: what is read, what is refused and where, and the fields that terms are."""

import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.systems.expressions import degree, evaluate, split
from p2d.systems.gray_scott import laplacian

SHAPES = [(8, 8), (9, 4), (2, 6, 11)]
KINDS = {"numpy": np.asarray, "torch": torch.from_numpy}
# As the term is written and as it is named, and its field written out by hand.
TERMS = {
    "1": ("1", lambda u, v: np.ones_like(u)),
    " 2.5e-1 ": ("0.25", lambda u, v: np.full_like(u, 0.25)),
    "u": ("u", lambda u, v: u),
    "u * v ** 2": ("u*v**2", lambda u, v: u * v * v),
    "(u * v) * v": ("u*v**2", lambda u, v: u * v * v),
    "-u**2": ("-u**2", lambda u, v: -(u * u)),
    "+ v**0.5": ("+v**0.5", lambda u, v: np.sqrt(v)),
    "u - (v - 1)": ("u-(v-1)", lambda u, v: u - v + 1),
    "2*(u + 3*v)": ("2*(u+3*v)", lambda u, v: 2 * u + 6 * v),
    "u / (1 + v**2)": ("u/(1+v**2)", lambda u, v: u / (1 + v * v)),
    "u / v / 2": ("u/v/2", lambda u, v: u / (2 * v)),
    "exp(-u)": ("exp(-u)", lambda u, v: 1 / np.exp(u)),
    "log(u*v)": ("log(u*v)", lambda u, v: np.log(u) + np.log(v)),
    "sqrt(u)": ("sqrt(u)", lambda u, v: u**0.5),
    "sin(2*u)": ("sin(2*u)", lambda u, v: 2 * np.sin(u) * np.cos(u)),
    "cos(u)": ("cos(u)", lambda u, v: np.sin(u + np.pi / 2)),
    "tanh(u - v)": ("tanh(u-v)", lambda u, v: 1 - 2 / (1 + np.exp(2 * (u - v)))),
    "lap( u )": ("lap(u)", lambda u, v: laplacian(u)),
    "u * lap(v)": ("u*lap(v)", lambda u, v: u * laplacian(v)),
    "lap(exp(u) - v)": ("lap(exp(u)-v)", lambda u, v: laplacian(np.exp(u)) - laplacian(v)),
    "lap(lap(u))": ("lap(lap(u))", lambda u, v: laplacian(laplacian(u))),
    "grad(u, u)": ("grad(u,u)", lambda u, v: gradients(u, u)),
    "grad(u, v)": ("grad(u,v)", lambda u, v: gradients(u, v)),
    "v*grad(u*v, exp(v))": ("v*grad(u*v,exp(v))", lambda u, v: v * gradients(u * v, np.exp(v))),
}
# Text, the piece that is not understood, and the character where it stands.
REFUSED = [
    ("w", "w", 1),
    ("u, u*w", "w", 6),
    ("exp", "exp", 1),
    ("exp(1)", "exp(1)", 1),
    ("u, grad(u, 1)", "grad(u, 1)", 4),
    ("u**99", "99", 4),
    ("1e999", "1e309", 1),
    ("u, lapp(v)", "lapp(v)", 4),
    ("u, __import__('os').system('true')", "__import__('os').system('true')", 4),
    ("1, __import__('os')", "__import__('os')", 4),
    ("exp(u)(v)", "exp(u)(v)", 1),
    ("u, v.real", "v.real", 4),
    ("u[0]", "u[0]", 1),
    ("u, 'a'", "'a'", 4),
    ("True", "True", 1),
    ("1j", "1j", 1),
    ("u, v^2", "v ^ 2", 4),
    ("u<v", "u < v", 1),
    ("u if v else u", "u if v else u", 1),
    ("lambda: u", "lambda: u", 1),
    ("lap(*u)", "*u", 5),
    ("u, 2*u**v", "v", 9),
    ("u**(v + 1)", "v + 1", 5),
    ("u**lap(v)", "lap(v)", 4),
    ("u**exp(1)", "exp(1)", 4),
    ("lap()", "lap()", 1),
    ("u, lap(u, v)", "lap(u, v)", 4),
    ("u, grad(u)", "grad(u)", 4),
    ("lap(f=u)", "lap(f=u)", 1),
]
# Text and the character from which on it cannot be read: one beyond its last where it is not finished.
UNREADABLE = [
    ("", 1),
    ("u +", 4),
    ("u, v*", 6),
    ("u, lap(v", 7),
    ("u, v)", 5),
    ("u,, v", 3),
    ("u, 2v", 4),
    ("u, $", 4),
    ("u) + (v", 2),
    ("yield u", 1),
    ("u) #", 2),
]
# Terms of one degree, and that.
HOMOGENEOUS = {"2": 0, "-u": 1, "u - 3*v": 1, "lap(u)": 1, "u*lap(v)": 2, "grad(u,v)": 2, "u*v**2": 3}
HOMOGENEOUS |= {"lap(u**3)/2": 3, "grad(u*v,v)": 3, "(u*v)**2": 4}
SIDE_EFFECT = "__import__('pathlib').Path({!r}).touch()"


def random_fields(*shape: int) -> np.ndarray:
    return 0.5 + np.random.default_rng(0).random((2, *shape))


def gradients(f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """grad f . grad g from forward and backward differences, half of each."""
    sides = [(shift, axis) for axis in (-2, -1) for shift in (-1, 1)]
    return sum((np.roll(f, *side) - f) * (np.roll(g, *side) - g) for side in sides) / 2


@pytest.mark.parametrize("written", TERMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_term_is_the_field_that_its_text_says(written, shape, kind):
    name, by_hand = TERMS[written]
    u, v = random_fields(*shape)
    field = evaluate(name, KINDS[kind](u), KINDS[kind](v))
    # float64 rounding of sums of numbers below 100
    assert_close(field, KINDS[kind](by_hand(u, v)), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("f", "g"), [("u", "u"), ("u", "v"), ("v", "u*v**2"), ("exp(u)", "lap(v)")])
@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_gradients_are_summed_by_parts(f, g, shape):
    u, v = random_fields(*shape)
    product, other = evaluate(f"grad({f},{g})", u, v), -evaluate(f"({f})*lap({g})", u, v)
    # float64 rounding of numbers below 1000; their means over one snapshot each
    assert_close(product.mean((-2, -1)), other.mean((-2, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (1, 0), (2, 3)])
def test_a_fourier_mode_has_its_laplacian_and_its_squared_gradient(height, width, ky, kx):
    rows, columns = np.mgrid[:height, :width]
    angle = 2 * np.pi * (ky * rows / height + kx * columns / width)
    squares = np.sin(np.pi * ky / height) ** 2 + np.sin(np.pi * kx / width) ** 2
    c, s = np.cos(angle), np.sin(angle)
    # float64: sums of a few numbers below 8, the modes within 1e-14 of their angles
    assert_close(evaluate("lap(u)", c, s), -4 * squares * c, rtol=0, atol=1e-13)
    # squared differences of cosine and sine add up to |exp(i k) - 1|^2 = 4 sin^2(k / 2) along each axis, in every cell
    both = evaluate("grad(u,u) + grad(v,v)", c, s)
    assert_close(both, np.full_like(c, 4 * squares), rtol=0, atol=1e-13)


@pytest.mark.parametrize("written", TERMS)
def test_a_term_is_named_without_spaces_and_a_name_names_itself(written):
    name, _ = TERMS[written]
    assert split(written) == split(name) == (name,)


def test_a_list_is_split_at_its_own_commas_only():
    assert split(" 1,u , grad(u, v), lap( v )") == ("1", "u", "grad(u,v)", "lap(v)")


@pytest.mark.parametrize(("text", "piece", "at"), REFUSED)
def test_a_piece_that_is_no_field_is_refused_with_its_place(text, piece, at):
    with pytest.raises(UserError, match="^" + re.escape(f"{piece!r} at character {at} of {text!r} ")):
        split(text)


@pytest.mark.parametrize(("text", "at"), UNREADABLE)
def test_text_that_is_no_list_of_terms_is_refused_with_the_place(text, at):
    with pytest.raises(UserError, match="^" + re.escape(f"{text!r} cannot be read at character {at}, ")):
        split(text)


@pytest.mark.parametrize("text", ["u, v*u, v, v * u", "v*u, u, lap(u), v*(u)"])
def test_a_term_that_stands_twice_is_refused_by_its_name(text):
    with pytest.raises(UserError, match=re.escape(f"'u*v' stands twice in {text!r}")):
        split(text)


@pytest.mark.parametrize("wrapped", ["{}", "exp({})", "u**{}", "u*{}", "{}(u)"])
@pytest.mark.parametrize("read", [split, degree, lambda term: evaluate(term, *random_fields(4, 4))])
def test_nothing_is_ever_executed(wrapped, read, tmp_path):
    effect = tmp_path / "executed"
    with pytest.raises(UserError, match="is not understood"):
        read(wrapped.format(SIDE_EFFECT.format(str(effect))))
    assert not effect.exists()


@pytest.mark.parametrize("term", HOMOGENEOUS)
def test_a_term_grows_with_the_concentrations_by_its_degree(term):
    u, v = random_fields(6, 11)
    power = HOMOGENEOUS[term]
    assert degree(term) == power
    # a factor of 2 rounds nothing, but a power of the library may in its last digit
    assert_close(evaluate(term, 2 * u, 2 * v), 2**power * evaluate(term, u, v), rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize(("term", "most"), [("u + v**3 - 1", 3), ("exp(u)", 2), ("v*tanh(u*v)", 4)])
def test_the_degree_is_that_of_the_highest_part_and_one_more_for_smooth_functions(term, most):
    assert degree(term) == most
