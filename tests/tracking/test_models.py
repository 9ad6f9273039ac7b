"""Models as MLflow loads and serves them: what they predict, what their folders hold, and their registered names."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from p2d.errors import UserError
from p2d.fields import Grid
from p2d.flow.model import Flow
from p2d.tracking import models, served
from tests.discovery.test_result import across, discovery
from tests.evaluate.helpers import AFFINE, dataset_of, linear_field, patterns, quiet_score, write_flow, write_score

LINEAR = linear_field([0.1, -0.2], [[0.3, 0.0, 0.5, 0.0], [0.0, -0.4, 0.0, 1.0]])


@pytest.fixture(scope="module")
def made(snapshots, tmp_path_factory):
    """A score model, a flow and an equation of some snapshots, by kind."""
    folder = tmp_path_factory.mktemp("made")
    write_score(folder / "score", snapshots, quiet_score(snapshots.states()))
    write_flow(folder / "flow", snapshots, LINEAR)
    discovery().save(folder / "equation.json")
    return {"score": folder / "score", "flow": folder / "flow", "equation": folder / "equation.json"}


def loaded(path, dataset, folder):
    """The model that MLflow makes of a folder that is written for it."""
    models.write(folder, path, served.load(path), models.example_of(dataset), "m-1", "a run")
    return mlflow.pyfunc.load_model(str(folder))


@pytest.mark.parametrize("shape", [(24, 40), (16, 8)])
def test_a_flow_gives_its_velocity(made, snapshots, tmp_path, shape):
    x = patterns(11, *shape)
    velocity = loaded(made["flow"], snapshots, tmp_path / "model").predict(x)
    assert velocity.dtype == np.float32
    assert_allclose(velocity, Flow.load(made["flow"])(torch.from_numpy(x)).detach(), rtol=1e-5, atol=1e-6)


def test_an_equation_gives_its_rates(made, snapshots, tmp_path):
    x = patterns(3, 12, 20)
    rates = loaded(made["equation"], snapshots, tmp_path / "model").predict(x)
    assert_allclose(rates, discovery().system.rate(x.astype(np.float64)), rtol=1e-5, atol=1e-7)


def test_an_equation_across_conditions_takes_them_as_parameters(snapshots, tmp_path):
    found, x = across(), patterns(2, 8, 8)
    model = loaded(found.save(tmp_path / "equation.json"), snapshots, tmp_path / "model")
    [name] = found.conditions
    defaults = {one.name: one.default for one in model.metadata.signature.params.params}
    assert defaults == pytest.approx(found.middle)
    for value in (0.012, 0.05):
        expected = found.at(**{name: value}).rate(x.astype(np.float64))
        assert_allclose(model.predict(x, params={name: value}), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_a_score_model_denoises_and_gives_the_score(made, snapshots, tmp_path, alpha):
    """The network says nothing, so that it is exact for independent Gaussian cells of the data's mean and spread."""
    states, model = snapshots.states(), loaded(made["score"], snapshots, tmp_path / "model")
    seen = AFFINE["scale"] * states + AFFINE["shift"]  # its training coordinates
    mean = seen.mean(axis=(0, 2, 3)).reshape(2, 1, 1)
    variance = seen.var(axis=(0, 2, 3), ddof=1).reshape(2, 1, 1)
    noise = (1 - alpha) / alpha
    clean = mean + variance / (variance + noise) * (seen - mean)
    denoised = (clean - AFFINE["shift"]) / AFFINE["scale"]
    assert_allclose(model.predict(states, params={"alpha": alpha}), denoised, rtol=1e-4, atol=1e-5)
    score = -(seen - mean) / (variance + noise) * AFFINE["scale"]  # of the density of the values
    assert_allclose(model.predict(states, params={"alpha": alpha, "output": "score"}), score, rtol=1e-3, atol=1e-4)


def test_a_score_model_refuses_another_output_and_level(made):
    model = served.load(made["score"])
    with pytest.raises(UserError, match="output = 'noise' is not possible: denoised or score"):
        model.predict(patterns(1, 8, 8), {"output": "noise"})
    with pytest.raises(UserError, match=r"alpha = 1\.5 is not a signal level"):
        model.predict(patterns(1, 8, 8), {"alpha": 1.5})


def test_another_number_of_species_is_refused(made):
    with pytest.raises(UserError, match=r"shape \[1, 3, 8, 8\]; they must be \[-1, 2, -1, -1\]"):
        served.load(made["flow"]).predict(np.zeros((1, 3, 8, 8)))


def test_along_open_edges_rates_are_not_known(tmp_path):
    found = discovery(grid=Grid((12, 12), edges=("open", "periodic")))
    x = patterns(2, 10, 14)
    rates = served.load(found.save(tmp_path / "equation.json")).predict(x)
    assert np.isnan(rates[:, :, [0, -1]]).all() and np.isfinite(rates[:, :, 1:-1]).all()


