"""What happened, as JSON lines in OUT/events.jsonl: the run explains itself when the cluster is gone."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from p2d.runs import output_folder, whole

FILE = "events.jsonl"


def note(where: Path, event: str, **values: Any) -> None:
    """Note an event of a result.

    Args:
        where: the result's place under the output folder.
        event: such as 'started', 'restarted', 'ended'.
        values: what else there is to say, as JSON has it.
    """
    out = output_folder(where)
    result = str(where).removeprefix(f"{out}/")
    told = {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", "event": event, "result": result}
    line = json.dumps(told | {"process": f"{os.getpid()} on {socket.gethostname()}"} | values) + "\n"
    file = out / FILE
    if isinstance(file, Path):
        out.mkdir(parents=True, exist_ok=True)
        with file.open("a") as lines:
            lines.write(line)
        return
    before = file.read_text() if file.is_file() else ""  # an object store cannot append
    with whole(file) as temporary:
        temporary.write_text(before + line)


def read_events(out: Path) -> list[dict[str, Any]]:
    """All events of an output folder, the oldest first; a line that was cut by a full disk is left out."""
    file = out / FILE
    events = []
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events
