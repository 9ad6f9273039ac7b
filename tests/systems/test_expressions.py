"""Terms as text: what is read, what is refused and where, and the fields that terms are."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.systems import expressions
from p2d.systems.expressions import degree

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
    "d(u, x)": ("d(u,x)", lambda u, v: (np.roll(u, -1, -1) - np.roll(u, 1, -1)) / 2),
    "d(u * v, y)": ("d(u*v,y)", lambda u, v: (np.roll(u * v, -1, -2) - np.roll(u * v, 1, -2)) / 2),
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
    ("u, lapp(v)", "lapp", 4),
    ("u, __import__('os').system('true')", "__import__('os').system('true')", 4),
    ("1, __import__('os')", "__import__", 4),
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
    ("u + d(u)", "d(u)", 5),
    ("u**" + "9" * 400, "9" * 400, 4),
    ("u + " + "1" * 400, "1" * 400, 5),
    ("~u", "~u", 1),
    ("u // v", "u // v", 1),
    ("u @ v", "u @ v", 1),
    ("u and v", "u and v", 1),
    ("d(u, v, x)", "d(u, v, x)", 1),
    ("[u]", "[u]", 1),
    ("f'{u}'", "f'{u}'", 1),
    ("(u := v)", "(u := v)", 2),
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
HOMOGENEOUS |= {"d(u,x)": 1, "u*d(v,y)": 2} | {"lap(u**3)/2": 3, "grad(u*v,v)": 3, "(u*v)**2": 4}
SIDE_EFFECT = "__import__('pathlib').Path({!r}).touch()"


def split_terms(text):
    return expressions.split(text, "uv")


def term_degree(term):
    return degree(term, "uv")


def laplacian(field):
    return Grid(field.shape[-2:]).laplacian(field)


def evaluate(term, u, v):
    """A term's field on a periodic grid of spacing 1."""
    functions = expressions.smooth_functions(u) | Grid(tuple(u.shape[-2:])).operators()
    made = expressions.evaluate(expressions.parse(term, "uv"), {"u": u, "v": v}, functions)
    return 0 * u + made


def random_fields(*shape: int) -> np.ndarray:
    return 0.5 + np.random.default_rng(0).random((2, *shape))


def gradients(f: np.ndarray, g: np.ndarray) -> np.ndarray:
    """grad f . grad g from forward and backward differences, half of each."""
    sides = [(shift, axis) for axis in (-2, -1) for shift in (-1, 1)]
    return sum((np.roll(f, *side) - f) * (np.roll(g, *side) - g) for side in sides) / 2


@pytest.mark.parametrize("written", TERMS)
def test_a_term_is_the_field_that_its_text_says(written):
    name, by_hand = TERMS[written]
    for shape in SHAPES:
        u, v = random_fields(*shape)
        for kind in KINDS.values():
            # float64 rounding of sums of numbers below 100
            assert_close(evaluate(name, kind(u), kind(v)), kind(by_hand(u, v)), rtol=0, atol=1e-13)


