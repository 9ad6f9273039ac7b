"""How much memory there is to use, in a container or out of one."""

from __future__ import annotations

import os
from pathlib import Path

UNIFIED, V1 = ("memory.max", ""), ("memory.limit_in_bytes", "memory")  # the file, and the folder of its hierarchy


def memory_limit(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes that this process may use: the machine's memory, or less where a control group (version 1 or 2) says so.

    Args:
        groups: where the file system of control groups is mounted.
        own: lists the groups that this process is in, a line 'number:controllers:/path' for each hierarchy.
    """
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        name, folder = V1 if controllers else UNIFIED
        inside = groups / folder / path.lstrip("/")
        # A group is limited by those around it too. In a container its own is often mounted as the outermost one.
        for group in (inside, *inside.parents):
            if group.is_relative_to(groups / folder):
                limit = min(limit, _limit(group / name, limit))
    return limit


def _limit(file: Path, otherwise: int) -> int:
    """The number in a file; where there is none ('max', or no file), another."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return otherwise
