"""Run the cells of notebook.ipynb in one namespace, without a kernel, and write their outputs into it."""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")


def outputs_of(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell leaves, as a notebook keeps it: text that is printed, figures, and the value of its last line."""
    import matplotlib.pyplot as plt

    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None
    made: list[dict[str, Any]] = []
    if printed.getvalue():
        made.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(keepends=True)})
    for number in plt.get_fignums():
        picture = io.BytesIO()
        plt.figure(number).savefig(picture, format="png", dpi=80, bbox_inches="tight")
        data = {"image/png": base64.b64encode(picture.getvalue()).decode(), "text/plain": ["<Figure>"]}
        made.append({"output_type": "display_data", "metadata": {}, "data": data})
    if value is not None and not plt.get_fignums():
        text = {"text/plain": repr(value).splitlines(keepends=True)}
        made.append({"output_type": "execute_result", "metadata": {}, "execution_count": None, "data": text})
    plt.close("all")
    return made


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the outputs of its cells, run in the working directory.

    Raises:
        Exception: whatever a cell raises.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    names: dict[str, Any] = {}
    cells = []
    for cell in notebook["cells"]:
        code = cell["cell_type"] == "code"
        cells.append({**cell, "outputs": outputs_of("".join(cell["source"]), names)} if code else cell)
    return {**notebook, "cells": cells}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        made = executed(json.loads(NOTEBOOK.read_text()))
    NOTEBOOK.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
