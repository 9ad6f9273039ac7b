"""Settings of a sweep: what is varied, where its trials are, which score models they need, what is refused."""

import itertools
import re

import pytest

from p2d.config import ScoreConfig, SweepConfig
from p2d.config.axes import Axis, axis, parse, settings_of
from p2d.config.sweep import DEFAULTS, score_name
from p2d.errors import UserError


def sweep(*param: str, **settings) -> SweepConfig:
    return SweepConfig(param=param, **settings)


def refused(*told: str):
    """The error line holds each of these."""
    return pytest.raises(UserError, match=".*".join(map(re.escape, told)))


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("flow.alpha=0.5,0.99", "flow.alpha", ("0.5", "0.99")),
        (" flow.alpha = 0.5 , 0.99 ", "flow.alpha", ("0.5", "0.99")),
        ("flow.alpha=0.5,,0.99,", "flow.alpha", ("0.5", "0.99")),
        ("flow.alpha=0.5,0.99,0.5", "flow.alpha", ("0.5", "0.99")),
        ("flow.alpha=0.5,0.50,5e-1", "flow.alpha", ("0.5",)),
        ("score.augment=true,True,FALSE", "score.augment", ("true", "FALSE")),
        ("flow.hidden=16,32x32,032x32", "flow.hidden", ("16", "32x32")),
        ("flow.sign=+,-", "flow.sign", ("+", "-")),
        ("data.snapshots=100", "data.snapshots", ("100",)),
    ],
)
def test_values_are_kept_in_the_order_given_each_once(text, key, values):
    assert axis(text) == Axis(key, values)


@pytest.mark.parametrize(
    ("text", "ends", "log"),
    [
        ("flow.learning_rate=1e-4..1e-2:log", ("1e-4", "1e-2"), True),
        ("flow.learning_rate=1e-4 .. 1e-2", ("1e-4", "1e-2"), False),
        ("flow.sym=0..0.3", ("0", "0.3"), False),
        ("flow.sym=-1..1", ("-1", "1"), False),
        ("flow.probes=1..8:log", ("1", "8"), True),
        ("flow.epochs=2..8", ("2", "8"), False),
        ("flow.radius=.5..2.", (".5", "2."), False),
    ],
)
def test_a_range_has_its_ends_and_its_scale(text, ends, log):
    assert axis(text) == Axis(text.partition("=")[0], ends, is_range=True, log=log)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("flow.alpha", "0.5", 0.5),
        ("flow.learning_rate", "1e-3", 1e-3),
        ("flow.observables", "64", 64),
        ("flow.epochs", "3", 3),
        ("flow.hidden", "32x16", (32, 16)),
        ("flow.hidden", "32", (32,)),
        ("flow.activation", "tanh", "tanh"),
        ("flow.sign", "-", "-"),
        ("score.alpha", "0.5x0.99", (0.5, 0.99)),
        ("score.augment", "False", False),
        ("score.augment", "true", True),
        ("data.snapshots", "12", 12),
    ],
)
def test_a_text_becomes_the_kind_of_its_setting(key, text, value):
    found = parse(key, text)
    assert found == value
    assert type(found) is type(value)