NUMBERS = st.sampled_from(["1", "0.5", "2", "3.25"])
ANY_TERM = st.recursive(
    st.sampled_from("uv") | NUMBERS,
    lambda part: st.one_of(
        st.tuples(part, st.sampled_from([" + ", "-", "*", " * "]), part).map(lambda p: f"({p[0]}){p[1]}({p[2]})"),
        part.map(lambda p: f"-({p})"),
        part.map(lambda p: f"tanh(({p}) + u)"),
        st.tuples(part, st.integers(0, 3)).map(lambda p: f"({p[0]})**{p[1]}"),
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ANY_TERM)
def test_whatever_can_be_written_is_what_python_makes_of_it(text):
    u, v = random_fields(3, 4)
    expected = eval(text, {"tanh": np.tanh, "u": u, "v": v, "__builtins__": {}})
    assert_allclose(evaluate(text, u, v), expected + 0 * u, rtol=1e-10, atol=1e-10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(ANY_TERM, min_size=1, max_size=3))
def test_names_of_terms_name_themselves(terms):
    try:
        names = split_terms(", ".join(terms))
    except UserError as refused:
        assert "stands twice" in str(refused)
    else:
        assert split_terms(", ".join(names)) == names and not any(" " in name for name in names)


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


def test_a_term_is_named_without_spaces_and_a_name_names_itself():
    for written, (name, _) in TERMS.items():
        assert split_terms(written) == split_terms(name) == (name,)


def test_a_list_is_split_at_its_own_commas_only():
    assert split_terms(" 1,u , grad(u, v), lap( v )") == ("1", "u", "grad(u,v)", "lap(v)")


@pytest.mark.parametrize(("text", "piece", "at"), REFUSED)
def test_a_piece_that_is_no_field_is_refused_with_its_place(text, piece, at):
    where = re.escape(f"{piece!r}") + r"( \(did you mean '\w+'\?\))?" + re.escape(f" at character {at} of ")
    with pytest.raises(UserError, match="^(unknown name )?" + where):
        split_terms(text)


@pytest.mark.parametrize(("text", "at"), UNREADABLE)
def test_text_that_is_no_list_of_terms_is_refused_with_the_place(text, at):
    with pytest.raises(UserError, match="^" + re.escape(f"{text!r} cannot be read at character {at}, ")):
        split_terms(text)


@pytest.mark.parametrize("text", ["u, v*u, v, v * u", "v*u, u, lap(u), v*(u)"])
def test_a_term_that_stands_twice_is_refused_by_its_name(text):
    with pytest.raises(UserError, match=re.escape(f"'u*v' stands twice in {text!r}")):
        split_terms(text)


@pytest.mark.parametrize("wrapped", ["{}", "exp({})", "u**{}", "u*{}", "{}(u)"])
@pytest.mark.parametrize("read", [split_terms, term_degree, lambda term: evaluate(term, *random_fields(4, 4))])
def test_nothing_is_ever_executed(wrapped, read, tmp_path):
    effect = tmp_path / "executed"
    with pytest.raises(UserError, match=r"is not understood|unknown name"):
        read(wrapped.format(SIDE_EFFECT.format(str(effect))))
    assert not effect.exists()


@pytest.mark.parametrize("term", HOMOGENEOUS)
def test_a_term_grows_with_the_concentrations_by_its_degree(term):
    u, v = random_fields(6, 11)
    power = HOMOGENEOUS[term]
    assert term_degree(term) == power
    # a factor of 2 rounds nothing, but a power of the library may in its last digit
    assert_close(evaluate(term, 2 * u, 2 * v), 2**power * evaluate(term, u, v), rtol=1e-14, atol=1e-13)


@pytest.mark.parametrize(("term", "most"), [("u + v**3 - 1", 3), ("exp(u)", 2), ("v*tanh(u*v)", 4)])
def test_the_degree_is_that_of_the_highest_part_and_one_more_for_smooth_functions(term, most):
    assert term_degree(term) == most


# Rates, in which parameters may stand


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("D_u*lap(u) + c*v", "known are u, v, D_u"),
        ("D_v*lap(u)", "unknown name 'D_v' (did you mean 'D_u'?) at character 1"),
        ("D_u*lapl(u)", "unknown name 'lapl' (did you mean 'lap'?) at character 5"),
        ("d(u, z)", "unknown name 'z' at character 6 of 'd(u, z)'; a derivative is along x or y, as in d(u, x)"),
        ("d(u, 1)", "'1' at character 6 of 'd(u, 1)' is not understood; a derivative is along x or y"),
        ("lap(D_u)", "'lap(D_u)' at character 1"),
        ("grad(u, D_u)", "'grad(u, D_u)' at character 1"),
        ("u**v", "'v' at character 4 of 'u**v' is not understood"),
        ("u**(D_u*v)", "'D_u * v' at character 5"),
        ("u**exp(D_u)", "'exp(D_u)' at character 4"),
    ],
)
def test_a_rate_with_something_else_is_refused_with_its_place(text, right):
    with pytest.raises(UserError) as refused:
        expressions.parse(text, ("u", "v"), ("D_u",))
    assert right in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["lap", "d", "exp", "lambda", "1u", "_u", "u-v", "u v", "", "ü"])
def test_a_name_that_cannot_stand_in_an_equation_is_refused(name):
    with pytest.raises(UserError, match=re.escape(f"species {name!r}")):
        expressions.refuse_name(name, "species")


@pytest.mark.parametrize("text", ["-" * 1500 + "u", "+".join(["u"] * 500)])
def test_depth_is_refused_and_never_a_crash(text):
    with pytest.raises(UserError, match=r"nested more than 200 deep|cannot be read"):
        expressions.parse(text, ("u",))


