"""Which code made a run, and who ran it: tags that MLflow's table has columns for."""

from __future__ import annotations

import contextlib
import functools
import getpass
import os
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it in what `ray job submit` runs


@functools.cache
def tags() -> dict[str, str]:
    """The version of p2d, the commit where it runs from a checkout, the user, and whether it is a job."""
    made = {"mlflow.source.type": "JOB" if IN_JOB in os.environ else "LOCAL"}
    with contextlib.suppress(metadata.PackageNotFoundError):  # as p2d in the working directory of a job
        made["p2d.version"] = metadata.version("p2d")
    with contextlib.suppress(KeyError, OSError):  # a user without a name
        made["mlflow.user"] = getpass.getuser()
    if commit := _commit():
        made["mlflow.source.git.commit"] = commit
    return made


def _commit() -> str:
    """The commit of the checkout that this package lies in; '' outside of one."""
    if not (PACKAGE.parent / ".git").exists():
        return ""
    command = ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return ""