def test_settings_of_a_stage_are_those_of_its_keys_alone():
    point = {"flow.alpha": "0.9", "flow.hidden": "8x8", "score.epochs": "3", "data.snapshots": "50"}
    assert settings_of("flow", point) == {"alpha": 0.9, "hidden": (8, 8)}
    assert settings_of("score", point) == {"epochs": 3}
    assert settings_of("data", point) == {"snapshots": 50}


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("flow.hiden", "flow.hidden"),
        ("alpha", "flow.alpha"),
        (".alpha", "flow.alpha"),
        ("hidden", "flow.hidden"),
        ("hidden_channels", "score.channels"),
        ("score.hidden", "flow.hidden"),
        ("flow.warmup", "score.warmup"),
        ("flow.snapshots", "data.snapshots"),
        ("snapshots", "data.snapshots"),
        ("score.epoch", "score.epochs"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(key, near):
    with refused(f"there is no setting {key!r} (did you mean {near!r}?)", "flow.NAME, score.NAME and data.snapshots"):
        axis(f"{key}=1")


def test_a_setting_that_is_near_none_is_refused_without_a_suggestion():
    with refused("there is no setting 'qqq'; settings are"):
        axis("qqq=1")


@pytest.mark.parametrize("key", ["flow.objective", "data.workers", "data.dataset", "data.holdout"])
def test_the_objective_and_the_source_are_no_settings_to_vary(key):
    with refused(f"there is no setting {key!r}"):
        axis(f"{key}=1,2")


@pytest.mark.parametrize("text", ["flow.alpha=", "flow.alpha= , ", "flow.activation=,"])
def test_no_values_are_refused(text):
    with refused(text.partition("=")[0], "has no values to try"):
        axis(text)


@pytest.mark.parametrize(
    "text",
    [
        "flow.alpha",
        "=0.5",
        "",
        "flow.learning_rate=1e-4..1e-2:lin",
        "flow.learning_rate=1e-3:log",
        "flow.learning_rate=..1e-2",
        "flow.learning_rate=1e-4..",
        "flow.learning_rate=1e-4..1e-3..1e-2",
        "flow.hidden=16..64",
        "flow.activation=silu..tanh",
        "score.augment=false..true",
        "score.alpha=0.5..0.9",
    ],
)
def test_another_form_is_refused_with_one_that_is_right(text):
    with refused(f"param {text!r} is not understood", "KEY=VALUE,VALUE", "KEY=LOW..HIGH"):
        axis(text)


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        ("flow.alpha=0.5,high", "high", "float"),
        ("flow.observables=64.5", "64.5", "int"),
        ("flow.observables=8..1e3", "1e3", "int"),
        ("flow.epochs=None", "None", "int"),
        ("flow.hidden=32x", "32x", "int"),
        ("flow.hidden=32X16", "32X16", "int"),
        ("score.alpha=0.5xhigh", "0.5xhigh", "float"),
        ("score.augment=yes", "yes", "bool"),
        ("data.snapshots=all", "all", "int"),
        ("flow.learning_rate=1e-4..1e-2,1", "1e-2,1", "float"),
    ],
)
def test_a_value_of_another_kind_is_refused(text, value, kind):
    with refused(f"{text.partition('=')[0]} = {value!r} is not possible: it must be of kind {kind}"):
        axis(text)


@pytest.mark.parametrize("text", ["flow.sym=nan", "flow.sym=inf", "flow.sym=0..inf", "score.alpha=0.5xnan"])
def test_a_number_that_is_not_finite_is_refused(text):
    with refused(text.partition("=")[0], "it must be finite"):
        axis(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("flow.sym=1..0", "it must rise"),
        ("flow.sym=0.3..0.3", "it must rise"),
        ("flow.sym=0..1:log", "it must rise, from above 0"),
        ("flow.sym=-1..1:log", "it must rise, from above 0"),
    ],
)
def test_a_range_that_does_not_rise_is_refused(text, told):
    with pytest.raises(UserError, match=f"{re.escape(text)}' is no range: {told}$"):
        axis(text)


@pytest.mark.parametrize("objective", ["continuity", "stationarity", "training-free"])
def test_an_objective_has_axes_of_its_own_where_none_are_given(objective):
    config = sweep(objective=objective)
    assert {one.key: one.values for one in config.axes} == DEFAULTS[objective]
    assert config.varied == config.axes
    assert config.trials == len(config.points())


@pytest.mark.parametrize(
    ("param", "settings", "keys"),
    [
        (["flow.hidden=16,32"], {}, ["flow.hidden"]),
        (["flow.epochs=3"], {}, ["flow.alpha", "flow.sym", "flow.epochs"]),
        (["flow.sym=0.1"], {}, ["flow.alpha", "flow.sym"]),
        (["flow.alpha=0.9", "flow.sym=0.1"], {}, ["flow.alpha", "flow.sym"]),
        ([], {"alpha": (0.9,)}, ["flow.alpha"]),
        (["flow.epochs=3"], {"sym": (0.0, 0.1), "alpha": (0.9,)}, ["flow.alpha", "flow.sym", "flow.epochs"]),
        (["flow.learning_rate=1e-4..1e-2"], {"search": "random", "samples": 2}, ["flow.learning_rate"]),
        (["data.snapshots=100,200"], {"objective": "stationarity"}, ["data.snapshots"]),
    ],
)
def test_what_is_varied_or_asked_for_by_its_own_option_stands_in_for_the_default_axes(param, settings, keys):
    assert [one.key for one in sweep(*param, **settings).axes] == keys


def test_a_value_for_all_trials_is_kept_from_the_default_axes():
    config = sweep("flow.sym=0.2", "flow.epochs=3")
    assert config.trials == 4
    assert {config.flow(point).sym for point in config.points()} == {0.2}
    assert {config.flow(point).epochs for point in config.points()} == {3}
    assert [one.key for one in config.varied] == ["flow.alpha"]


