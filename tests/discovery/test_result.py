"""A discovery as it prints, draws, saves and loads itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import p2d
from p2d.discovery.result import Discovery
from p2d.discovery.verdict import Claims
from p2d.errors import UserError
from p2d.fields import Grid, Mask
from p2d.snapshots.doubts import Doubt
from p2d.systems.reading import load_system
from p2d.systems.system import System

WAVES = load_system("gray_scott").at("waves")

MASKED = Grid((4, 6), 0.5, ("mirror", "open"), "um", Mask.of(np.arange(24).reshape(4, 6) > 4))


def discovery(**others) -> Discovery:
    """The waves as they might be found."""
    values = {
        "terms": WAVES.terms,
        "errors": {s: {t: 0.01 * abs(c) for t, c in terms.items()} for s, terms in WAVES.terms.items()},
        "intervals": {s: {t: (0.9 * c, 1.1 * c) for t, c in terms.items()} for s, terms in WAVES.terms.items()},
        "frequency": {s: dict.fromkeys(terms, 1.0) for s, terms in WAVES.terms.items()},
        "gap": 123.0,
        "spectrum": (1.0, 123.0),
        "misfit": 0.25,
        "z_max": 1.5,
        "unbalanced": 0.5,
        "step": (1.0, 0.125),
        "noise": (0.01, 0.0),
        "smoothing": 1.5,
        "rounded": False,
        "snapshots": 96,
        "claims": Claims(3e-4, 1.0, 1.0, 0.4),
        "unit_of_time": "reaction rate 1",
        "dropped": 3,
        "seconds": {"passes": 1.5, "fit": 0.5},
    }
    return Discovery(**{**values, **others})


def test_it_is_a_system_whose_parameters_are_the_coefficients():
    system, states = discovery().system, np.random.default_rng(0).random((2, 2, 8, 12))
    assert isinstance(system, System)
    assert system.terms == WAVES.terms
    assert sorted(system.parameters.values()) == sorted(c for terms in WAVES.terms.values() for c in terms.values())
    # float64 sums in another order
    np.testing.assert_allclose(system.rate(states), WAVES.rate(states), rtol=0, atol=1e-15)


def test_the_system_it_can_be_simulated_as_is_kept_with_it(tmp_path):
    states = np.random.default_rng(0).random((2, 2, 8, 8))
    simulable = discovery().simulated_as(WAVES, states, Grid((8, 8)), "waves_equation")
    found = discovery(simulable=simulable)
    assert found.system is simulable and simulable.terms == WAVES.terms
    assert (simulable.blots == WAVES.blots).all() and (simulable.amounts("rest") == WAVES.amounts("rest")).all()
    assert (simulable.limits, simulable.run) == (WAVES.limits, WAVES.run)
    found.save(tmp_path)
    assert Discovery.load(tmp_path) == found and Discovery.load(tmp_path).system == simulable


def test_it_prints_as_the_equation_with_errors_and_its_verdict():
    assert str(discovery()).splitlines() == [
        "du/dt = 0.160(2) lap(u) - 1.00(1) u v^2 + 0.0180(2) (1 - u)",
        "dv/dt = 0.0800(8) lap(v) + 1.00(1) u v^2 - 0.0670(7) v",
        f"{discovery().claims}, 96 snapshots; unit of time: reaction rate 1",
        "corrected for white noise of 0.0100 in u and 0.0000 in v",
        "the snapshots show the explicit steps that made them: 1.0(1) units of time each",
    ]
    assert len(str(discovery(noise=(0.0, 0.0), step=None)).splitlines()) == 3
    other = str(discovery(noise=(0.0, 0.0), step=None, operator="spectral", directed=False)).splitlines()[3:]
    assert other == [
        "the direction of time is not known, as no term that damps short waves is kept",
        "Laplacians are spectral",
    ]


def test_its_repr_is_one_short_line():
    assert repr(discovery()).startswith("<Discovery du/dt = 0.160(2) lap(u)")
    assert repr(discovery()).endswith(": velocity and terms known>")
    assert len(repr(discovery())) < 200 and "\n" not in repr(discovery())


def test_notebooks_show_the_equation_and_what_it_is_worth():
    html = discovery(statement="too few <snapshots>")._repr_html_()
    assert html.startswith("<pre>du/dt = 0.160(2) lap(u)") and html.endswith("</p>")
    assert html.count("lap(") == 2, "each equation once"
    assert "<p>too few &lt;snapshots&gt;, 96 snapshots" in html and "<br>corrected for white noise" in html
    assert discovery()._repr_latex_().startswith("$$") and r"{\nabla^2 u}" in discovery()._repr_latex_()


@pytest.mark.parametrize("name", ["", "mine.json"])
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"frequency": None, "spectrum": (), "step": None, "z_max": None},
        {"grid": MASKED, "operator": "9-point", "directed": False},
        {"claims": Claims(doubts=(Doubt("rounded", "it is", {"step": 0.1}),)), "statement": "static: so"},
    ],
)
def test_it_is_saved_and_loaded_whole(tmp_path, name, others):
    made = discovery(**others)
    file = made.save(tmp_path / name, settings={"library": "cubic"})
    assert file == tmp_path / (name or "equation.json")
    for path in (file, tmp_path / name):
        loaded = p2d.Discovery.load(path)
        assert loaded == made
        assert (loaded.dropped, loaded.seconds) == (made.dropped, made.seconds)
    assert json.loads(file.read_text())["settings"] == {"library": "cubic"}


def test_the_keys_of_its_json_are_those_of_files_that_there_are():
    values = json.loads(json.dumps(discovery().to_dict()))
    assert values["equation"] == WAVES.terms and values["interval"]["v"]["v"] == [0.9 * -0.067, 1.1 * -0.067]
    assert set(values) == {
        *("equation", "error", "interval", "frequency", "gap", "spectrum", "misfit", "z_max", "unbalanced", "step"),
        *("snapshots", "verdict", "unit_of_time", "parameters", "noise", "smoothing", "rounded"),
        *("text", "sympy", "latex", "py_pde", "dropped", "seconds", "grid", "operator", "directed"),
        *(
            "claims",
            "statement",
            "dynamics_noise",
            "dynamics_noise_errors",
            "conditions",
            "timed",
            "time_unit",
            "value_units",
        ),
    }
    assert values["parameters"] == pytest.approx(WAVES.parameters)
    assert values["text"] == "\n".join(str(discovery()).splitlines()[:2])
    for later in ("rounded", "dropped", "seconds", "grid", "operator", "directed"):  # that older files lack
        del values[later]
    assert Discovery.from_dict(values) == discovery()
    del values["claims"], values["statement"]  # then it is known in words
    values["verdict"] = "dynamics identified (gap 1e+02)"
    older = Discovery.from_dict(values)
    assert older.verdict == "dynamics identified (gap 1e+02)" and not older.claims.velocity_known


def across(**others) -> Discovery:
    """An equation that F turns, as it might be found at three values of it."""
    terms = {"u": {"lap(u)": 0.16, "F": 1.0, "F*u": -1.0}, "v": {"lap(v)": 0.08, "v": -0.05}}
    tables = {
        "errors": {s: dict.fromkeys(own, 0.01) for s, own in terms.items()},
        "intervals": {s: dict.fromkeys(own, (0.0, 1.0)) for s, own in terms.items()},
    }
    conditions = {"F": (0.014, 0.018, 0.022)}
    return discovery(
        terms=terms, frequency=None, conditions=conditions, noise=(0.0, 0.0), step=None, **tables, **others
    )


def test_an_equation_across_conditions_says_what_they_turn_and_is_a_system_at_any():
    found, x = across(), np.random.default_rng(0).random((2, 8, 8))
    lines = str(found).splitlines()
    assert lines[0] == "du/dt = 0.16(1) lap(u) + 1.00(1) F - 1.00(1) F u"
    assert lines[3] == (
        "F turns the constant in du/dt, u in du/dt; no other term is seen to depend on it (fitted at 0.014, 0.018 and "
        "0.022)"
    )
    assert found.system.parameters["F"] == pytest.approx(0.018)
    rates = {"u": "0.16*lap(u) + 0.05*(1 - u)", "v": "0.08*lap(v) - 0.05*v"}
    np.testing.assert_allclose(found.at(F=0.05).rate(x), System("s", rates).rate(x), atol=1e-15)
    assert found.beyond({"F": 0.02}) == ""
    assert found.beyond({"F": 0.05}).startswith("F = 0.05 lies outside of 0.014 to 0.022")
    with pytest.raises(UserError, match=r"no condition 'f0' \(did you mean|no condition 'G'; known: F"):
        found.at(G=0.02)
    with pytest.raises(UserError, match="it was fitted across none"):
        discovery().at(F=0.02)


def test_an_equation_across_conditions_is_kept_in_all_its_forms(tmp_path):
    found = across()
    found.save(tmp_path)
    assert Discovery.load(tmp_path) == found
    values = found.to_dict()
    assert values["conditions"] == {"F": [0.014, 0.018, 0.022]} and "F*u" in values["sympy"]["u"].replace("u*F", "F*u")
    assert "F u" in found._repr_latex_() and "laplace(u)" in values["py_pde"]["u"]
    states = np.random.default_rng(0).random((2, 2, 8, 8))
    assert found.simulated_as(WAVES, states, Grid((8, 8)), "own").parameters["F"] == pytest.approx(0.018)


def test_two_values_of_a_condition_are_said_to_tell_no_straight_line():
    told = str(replace(across(), conditions={"F": (0.014, 0.022)}))
    assert "from two values of F it cannot be told whether terms follow it along a straight line" in told
    nothing = replace(across(), conditions={"T": (20.0, 30.0, 40.0)}, terms={"u": {"lap(u)": 1.0}, "v": {}})
    assert "T turns nothing that is seen (fitted at 20, 30 and 40)" in str(nothing)


def test_without_gray_scott_s_terms_there_are_no_parameters_of_it():
    other = discovery(terms={"u": {"v": 1.0}, "v": {}}, noise=(0.0, 0.0))
    assert other.parameters == {} and "parameters" not in other.to_dict()


def test_what_is_no_equation_is_refused_with_its_file(tmp_path):
    with pytest.raises(p2d.UserError, match=f"no equation {tmp_path}/equation.json"):
        Discovery.load(tmp_path)
    (tmp_path / "equation.json").write_text('{"found": {"gap": 1}}')
    with pytest.raises(p2d.UserError, match="holds no equation that can be read"):
        Discovery.load(tmp_path)


def points(axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() in ("o", "x")]


def test_a_plot_shows_coefficients_over_the_true_ones_and_their_intervals():
    axes = Figure().subplots()
    assert discovery().plot(axes) is axes
    assert points(axes) == [1.0] * 7
    assert axes.get_title() == "coefficient / itself, 90 % intervals"
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["du/dt: lap(u)", "du/dt: u v^2"]
    lows, highs = zip(*(bar.get_segments()[0][:, 0] for bar in axes.collections), strict=True)
    np.testing.assert_allclose(lows, 0.9)
    np.testing.assert_allclose(highs, 1.1)


def test_a_term_that_is_not_in_the_truth_lies_at_its_own_value_and_is_said_to_be_absent():
    terms = {"u": {**WAVES.terms["u"], "v": 0.5}, "v": WAVES.terms["v"]}
    intervals = {**discovery().intervals, "u": {**discovery().intervals["u"], "v": (0.4, 0.6)}}
    axes = replace(discovery(), terms=terms, intervals=intervals).plot(Figure().subplots(), WAVES)
    assert points(axes) == pytest.approx([1, 1, 1, 1, 0.5, 1, 1, 1])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[4] == "du/dt: v (absent)" and "absent" not in "".join(labels[:4] + labels[5:])
    assert axes.get_title().startswith("coefficient / true one")
