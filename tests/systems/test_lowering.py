"""From text to arithmetic: what is worked out once, in how many passes, and with which numbers."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from p2d.systems.lowering import lower

from .plain import GRAY_SCOTT, SYSTEMS


def kinds(program):
    return [[op.kind for op in each.ops if op.kind not in ("load", "constant")] for each in program.passes]


def numbers(program, parameters, spacing=1.0, operator="5-point", dt=1.0):
    return program.values(parameters, spacing, operator, dt)


def test_gray_scott_is_one_pass_in_which_the_reaction_is_worked_out_once():
    program = lower(GRAY_SCOTT.rates, GRAY_SCOTT.parameters)
    assert (program.species, program.fields, len(program.passes)) == (2, 2, 1)
    # per species: 4 additions or subtractions and a product in the Laplacian, D times it; u v v once; the rest by hand
    assert sorted(kinds(program)[0]) == sorted(
        ["add"] * 3 * 2
        + ["mul", "sub"] * 2
        + ["mul"] * 2
        + ["mul"] * 2
        + ["sub", "sub", "mul", "add"]
        + ["add", "mul", "sub"]
    )
    assert program.operations == 21 + 4


def test_parts_of_parameters_are_rounded_once():
    parameters = {"F": 0.1, "k": 0.2}
    program = lower({"u": "(F + k)*u"}, parameters)
    assert_array_equal(numbers(program, parameters, dt=0.3), np.array([0.1 + 0.2, 0.3], np.float32))


@pytest.mark.parametrize(
    ("rate", "operator", "value"),
    [
        ("D*lap(u)", "5-point", 3.0 / 0.25),
        ("D*lap(u)", "9-point", 3.0 / 6 / 0.25),
        ("grad(u, u)*D", "5-point", 3.0 / 2 / 0.25),
        ("grad(u, u)*D", "9-point", 3.0 / 12 / 0.25),
        ("D*d(u, x)", "9-point", 3.0 / 2 / 0.5),
        ("D/lap(u)", "5-point", 3.0 * 0.25),
        ("2*lap(u)/D", "5-point", 2 / 3.0 / 0.25),
    ],
)
def test_the_spacing_is_folded_into_the_number_in_front(rate, operator, value):
    program = lower({"u": rate}, {"D": 3.0}, operator)
    assert np.float32(value) in numbers(program, {"D": 3.0}, 0.5, operator)


@pytest.mark.parametrize(
    ("rate", "passes", "fields"),
    [
        ("lap(u)", 1, 1),
        ("lap(u**3)", 2, 2),
        ("lap(lap(u))", 2, 2),
        ("lap(lap(lap(u)))", 3, 3),
        ("lap(u**2) + d(u**2, x) + grad(u**2, u)", 2, 2),
        ("lap(u**2) + lap(u**3)", 2, 3),
        ("lap(lap(u**2)) + lap(u*lap(u))", 3, 4),
    ],
)
def test_what_needs_neighbours_is_made_into_a_field_first(rate, passes, fields):
    program = lower({"u": rate}, {})
    assert (len(program.passes), program.fields) == (passes, fields)
    made = [number for each in program.passes[:-1] for number in each.results]
    assert sorted(made) == list(range(1, fields))
    # a pass reads species and what passes before it have made, its own cells but for neighbours of those
    known = {0}
    for each in program.passes:
        assert {op.arguments[0] for op in each.ops if op.kind == "load"} <= known
        known |= set(each.results)


@pytest.mark.parametrize("name", SYSTEMS)
def test_operations_stand_behind_what_they_are_made_of(name):
    for each in lower(SYSTEMS[name].rates, SYSTEMS[name].parameters).passes:
        assert len(set(each.ops)) == len(each.ops)  # equal ones are worked out once
        used = [[a for a in op.arguments if isinstance(a, int)] for op in each.ops]
        for place, op in enumerate(each.ops):
            assert op.kind in ("load", "constant") or all(a < place for a in used[place])
        counts = [0] * len(each.ops)
        for op, places in zip(each.ops, used, strict=True):
            for a in places if op.kind not in ("load", "constant") else ():
                counts[a] += 1
        for place in each.results.values():
            counts[place] += 1
        assert [each.uses()[place] for place in range(len(each.ops))] == counts


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("u**3", ["mul", "mul"]),
        ("u**-2", ["mul", "div"]),
        ("u**n", ["mul"]),
        ("u**p", ["power"]),
        ("u**0", []),
        ("u*z", ["mul"]),
        ("u**z", []),
        ("u*v**2", ["mul", "mul"]),
        ("u/v/v", ["mul", "div"]),
        ("2*u*3*v", ["mul", "mul"]),
        ("(u*v)**2", ["mul"] * 3),
        ("exp(n)*u", ["mul"]),
        ("tanh(u) + tanh(u)", ["call", "add"]),
        ("-u", ["neg"]),
        ("+u", []),
        ("d(u, x)", ["sub", "mul"]),
    ],
)
def test_powers_are_products_and_numbers_are_folded(rate, expected):
    program = lower({"u": rate, "v": "0"}, {"n": 2, "p": 0.3, "z": 0})
    assert sorted(kinds(program)[0]) == sorted(expected)


def test_a_single_row_has_no_neighbours_above_and_below():
    for operator in ("5-point", "9-point"):
        program = lower({"u": "lap(u) + grad(u, u) + d(u, y) + d(u, x)"}, {}, operator, flat=True)
        assert {op.arguments[1] for each in program.passes for op in each.ops if op.kind == "load"} == {0}