def test_a_key_given_twice_is_refused():
    for again in (
        lambda: sweep("flow.hidden=16", "flow.hidden=32"),
        lambda: sweep("flow.alpha=0.5,0.8", alpha=(0.9,)),
    ):
        with refused("is given more than once; give all its values together"):
            again()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": ()}, "flow.alpha has no values to try"),
        ({"sym": ()}, "flow.sym has no values to try"),
        ({"alpha": (0.5, 1.2)}, "alpha = 1.2 is not a signal level"),
        ({"alpha": (float("nan"),)}, "nan is not a number"),
        ({"sym": (float("inf"),)}, "inf is not a number"),
        ({"sym": (-0.1,)}, "sym = -0.1 is not possible"),
        ({"objective": "stationarity", "alpha": (0.5,)}, "alpha is not for stationarity"),
        ({"objective": "stationarity", "sym": (0.1,)}, "sym is not for stationarity"),
        ({"objective": "training-free", "sym": (0.1,)}, "sym is not for training-free"),
        ({"objective": "stationarity", "score_per_alpha": True}, "score_per_alpha is not for stationarity"),
        ({"objective": "continuous"}, "did you mean 'continuity'"),
        ({"metric": "cosin"}, "did you mean 'cosine'"),
        ({"search": "gird"}, "did you mean 'grid'"),
        ({"scheduler": "aasha"}, "did you mean 'asha'"),
        ({"samples": 3}, "samples = 3 is for --search random or optuna"),
        ({"search": "random"}, "--search random needs their number"),
        ({"search": "optuna"}, "--search optuna needs their number"),
        ({"samples": -1}, "samples = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"max_concurrent": -1}, "max_concurrent = -1"),
    ],
)
def test_a_setting_that_is_not_possible_is_refused(settings, told):
    with refused(told):
        SweepConfig(**settings)


@pytest.mark.parametrize(
    ("text", "objective", "told"),
    [
        ("flow.observables=64,128", "continuity", "observables is not for continuity"),
        ("flow.kernel_radius=0,1", "continuity", "kernel_radius is not for continuity"),
        ("flow.sym=0,1", "training-free", "its own are alpha, probes, kernel_radius, sign"),
        ("flow.probes=1,2", "stationarity", "probes is not for stationarity"),
        ("score.epochs=1,2", "stationarity", "score.epochs is not for stationarity"),
        ("flow.alpha=0.5,1.2", "continuity", "alpha = 1.2 is not a signal level"),
        ("flow.activation=tanh,relu", "continuity", "activation = relu is not possible with continuity"),
        ("flow.activation=tnah", "continuity", "did you mean 'tanh'"),
        ("flow.epochs=0,4", "continuity", "epochs = 0"),
        ("flow.epochs=3", "training-free", "has nothing to train"),
        ("flow.hidden=0", "continuity", "hidden = (0,)"),
        ("score.optimizer=moon", "continuity", "did you mean 'muon'"),
        ("score.alpha=0.9x0.5", "continuity", "a range low high"),
        ("data.snapshots=1,100", "continuity", "data.snapshots = 1 is not possible: it must be 2 or above"),
        ("flow.learning_rate=1e-4..1e-2", "continuity", "is a range, and a grid takes values"),
    ],
)
def test_values_that_no_trial_could_have_are_refused_before_any_runs(text, objective, told):
    with refused(told):
        sweep(text, objective=objective)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_the_ends_of_a_range_must_be_possible(search):
    with refused("alpha = 1.5 is not a signal level"):
        sweep("flow.alpha=0.5..1.5", search=search, samples=2)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_what_score_models_are_trained_for_takes_values(search):
    for text, alone in (("score.learning_rate=1e-4..1e-2", False), ("flow.alpha=0.5..0.9", True)):
        with refused("is a range, and a setting that score models are trained for takes values"):
            sweep(text, search=search, samples=2, score_per_alpha=alone)


def test_a_grid_is_the_product_of_the_axes():
    config = sweep("flow.hidden=16,32x32", alpha=(0.5, 0.8, 0.5), sym=(0.0, 0.1))
    expected = set(itertools.product(("0.5", "0.8"), ("0", "0.1"), ("16", "32x32")))
    found = [(p["flow.alpha"], p["flow.sym"], p["flow.hidden"]) for p in config.points()]
    assert set(found) == expected
    assert len(found) == len(expected) == config.trials
    assert {config.flow(p).hidden for p in config.points()} == {(16,), (32, 32)}