def test_a_sum_of_150_terms_can_be_worked_with():
    text = " + ".join(["u*v"] * 150)
    tree = expressions.parse(text, ("u", "v"))
    u, v = random_fields(4, 4)
    assert_allclose(expressions.evaluate(tree, {"u": u, "v": v}, {}), 150 * u * v, rtol=1e-13)
    assert expressions.fields_in(tree, ("u", "v")) == {"u", "v"}
    assert expressions.reach(expressions.folded(tree, ("u", "v"), {})) == 0


@pytest.mark.parametrize(
    ("text", "cells"),
    [("u**2", 0), ("lap(u)", 1), ("u*lap(lap(u) + v)", 2), ("d(grad(u, lap(v)), x)", 3), ("d(u, x)", 1)],
)
def test_nested_stencils_reach_as_far_as_a_single_cell_shows(text, cells):
    tree = expressions.parse(text, ("u", "v"))
    assert expressions.reach(tree) == cells
    u, v = random_fields(11, 11)
    before = evaluate(text, u, v)
    u[5, 5] += 0.1
    v[5, 5] += 0.1
    rows, columns = np.nonzero(evaluate(text, u, v) != before)
    assert max(np.abs(rows - 5).max(), np.abs(columns - 5).max()) == cells


def test_functions_and_species_of_an_expression():
    tree = expressions.parse("a*d(u, x) + exp(b*lap(w))", ("u", "v", "w", "x"), ("a", "b"))
    assert expressions.functions_in(tree) == {"d", "exp", "lap"}
    assert expressions.fields_in(tree, ("u", "v", "w", "x")) == {"u", "w"}  # x is a direction there


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a + 2*b", 1.5),
        ("a**b", 0.5**0.5),
        ("-(a - b)/4", 0.0),
        ("exp(a)*2**3", 8 * np.exp(0.5)),
        ("tanh(-b)", -np.tanh(0.5)),
    ],
)
def test_parts_of_parameters_are_folded_to_their_number(text, value):
    parameters = {"a": 0.5, "b": 0.5}
    assert_allclose(expressions.number(expressions.parse(text, (), parameters), parameters), value, rtol=1e-15)
    node = expressions.folded(expressions.parse(f"({text})*u", ("u",), parameters), ("u",), parameters)
    u = np.linspace(0, 1, 5, dtype=np.float32)
    made = expressions.evaluate(node, {"u": u}, {})  # neither names nor functions are left
    assert made.dtype == np.float32
    assert_allclose(made, value * u, rtol=1e-6)


@pytest.mark.parametrize(
    "text", ["u/(a - b)", "log(-a)*u", "(-a)**0.5*u", "u + 1/0", "u + ((((9**9)**9)**9)**9)**9", "u**(1/(a - b))"]
)
def test_a_part_without_a_finite_value_is_refused(text):
    parameters = {"a": 0.5, "b": 0.5}
    with pytest.raises(
        UserError, match=r"is no finite number with these parameters|, which divides, is 0 with these parameters"
    ):
        expressions.folded(expressions.parse(text, ("u",), parameters), ("u",), parameters)


def test_an_exponent_that_parameters_make_too_high_is_refused():
    with pytest.raises(UserError, match="the exponent 'n' is 12; 9 is the highest"):
        expressions.folded(expressions.parse("u**n", ("u",), ("n",)), ("u",), {"n": 12})


@pytest.mark.parametrize("power", range(1, 10))
def test_whole_powers_are_products_from_the_left(power):
    u = np.random.default_rng(0).random(100, dtype=np.float32)
    expected = u
    for _ in range(power - 1):
        expected = expected * u
    for text in (f"u**{power}", f"u**{power}.0"):
        assert_array_equal(expressions.evaluate(expressions.parse(text, ("u",)), {"u": u}, {}), expected)


@pytest.mark.parametrize(
    ("term", "written"),
    [
        ("u*v", "u*v"),
        ("lap(u)", "lap(u)"),
        ("u-v", "(u-v)"),
        ("-u", "(-u)"),
        ("2*u", "(2*u)"),
        ("(u-v)*u", "(u-v)*u"),
        ("1/u", "(1/u)"),
    ],
)
def test_a_factor_keeps_its_meaning_behind_a_coefficient(term, written):
    assert expressions.factor(term, ("u", "v")) == written
    u, v = random_fields(4, 4)
    assert_allclose(evaluate(f"7*{written}", u, v), 7 * evaluate(term, u, v), rtol=1e-14)


def test_the_name_of_a_monomial():
    assert expressions.monomial_name({"u": 1, "v": 2, "w": 0}) == "u*v**2"
    assert expressions.monomial_name({"u": 0}) == "1"
