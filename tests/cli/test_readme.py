"""What the README shows in Python runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

from p2d.flow.velocity import LocalField
from p2d.score.model import ScoreModel
from p2d.training.checkpoint import write_checkpoint

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def blocks(heading):
    """The indented blocks of the section under a heading, unindented."""
    section = README.split(f"### {heading}\n")[1].split("\n##")[0]
    found = re.findall(r"(?:^    .*\n)+", section, flags=re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def models(folder):
    """A flow and a score model where the README looks for them."""
    data = {"affine": {"scale": 2.0, "shift": -1.0}, "grid": [128, 128]}
    field = LocalField((4,))
    flow = {"kind": "flow", "settings": {"hidden": [4], "radius": 1.0}, "data": data}
    write_checkpoint(folder / "runs/flow/waves", flow, field.state_dict())
    score = {"kind": "score", "settings": {"channels": [4], "alpha": [0.5, 0.99], "sampling": 0.25}, "data": data}
    write_checkpoint(folder / "runs/score/waves", score, ScoreModel((4,), (0.5, 0.99)).state_dict())


def test_the_python_of_the_readme_runs_and_finds_the_equation(tmp_path):
    models(tmp_path)
    using_p2d, using_pyarrow = blocks("In Python")
    use = "\nimport torch\nx = torch.from_numpy(states)\nprint(velocity(x).shape, score.score(2 * x - 1, alpha=0.8))"
    done = subprocess.run([sys.executable, "-c", using_p2d + use], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "dv/dt = " in done.stdout and " u v^2" in done.stdout
    there = using_pyarrow.replace("waves_128x128", "waves_64x64") + "\nprint(states.shape)"
    done = subprocess.run([sys.executable, "-c", there], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "(64, 2, 64, 64)", done.stderr