def test_single_values_are_a_grid_of_one_point():
    config = sweep("flow.hidden=8", alpha=(0.5,), sym=(0.1,))
    assert config.points() == [{"flow.alpha": "0.5", "flow.sym": "0.1", "flow.hidden": "8"}]
    assert config.label(config.points()[0]) == "alpha=0.5 sym=0.1 hidden=8"


def test_a_flow_has_the_settings_of_its_point_and_the_objective():
    flow = sweep(objective="training-free").flow({"flow.alpha": "0.95", "flow.kernel_radius": "1", "score.epochs": "2"})
    assert (flow.objective, flow.alpha, flow.kernel_radius) == ("training-free", 0.95, 1.0)
    assert flow.epochs is None, "of the score model"


@pytest.mark.parametrize("samples", [1, 5, 8, 100])
def test_random_points_of_values_are_distinct_and_no_more_than_there_are(samples):
    config = sweep("flow.hidden=8,16", alpha=(0.5, 0.8), sym=(0.0, 0.1), search="random", samples=samples)
    points = config.points()
    assert len(points) == min(samples, 8) == config.trials
    assert len({tuple(p.items()) for p in points}) == len(points)
    grid = SweepConfig(alpha=config.alpha, sym=config.sym, param=config.param).points()
    assert all(p in grid for p in points)


RANGES = ("flow.learning_rate=1e-4..1e-2:log", "flow.sym=0..0.3", "flow.probes=1..40", "flow.hidden=8,16")


def test_random_points_of_ranges_lie_within_them_and_are_whole_where_the_setting_is():
    config = sweep(*RANGES, search="random", samples=200)
    flows = [config.flow(point) for point in config.points()]
    assert len({tuple(p.items()) for p in config.points()}) == 200
    assert all(1e-4 <= f.learning_rate <= 1e-2 and 0 <= f.sym <= 0.3 and 1 <= f.probes <= 40 for f in flows)
    assert {f.hidden for f in flows} == {(8,), (16,)}
    assert all(re.fullmatch(r"\d+", point["flow.probes"]) for point in config.points())
    # half of a logarithmic range lies below its geometric mean; 200 draws: within 4 standard deviations of 0.035
    assert abs(sum(f.learning_rate < 1e-3 for f in flows) / 200 - 0.5) < 0.14
    assert abs(sum(f.sym < 0.15 for f in flows) / 200 - 0.5) < 0.14