def test_one_dimension_and_one_species_have_a_signature_of_their_own(tmp_path):
    states = patterns(6, 8, 32)[:, :1, :1]
    dataset = dataset_of(states, tmp_path / "lines", grid=Grid((1, 32)))
    found = discovery_of_one(dataset)
    model = loaded(found.save(tmp_path / "equation.json"), dataset, tmp_path / "model")
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 1, 1, -1)
    assert_allclose(model.predict(states), found.system.rate(states.astype(np.float64), Grid((1, 32))), atol=1e-6)


def discovery_of_one(dataset):
    terms = {"a": {"lap(a)": 0.5, "a": 1.0, "a**2": -1.0}}
    zero = {"a": dict.fromkeys(terms["a"], 0.0)}
    ends = {"a": {term: (value, value) for term, value in terms["a"].items()}}
    return discovery(
        terms=terms, errors=zero, intervals=ends, frequency=None, noise=(0.0,), grid=dataset.card.grid, simulable=None
    )


@pytest.mark.parametrize("kind", ["score", "flow", "equation"])
def test_a_folder_for_mlflow_holds_our_own_files_and_no_pickled_code(made, snapshots, tmp_path, kind):
    model = loaded(made[kind], snapshots, tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").rglob("*") if path.is_file()}
    own = {"equation.json"} if kind == "equation" else {"config.json", "model.safetensors", "history.json"}
    about = {"MLmodel", "requirements.txt", "python_env.yaml", "input_example.json", "serving_input_example.json"}
    assert files == own | about
    assert (model.loader_module, model.metadata.metadata["kind"]) == (models.LOADER, kind)
    example = model.input_example
    assert_allclose(example, snapshots.states(snapshots.living[:1])[..., :32, :32])
    assert model.predict(example).shape == (1, 2, 24, 32)


def test_what_is_required_is_on_an_index():
    wanted = dict(line.split("==") for line in models.requirements())
    assert set(wanted) == set(models.REQUIRED)
    assert not any("+" in version for version in wanted.values())


@pytest.mark.parametrize("kind", ["flow", "equation"])
def test_a_model_is_an_output_of_its_run_and_the_best_one_has_a_name(keeper, store, snapshots, made, kind):
    name = models.registered_name(kind, "a/b:c")
    assert name == f"p2d-{kind}-a-b-c"
    with keeper.child(f"learns {kind}", {}) as run:
        run.dataset(snapshots)
        for step, z_rms in enumerate((3.5, 1.5)):
            run.metrics({"z_rms": z_rms}, step)
        for _ in range(2):  # as a run that is continued
            run.model(f"{kind}-stripes", made[kind], snapshots, {"z_rms": 1.5, "verdict": "known"}, name)
    [output] = store.get_run(run.run_id).outputs.model_outputs
    entry = store.get_logged_model(output.model_id)
    assert (entry.name, entry.model_type, str(entry.status)) == (f"{kind}-stripes", kind, "READY")
    assert [(m.step, m.value) for m in store.get_metric_history(run.run_id, "z_rms")] == [(0, 3.5), (1, 1.5)]
    [metric] = entry.metrics
    told = (metric.key, metric.value, metric.dataset_name, metric.dataset_digest)
    assert told == ("z_rms", 1.5, snapshots.folder.name, snapshots.card.dataset_hash)
    version = store.get_model_version_by_alias(name, "best")
    assert (version.version, version.run_id, version.source) == (1, run.run_id, entry.artifact_location)
    x = patterns(2, 8, 12)
    for uri in (f"models:/{name}@best", f"models:/{output.model_id}"):
        assert_allclose(mlflow.pyfunc.load_model(uri).predict(x), served.load(made[kind]).predict(x))


def test_the_next_best_takes_over_the_alias(keeper, store, snapshots, made):
    for number in (1, 2):
        with keeper.child(f"sweep {number}", {}) as run:
            run.model("flow-best", made["flow"], snapshots, {}, "p2d-flow-best")
        version = store.get_model_version_by_alias("p2d-flow-best", "best")
        assert (version.version, version.run_id) == (number, run.run_id)


def test_a_model_that_was_removed_meanwhile_is_left_out(keeper, store, snapshots, tmp_path):
    with keeper.child("removed", {}) as run:
        run.model("gone", tmp_path / "gone", snapshots, {})
    assert not store.get_run(run.run_id).outputs.model_outputs


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["score", "flow", "equation"])
def test_mlflow_models_predict_works(made, snapshots, tmp_path, kind):
    loaded(made[kind], snapshots, tmp_path / "model")
    x = patterns(1, 8, 12)
    params = {"alpha": 0.7} if kind == "score" else {}
    request = {"inputs": x.tolist(), **({"params": params} if params else {})}
    (tmp_path / "in.json").write_text(json.dumps(request))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", str(tmp_path / "model")]
    command += ["-i", str(tmp_path / "in.json"), "-o", str(tmp_path / "out.json"), "--env-manager", "local"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made_of = np.array(json.loads(Path(tmp_path / "out.json").read_text())["predictions"])
    assert_allclose(made_of, served.load(made[kind]).predict(x, params), rtol=1e-5, atol=1e-6)
