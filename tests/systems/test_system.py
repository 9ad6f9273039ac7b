"""Systems: what is read, what is refused and how it is told, presets, labels, forms, rest states, the plain rate."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.testing import assert_close

from p2d.errors import UserError
from p2d.fields import Grid, Species
from p2d.systems import reading
from p2d.systems.reading import load_system
from p2d.systems.system import Run, Start, System

from .plain import GRAY_SCOTT, PRESETS, SYSTEMS, WAVES, random_states

SHAPES = [(16, 16), (12, 20), (7, 1)]
BRUSSELATOR = """
name = "own"
source = "nobody"
[rates]
x = "D_x*lap(x) + a - (b + 1)*x + x**2*y"
y = "D_y*lap(y) + b*x - x**2*y"
[parameters]
D_x = 1.0
D_y = 8
a = 4.5
b = 7.0
[limits]
x = [0, inf]
[units]
y = "mol/l"
[start]
rest = { x = "a", y = "b/a" }
noise = { x = 0.1 }
[run]
dt = 0.005
[presets.turbulence]
b = 3.0
dt = 0.01
moves = true
[presets.stripes]
b = 6.5
moves = false
"""


def own(tmp_path, *changes):
    """The system of the text above, with parts of it replaced."""
    text = BRUSSELATOR
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "own.toml"
    file.write_text(text)
    return load_system(file)


# Gray-Scott, of the catalogue


def reaction(u, v, F, k):
    return np.stack([-u * v**2 + F * (1 - u), u * v**2 - (F + k) * v], axis=-3)


@pytest.mark.parametrize("name", PRESETS)
def test_full_u_without_v_is_a_fixed_point(name):
    state = np.stack([np.ones((6, 9)), np.zeros((6, 9))])
    assert_array_equal(GRAY_SCOTT.at(name).rate(state), np.zeros_like(state))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rate_of_gray_scott_is_the_formula(shape):
    states = random_states(3, 2, shape).astype(float)
    u, v = states[:, 0], states[:, 1]
    lap = Grid(shape).laplacian(states) * np.array([0.16, 0.08])[:, None, None]
    # float64: the same terms in another order
    assert_allclose(WAVES.rate(states), lap + reaction(u, v, 0.018, 0.049), rtol=0, atol=1e-15)
    # periodic diffusion moves matter and makes none
    mean = reaction(u, v, 0.018, 0.049).mean((-2, -1))
    assert_allclose(WAVES.rate(states).mean((-2, -1)), mean, rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_uniform_state_follows_the_reaction_alone(shape):
    state = np.broadcast_to(np.array([0.4, 0.3])[:, None, None], (2, *shape))
    expected = reaction(np.full(shape, 0.4), np.full(shape, 0.3), 0.018, 0.049)
    assert_allclose(WAVES.rate(state), expected, rtol=0, atol=1e-16)  # the Laplacian of a constant is exactly 0 here


@pytest.mark.parametrize("shape", SHAPES)
def test_shifts_and_quarter_turns_commute_with_the_rate(shape):
    states = random_states(3, 2, shape).astype(float)
    shifted = np.roll(states, (3, -5), axis=(-2, -1))
    # the same sums in the same order, in other places: equal to the last bit
    assert_array_equal(WAVES.rate(shifted), np.roll(WAVES.rate(states), (3, -5), axis=(-2, -1)))
    for turns in (1, 2, 3):
        turned = np.rot90(states, turns, axes=(-2, -1))
        # the four neighbours are added in another order: float64 rounding of numbers up to 4
        assert_allclose(WAVES.rate(turned), np.rot90(WAVES.rate(states), turns, axes=(-2, -1)), rtol=0, atol=1e-15)


# 4 (F + k)^2 <= F, by hand from the table of presets: nearest to it of the others are stripes and maze.
WITH_A_PATTERNLESS_STATE = ("waves", "spirals", "holes", "chaos", "bubbles", "u_skate")


def fixed_point(system, branch):
    """(u, v) with v > 0 where the reaction stands still: u v = F + k and u (1 - u) = (F + k)^2 / F."""
    F, k = system.parameters["F"], system.parameters["k"]
    u = (1 + branch * np.sqrt(1 - 4 * (F + k) ** 2 / F)) / 2
    return np.array([u, (F + k) / u])


def test_six_presets_have_uniform_fixed_points_with_v():
    values = {name: GRAY_SCOTT.at(name).parameters for name in PRESETS}
    names = tuple(name for name, p in values.items() if 4 * (p["F"] + p["k"]) ** 2 <= p["F"])
    assert names == WITH_A_PATTERNLESS_STATE


@pytest.mark.parametrize("name", WITH_A_PATTERNLESS_STATE)
@pytest.mark.parametrize("branch", [1, -1])
def test_the_rate_vanishes_at_the_uniform_fixed_points(name, branch):
    system = GRAY_SCOTT.at(name)
    state = np.broadcast_to(fixed_point(system, branch)[:, None, None], (1, 2, 6, 9))
    # float64: terms below 0.1, each rounded by less than 1e-17, and the fixed point itself by 1e-16
    assert_allclose(system.rate(state), np.zeros_like(state), rtol=0, atol=1e-16)


def test_the_terms_of_gray_scott():
    terms = GRAY_SCOTT.at("chaos").terms
    assert terms["u"] == {"lap(u)": 0.10, "u*v**2": -1.0, "1": 0.026, "u": -0.026}
    assert terms["v"] == {"lap(v)": 0.05, "u*v**2": 1.0, "v": -(0.026 + 0.051)}


def test_a_preset_sets_its_parameters():
    maze = GRAY_SCOTT.at("maze")
    assert maze.parameters == {"D_u": 0.16, "D_v": 0.08, "F": 0.029, "k": 0.057}
    assert (maze.run, maze.moves, maze.preset) == (Run(1.0, 10_000), False, "maze")


@pytest.mark.parametrize(
    ("preset", "parameters", "label"),
    [
        *((name, {}, name) for name in PRESETS),
        ("", {"F": 0.029, "k": 0.057}, "maze"),
        ("waves", {"F": 0.02}, "F0.02_k0.049"),
        ("", {"F": 1e-5, "k": 0.05}, "F1e-05_k0.05"),
        ("", {"D_u": 0.2, "D_v": 0.1, "F": 0.014, "k": 0.05}, "F0.014_k0.05_Du0.2_Dv0.1"),
        ("chaos", {"F": 0.029, "k": 0.057}, "F0.029_k0.057_Du0.1_Dv0.05"),
    ],
)
def test_labels_of_gray_scott_are_those_of_earlier_datasets(preset, parameters, label):
    system = GRAY_SCOTT.at(preset, **parameters)
    assert system.label == label
    assert System.from_dict(system.to_dict()).label == label


def test_a_step_that_is_not_the_usual_one_stands_in_the_label():
    assert System("gray_scott", WAVES.rates, WAVES.parameters, preset="waves", run=Run(0.5)).label == (
        "F0.018_k0.049_dt0.5"
    )


@pytest.mark.parametrize(("wrong", "right"), [("wavs", "waves"), ("spiral", "spirals"), ("u-skate", "u_skate")])
def test_an_unknown_preset_names_the_nearest(wrong, right):
    with pytest.raises(UserError, match=f"{wrong!r}.*did you mean {right!r}"):
        GRAY_SCOTT.at(wrong)


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(UserError, match=r"gray_scott has no parameter 'Du' .did you mean 'D_u'.*known: D_u, D_v, F, k"):
        GRAY_SCOTT.at(Du=0.1)


# One's own system, of a file


def test_a_file_is_read(tmp_path):
    system = own(tmp_path)
    assert system.species == ("x", "y")
    assert system.parameters == {"D_x": 1.0, "D_y": 8, "a": 4.5, "b": 7.0}
    assert system.limits == {"x": (0.0, np.inf)}
    assert system.start == Start({"x": "a", "y": "b/a"}, [], {"x": 0.1})
    assert (system.run, system.source, system.moves) == (Run(0.005), "nobody", None)
    assert_allclose(system.amounts("rest"), [4.5, 7 / 4.5], rtol=1e-15)
    assert_allclose(system.amounts("noise"), [0.1, 0.0])
    x, y = state = random_states(1, 2, (8, 8)).astype(float)[0]
    lap = Grid((8, 8)).laplacian
    expected = np.stack([lap(x) + 4.5 - 8 * x + x * x * y, 8 * lap(y) + 7 * x - x * x * y])
    assert_allclose(system.rate(state), expected, rtol=0, atol=1e-14)


def test_presets_may_set_the_step_and_chains_begin_from_what_is_usual(tmp_path):
    system = own(tmp_path)
    turbulence = system.at("turbulence")
    assert (turbulence.run.dt, turbulence.parameters["b"], turbulence.moves) == (0.01, 3.0, True)
    assert turbulence.label == "own_turbulence"
    assert turbulence.at(a=4.0).label == "own_b3_a4"
    assert system.at(a=4.0).at("stripes") == system.at("stripes")
    assert system.at(a=4.0).label == "own_b7_a4"
    assert system.at(b=6.5).label == "own_stripes"
    assert system.at(a=4.0).at(b=6.5).label == "own_b6.5_a4"
    assert system.at() is system


def test_systems_of_no_preset_are_told_apart():
    plain = System("mine", {"u": "a*lap(u) - b*u"}, {"a": 1.0, "b": 2.0})
    assert [plain.label, plain.at(a=3).label, plain.at(a=3, b=0.5).label] == ["mine", "mine_a3", "mine_a3_b0.5"]
    assert System.from_dict(plain.at(a=3).to_dict()).label == "mine_a3"


REFUSED = [
    ('x = "D_x*lap(x)', "x = D_x*lap(x)", r"own.toml is no TOML: .*\(at line 5, "),
    ("D_x*lap(x) + a", "D_z*lap(x) + a", "rate of x: unknown name 'D_z' .did you mean 'D_.'.. at character 1 of"),
    ("D_x*lap(x) + a", "D_x*lap(x) + u", "rate of x: unknown name 'u' at character 14"),
    ("D_x*lap(x) + a", "D_x*lap(x) + )", "rate of x: .*cannot be read at character 14"),
    ("D_x*lap(x) + a", "open('x').read() + a", "rate of x: .* at character 1 of .* is not understood"),
    ("D_x*lap(x) + a", "x/(a - 4.5) + a", "rate of x: 'a - 4.5', which divides, is 0 with these parameters"),
    ('y = "D_y*lap(y) + b*x - x**2*y"', "", "rate of x: unknown name 'y'"),
    ('y = "D_y*lap(y) + b*x - x**2*y"', "y = 3", "the rate of y is 3; write it as text, in quotes"),
    ('y = "mol/l"', 'z = "mol/l"', r"unknown name 'z' in \[units\].*known: x, y"),
    ('y = "mol/l"', "y = 3", "unit of y is 3; it must be text"),
    ("x = [0, inf]", "w = [0, 1]", r"unknown name 'w' in \[limits\]"),
    ("x = [0, inf]", "x = [1, 0]", r"limits of x are \(1, 0\); give \[lowest, highest\]"),
    ("x = [0, inf]", "x = ['a', 1]", "limits of x are "),
    ("x = [0, inf]", "x = [1]", "limits of x are "),
    ("x = [0, inf]", "x = [0, 1, 2]", "limits of x are "),
    ("x = [0, inf]", "x = 3", "limits of x are 3"),
    ('rest = { x = "a"', 'rest = { z = "a"', r"unknown name 'z' in \[start.rest\]"),
    ('rest = { x = "a"', 'rest = { x = "a*c"', "start.rest.x: unknown name 'c'"),
    ('rest = { x = "a"', 'rest = { x = "a/0"', "start.rest.x = 'a/0' is no finite number"),
    ("noise = { x = 0.1 }", "noise = { x = true }", "start.noise.x: True is no number"),
    ("noise = { x = 0.1 }", "blot = [{ x = 1 }, { q = 2 }]", r"unknown name 'q' in \[start.blot\]"),
    ("noise = { x = 0.1 }", "blot = 3", "start.blot is 3; it must be a table"),
    ("noise = { x = 0.1 }", "kind = 3", "start.kind is 3; it must be text"),
    ("noise = { x", "noises = { x", r"\[start\] may hold blot, kind, noise, rest, not"),
    ("a = 4.5", "a = 'much'", "parameter a = 'much' is no finite number"),
    ("a = 4.5", "a = nan", "parameter a = nan is no finite number"),
    ("a = 4.5", "a = true", "parameter a = True is no finite number"),
    ("a = 4.5", "", "rate of x: unknown name 'a'"),
    ("a = 4.5", "a = 4.5\nx = 1", "'x' is both a species and a parameter"),
    ("a = 4.5", "a = 4.5\nexp = 1", "parameter 'exp' has the name of a function"),
    ("a = 4.5", "a = 4.5\nsteps = 1", "parameter 'steps' has the name of a setting"),
    ("dt = 0.005", "dt = 'short'", "run.dt = 'short' is no finite number"),
    ("dt = 0.005", "dt = -1", "run.dt = -1 is not possible"),
    ("dt = 0.005", "spacing = 0", "run.spacing = 0 is not possible"),
    ("dt = 0.005", "step = 1", r"\[run\] may hold dt, spacing, steps, not"),
    ("b = 3.0", "c = 3.0", r"unknown name 'c' in \[presets.turbulence\]"),
    ("b = 3.0", "b = 'x'", "presets.turbulence.b = 'x' is no finite number"),
    ("moves = true", "moves = 1", "presets.turbulence.moves is 1; it must be true or false"),
    ("[units]", "[unit]", "unknown table 'unit' .did you mean 'units'"),
    ('name = "own"', "", "a system has no name; the file begins with name = ..."),
    ("[rates]", "[other]", "unknown table 'other'"),
    ("[parameters]", "[[parameters]]", "parameters is .*; it must be a table"),
]


@pytest.mark.parametrize(("old", "new", "message"), REFUSED)
def test_a_file_that_is_no_system_is_refused_in_one_line(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message) as refused:
        own(tmp_path, (old, new))
    assert str(refused.value).startswith(str(tmp_path / "own.toml"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({}, "there are no rates"),
        (None, "rates is None; it must be a table"),
        ({f"u{n}": "0" for n in range(9)}, "there are 9 species; 8 are the most"),
        ({"lap": "0"}, "species 'lap' has the name of a function; call it otherwise"),
        ({"1u": "0"}, "species '1u' cannot stand in an equation"),
    ],
)
def test_rates_that_are_no_systems_are_refused(rates, message):
    with pytest.raises(UserError, match=f"system 'mine': {message}"):
        System("mine", rates)


def test_a_system_without_rates_is_refused(tmp_path):
    file = tmp_path / "none.toml"
    file.write_text('name = "none"\n')
    with pytest.raises(UserError, match="system 'none' has no rates"):
        load_system(file)


def test_eight_species_are_taken():
    assert len(System("many", {f"u{n}": f"-u{n}" for n in range(8)}).species) == 8


@pytest.mark.parametrize(
    "text", ["__import__('os').system('touch {}')", "open('{}', 'w')", "(lambda: open('{}', 'w'))()"]
)
@pytest.mark.parametrize("where", ["rate", "amount"])
def test_nothing_is_ever_executed(tmp_path, text, where):
    effect = tmp_path / "executed"
    text = text.format(effect)
    with pytest.raises(UserError):
        System("mine", {"u": text if where == "rate" else "-u"}, start=Start({"u": text} if where == "amount" else {}))
    assert not effect.exists()


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(UserError, match=r"no system 'grey-scott' .did you mean 'gray_scott'.*path of its TOML file"):
        load_system("grey-scott")


def test_the_catalogue_holds_gray_scott():
    assert reading.is_in_catalogue("gray-scott") and reading.is_in_catalogue("gray_scott")
    assert not reading.is_in_catalogue("gray")
    assert reading.catalogue()["gray_scott"] == GRAY_SCOTT == System.load("gray-scott")


def test_a_file_that_is_changed_is_read_anew(tmp_path):
    assert own(tmp_path).parameters["b"] == 7.0
    assert own(tmp_path, ("b = 7.0", "b = 9.0")).parameters["b"] == 9.0


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"x\.toml cannot be read"):
        load_system(tmp_path / "x.toml")


# There and back

ODD = System(
    'a "quoted" name\\, café \x7f',
    {"u": "a*lap(u) + b", "v": "-v"},
    {"a": 1e-7, "b": -3},
    limits={"u": (-np.inf, 1.5), "v": (0.0, np.inf)},
    units={"u": "µmol/l"},
    start=Start({"u": "b/2"}, [{"u": 1.0, "v": "a"}, {"u": 2}], {"v": 1e-3}, "discs"),
    run=Run(0.25, 7, 1e-3),
    presets={"one two": {"a": 2.5, "moves": True, "steps": 5}, "b": {}},
    moves=False,
    source="line\nbreak\ttab",
)


@pytest.mark.parametrize(
    "system",
    [GRAY_SCOTT, WAVES, WAVES.at(F=0.02), GRAY_SCOTT.at("u_skate", D_u=0.2), ODD, ODD.at("one two"), *SYSTEMS.values()],
)
def test_a_system_is_read_as_it_is_saved(tmp_path, system):
    system.save(tmp_path / "saved.toml")
    assert System.load(tmp_path / "saved.toml") == system


@pytest.mark.parametrize("system", [WAVES, WAVES.at(F=0.02), ODD, *SYSTEMS.values()])
def test_a_system_is_read_as_it_is_in_a_card(system):
    import json
    from dataclasses import replace

    values = json.loads(json.dumps(system.to_dict(), allow_nan=False))
    assert System.from_dict(values) == replace(system, presets={})


@pytest.mark.parametrize("name", [*SYSTEMS, "gray_scott"])
def test_a_system_of_terms_has_the_same_terms_and_rate(name):
    system = (SYSTEMS | {"gray_scott": WAVES})[name]
    made = System.of_terms("made", system.terms, limits=system.limits)
    assert made.species == system.species
    assert made.terms == system.terms
    assert list(made.parameters.values()) == [c for rate in system.terms.values() for c in rate.values()]
    states = random_states(2, len(system.species), (6, 7), 0.5, 1.5).astype(float)
    # float64: sums of numbers up to 100 in another order
    assert_allclose(made.rate(states), system.rate(states), rtol=1e-12, atol=1e-12)


def test_a_system_of_terms_names_its_coefficients():
    made = System.of_terms("made", {"u": {"lap(u)": np.float32(0.5), "1": -1}, "v": {}})
    assert made.rates == {"u": "u_1*lap(u) + u_2", "v": "0"}
    assert made.parameters == {"u_1": 0.5, "u_2": -1.0}
    assert System.of_terms("made", {"u": {"u": 1}, "u_1": {"u": 2}}).parameters == {"u__1": 1.0, "u_1__1": 2.0}


# The plain rate


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("shape", [(6, 7), (1, 9)])
def test_numpy_and_torch_give_the_same_rate(name, shape):
    system = SYSTEMS[name]
    states = random_states(2, len(system.species), shape, 0.5, 1.5).astype(float)
    rate = system.rate(torch.from_numpy(states))
    # the same formula in float64; torch may fuse a multiplication with an addition, and has its own functions
    assert_close(rate, torch.from_numpy(system.rate(states)), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_float32_state_has_a_float32_rate(name):
    states = random_states(2, len(SYSTEMS[name].species), (6, 7), 0.5, 1.5)
    assert SYSTEMS[name].rate(states).dtype == np.float32
    assert SYSTEMS[name].rate(torch.from_numpy(states)).dtype == torch.float32


# What is at rest, and what ranges are

ROOTS = {
    "u**2 - 2": {},
    "(u - 3)*(1 + u**2)": {},
    "exp(u) - 2": {},
    "a - u": {"a": -7.5},
}


@pytest.mark.parametrize("rate", ROOTS)
def test_a_rest_state_that_is_not_said_is_a_root_of_the_rates(rate):
    system = System("mine", {"u": f"lap(u) + {rate}", "v": "2*u - v"}, ROOTS[rate])
    rest = system.amounts("rest")
    assert_allclose(system.rate(rest[:, None, None]), 0, atol=1e-11)
    assert_allclose(rest[1], 2 * rest[0], atol=1e-11)


def test_a_rest_state_is_within_the_limits():
    # roots at -1, 1 and 3: the limits hold one of them
    rate = "(u + 1)*(u - 1)*(u - 3)"
    for low, high, root in ((0.0, 2.0, 1.0), (2.0, np.inf, 3.0), (-5.0, 0.5, -1.0)):
        system = System("mine", {"u": rate}, limits={"u": (low, high)})
        assert_allclose(system.amounts("rest"), [root], atol=1e-10)


def test_without_a_root_the_rest_state_is_the_nearest_to_zero():
    assert_array_equal(System("mine", {"u": "1 + u**2"}, limits={"u": (0.5, 2.0)}).amounts("rest"), [0.5])
    assert_array_equal(System("mine", {"u": "1 + u**2"}).amounts("rest"), [0.0])


def test_a_whole_line_of_rest_states_is_no_obstacle():
    # what u loses v gains: any u = v is at rest, and the slope has no inverse
    rest = System("mine", {"u": "v - u", "v": "u - v"}).amounts("rest")
    assert_allclose(rest[0], rest[1], atol=1e-12)


def test_noise_that_is_not_said_is_a_hundredth():
    assert_allclose(System("mine", {"u": "5 - u"}).amounts("noise"), [0.05], rtol=1e-9)
    assert_allclose(System("mine", {"u": "0.5 - u"}).amounts("noise"), [0.01])


def test_species_are_described_by_their_limits_or_what_the_start_spans(tmp_path):
    assert GRAY_SCOTT.described() == (Species("u", "", 0.0, 1.0), Species("v", "", 0.0, 1.0))
    x, y = own(tmp_path).described()
    # ten times the noise around the rest state; y has none, and spans 1 from its rest
    assert (x.name, x.low, y.unit) == ("x", 0.0, "mol/l")
    assert_allclose([x.high, y.low, y.high], [5.5, 7 / 4.5, 7 / 4.5 + 1])


def test_blots_are_as_at_rest_where_nothing_else_is_said():
    assert_array_equal(GRAY_SCOTT.blots, [[0.5, 0.25]])
    assert_array_equal(ODD.blots, [[1.0, 1e-7], [2.0, 0.0]])


def test_diffusion_makes_a_wave_decay_as_it_should():
    wave = np.cos(2 * np.pi * np.arange(64) / 64)[None, None, None].repeat(4, axis=2)  # [1, 1, 4, 64]
    heat = System.of_terms("heat", {"u": {"lap(u)": 0.5}})
    rate = 0.5 * 4 * np.sin(np.pi / 64) ** 2  # of the 5-point Laplacian
    assert_allclose(heat.advance(wave, 40.0), np.exp(-40 * rate) * wave, atol=1e-3)
    assert_allclose(heat.advance(wave, 0.0), wave, atol=1e-7)
    with pytest.raises(UserError, match="time = -1"):
        heat.advance(wave, -1.0)