@pytest.mark.parametrize("param", [RANGES, ("flow.alpha=0.5,0.8,0.9,0.99", "flow.sym=0,0.1,0.2,0.3,0.4")])
def test_random_points_are_those_of_the_seed(param):
    first, again, other = (sweep(*param, search="random", samples=6, seed=seed).points() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_range_of_few_whole_numbers_gives_each_once():
    config = sweep("flow.probes=1..3", search="random", samples=10)
    assert sorted(p["flow.probes"] for p in config.points()) == ["1", "2", "3"]
    assert config.trials == 3


def test_rounding_does_not_leave_the_range():
    config = sweep("flow.alpha=0.99991..0.99999", search="random", samples=5)
    assert {p["flow.alpha"] for p in config.points()} <= {"0.99991", "0.99999"}
    assert axis("flow.learning_rate=1.2344e-3..1").rounded(1.23441e-3) == "1.2344e-3"
    assert axis("flow.learning_rate=1e-3..1").rounded(0.0123456) == "0.01235"


def test_optuna_has_as_many_trials_as_asked_for():
    assert sweep("flow.probes=1..3", search="optuna", samples=10).trials == 10


def test_a_label_names_what_varies_and_a_flow_setting_without_its_stage():
    config = sweep("flow.epochs=3", "flow.hidden=8,16x16", "score.epochs=1,2", "data.snapshots=50,100")
    point = {"flow.epochs": "3", "flow.hidden": "16x16", "score.epochs": "2", "data.snapshots": "50"}
    assert config.label(point) == "hidden=16x16 score.epochs=2 snapshots=50"


def test_labels_tell_all_trials_apart():
    config = sweep("flow.seed=0,1", "score.seed=0,1", "score.epochs=2,3", "flow.epochs=2,3")
    labels = {config.label(point) for point in config.points()}
    assert len(labels) == config.trials == 16


def test_all_trials_share_a_score_model_where_nothing_is_asked_of_it():
    for config in (SweepConfig(), sweep("flow.hidden=8,16"), sweep(objective="stationarity")):
        assert config.score_points() == {}
        assert {config.own_score(point) for point in config.points()} == {None}


def test_each_signal_level_has_a_score_model_of_its_own_and_no_more():
    config = SweepConfig(alpha=(0.5, 0.9), sym=(0.0, 0.1, 0.2), score_per_alpha=True)
    assert config.score_points() == {"alpha=0.5": {"flow.alpha": "0.5"}, "alpha=0.9": {"flow.alpha": "0.9"}}
    for point in config.points():
        assert config.own_score(point) == ScoreConfig(alpha=(float(point["flow.alpha"]),))


def test_the_level_that_all_trials_have_is_that_of_their_score_model():
    config = sweep("flow.hidden=8,16", score_per_alpha=True)
    ((name, point),) = config.score_points().items()
    level = config.flow(config.points()[0]).alpha
    assert (name, float(point["flow.alpha"])) == (f"alpha={level}", level)
    assert config.own_score(config.points()[0]) == config.own_score(point)


def test_each_value_of_a_score_setting_has_a_score_model():
    config = sweep("score.epochs=2,4", alpha=(0.5, 0.9))
    assert {name: config.own_score(point).epochs for name, point in config.score_points().items()} == {
        "epochs=2": 2,
        "epochs=4": 4,
    }
    assert config.trials == 4


def test_score_settings_and_levels_are_crossed():
    config = sweep("score.epochs=2,4", alpha=(0.5, 0.9), score_per_alpha=True)
    models = {name: config.own_score(point) for name, point in config.score_points().items()}
    assert {(m.epochs, m.alpha) for m in models.values()} == {(2, (0.5,)), (2, (0.9,)), (4, (0.5,)), (4, (0.9,))}
    for point in config.points():
        assert config.own_score(point) in models.values()


def test_score_models_are_those_that_random_points_need():
    config = SweepConfig(score_per_alpha=True, search="random", samples=2)
    assert {p["flow.alpha"] for p in config.score_points().values()} == {p["flow.alpha"] for p in config.points()}
    everything = SweepConfig(score_per_alpha=True, search="optuna", samples=2)
    assert len(everything.score_points()) == 4, "Optuna may propose any"


def test_levels_that_a_score_model_of_the_sweep_would_not_know_are_refused():
    with refused("alpha = 0.5 is not what its score model would be trained for, which is 0.7 to 0.95"):
        sweep("score.alpha=0.7x0.95", alpha=(0.5, 0.8))
    with refused("alpha = 0.2 is not what its score model would be trained for, which is 0.5 to 0.999"):
        sweep("score.epochs=2,4", alpha=(0.2,))
    with refused("score.alpha is not possible with --score-per-alpha"):
        sweep("score.alpha=0.8", score_per_alpha=True)
    assert sweep("score.alpha=0.2x0.95", alpha=(0.2, 0.95)).trials == 2
    assert sweep("score.epochs=2", alpha=(0.2,), score_per_alpha=True).trials == 1


def test_the_name_of_a_score_model_does_not_depend_on_the_order_of_its_settings():
    assert score_name({"score.epochs": "2", "flow.alpha": "0.5"}) == "alpha=0.5_epochs=2"
    assert score_name({"flow.alpha": "0.5", "score.epochs": "2"}) == "alpha=0.5_epochs=2"


@pytest.mark.parametrize(
    ("param", "settings", "passes"),
    [
        ((), {}, 8),
        (("flow.epochs=3",), {}, 3),
        (("flow.epochs=3,12,5",), {}, 12),
        (("flow.epochs=2..20",), {"search": "random", "samples": 3}, 20),
        ((), {"objective": "stationarity"}, 1),
        ((), {"objective": "training-free"}, 0),
    ],
)
def test_passes_are_the_most_that_a_trial_may_have(param, settings, passes):
    assert sweep(*param, **settings).passes == passes


@pytest.mark.parametrize("text", ["flow.hidden=16,32x8", "flow.learning_rate=1e-4..1e-2:log", "data.snapshots=64,0"])
def test_an_axis_tells_itself_as_it_was_given(text):
    one = axis(text)
    assert f"{one.key}={one.told}" == text


def test_all_snapshots_can_be_the_end_of_a_learning_curve():
    points = SweepConfig(objective="stationarity", param=("data.snapshots=64,0",)).points()
    assert [point["data.snapshots"] for point in points] == ["64", "0"]
