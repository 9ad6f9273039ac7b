"""The files beside the job scripts are what Ray, KubeRay, Kubernetes and Slurm take."""

import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
JOBS = ROOT / "jobs"
README = (JOBS / "README.md").read_text()


def closed(required: str = "", optional: str = "", **kinds) -> dict:
    """The schema of a table that has these keys, some of them of these schemas, and no others."""
    keys = [*required.split(), *optional.split(), *kinds]
    return {
        "type": "object",
        "required": required.split(),
        "properties": {key: kinds.get(key, {}) for key in keys},
        "additionalProperties": False,
    }


def several(items: dict) -> dict:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, COUNT, TEXTS = {"type": "string"}, {"type": "integer", "minimum": 0}, {"additionalProperties": {"type": "string"}}
META = closed("", "labels", name=TEXT)
# As far as the files use them: ray.io/v1 of KubeRay 1.5, apps/v1 and v1 of Kubernetes.
CONTAINER = closed(
    "name image",
    "readinessProbe",
    command=several(TEXT),
    args=several(TEXT),
    env=several(closed(name=TEXT, value=TEXT)),
    ports=several(closed(containerPort=COUNT)),
    resources=closed("limits requests", limits=TEXTS, requests=TEXTS),
    volumeMounts=several(closed("mountPath name")),
)
VOLUME = closed(name=TEXT, persistentVolumeClaim=closed("claimName"))
POD = closed(
    "containers", restartPolicy={"enum": ["Never", "Always"]}, containers=several(CONTAINER), volumes=several(VOLUME)
)
TEMPLATE = closed("spec", metadata=META, spec=POD)
GROUP = closed(
    "groupName replicas minReplicas maxReplicas rayStartParams template",
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = closed(
    "headGroupSpec workerGroupSpecs",
    enableInTreeAutoscaling={"type": "boolean"},
    autoscalerOptions=closed(idleTimeoutSeconds=COUNT),
    authOptions=closed(mode={"enum": ["token", "disabled"]}),
    headGroupSpec=closed("rayStartParams template", rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs=several(GROUP),
)
SPECS = {
    "RayJob": closed(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes={"type": "boolean"},
        rayClusterSpec=CLUSTER,
    ),
    "PersistentVolumeClaim": closed("accessModes resources", resources=closed("requests")),
    "Deployment": closed("replicas selector template", "strategy", template=TEMPLATE),
    "Service": closed("selector ports", ports=several(closed(port=COUNT, targetPort=COUNT))),
}
VERSIONS = {"RayJob": "ray.io/v1", "PersistentVolumeClaim": "v1", "Deployment": "apps/v1", "Service": "v1"}


def parts() -> dict[str, dict]:
    """The parts of kuberay.yaml by kind."""
    return {part["kind"]: part for part in yaml.safe_load_all((JOBS / "kuberay.yaml").read_text())}


@pytest.mark.parametrize("kind", SPECS)
def test_kuberay_s_parts_are_as_their_schemas_say(kind):
    schema = closed(
        "apiVersion kind metadata spec", apiVersion={"const": VERSIONS[kind]}, metadata=META, spec=SPECS[kind]
    )
    jsonschema.validate(parts()[kind], schema)


def test_the_pods_of_a_rayjob_see_one_folder_and_one_mlflow():
    job, deployment, service = (parts()[kind]["spec"] for kind in ("RayJob", "Deployment", "Service"))
    cluster = job["rayClusterSpec"]
    # A sidecar submits to the head beside it: a head that comes back would have lost the job.
    assert cluster["headGroupSpec"]["template"]["spec"]["restartPolicy"] == "Never"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    out = re.search(r"--out (\S+)", job["entrypoint"])[1]
    name, port = parts()["Service"]["metadata"]["name"], service["ports"][0]["port"]
    for pod in pods:
        (container,) = pod["containers"]
        assert out.startswith(f"{container['volumeMounts'][0]['mountPath']}/")
        assert container["volumeMounts"][0]["name"] == pod["volumes"][0]["name"]
        assert {"name": "MLFLOW_TRACKING_URI", "value": f"http://{name}:{port}"} in container["env"]
    gpus = [pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods]
    assert gpus == [None, None, "1"]
    assert service["selector"] == deployment["template"]["metadata"]["labels"] == deployment["selector"]["matchLabels"]
    claim = deployment["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    assert (
        claim == parts()["PersistentVolumeClaim"]["metadata"]["name"] != pods[0]["volumes"][0]["persistentVolumeClaim"]
    )
    assert f"--allowed-hosts={name}:{port},localhost:{port}" in deployment["template"]["spec"]["containers"][0]["args"]


def test_the_launcher_takes_the_cluster_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((JOBS / "cluster.yaml").read_text())
    validate_config(prepare_config(config))
    assert config["max_workers"] == len(config["provider"]["worker_ips"])
    (start,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    # Without the first the workers are never started, and what the dashboard takes as jobs is run.
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start and "--dashboard-host=127.0.0.1" in start


def test_all_start_ray_with_a_token():
    starts = re.findall(r".*ray start .*", "".join((JOBS / n).read_text() for n in ("README.md", "cluster.yaml")))
    assert len(starts) == 4
    for section in re.findall(r"(?:    .*\n)+", README):
        if "ray start" in section:
            assert "RAY_AUTH_MODE=token" in section
    assert (JOBS / "cluster.yaml").read_text().count("RAY_AUTH_MODE=token ray start") == 2
    assert "RAY_AUTH_MODE=token" in (JOBS / "slurm.sh").read_text()


def test_slurm_s_script_is_a_script():
    done = subprocess.run(["bash", "-n", JOBS / "slurm.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refused = subprocess.run(["bash", JOBS / "slurm.sh"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("which job?")
