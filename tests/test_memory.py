"""The memory of a machine, and of a container on it."""

import os

import pytest

from p2d.memory import memory_limit

ALL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = 64 * 2**20


def group(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("line", "folder", "name", "text", "expected"),
    [
        ("0::/", ".", "memory.max", f"{LIMIT}\n", LIMIT),
        ("0::/", ".", "memory.max", "max\n", ALL),
        ("0::/pods/one", "pods", "memory.max", f"{LIMIT}\n", LIMIT),  # of the group around it
        ("0::/pods/one", "pods/two", "memory.max", f"{LIMIT}\n", ALL),  # of another group
        ("7:cpu,memory:/docker/x", "memory/docker/x", "memory.limit_in_bytes", f"{LIMIT}\n", LIMIT),
        ("7:memory:/docker/x", "memory", "memory.limit_in_bytes", f"{LIMIT}\n", LIMIT),  # mounted as the outermost
        ("7:memory:/", "memory", "memory.limit_in_bytes", "9223372036854771712\n", ALL),  # no limit, in version 1
        ("3:cpu:/docker/x", "memory", "memory.limit_in_bytes", f"{LIMIT}\n", ALL),  # not in a group of memory
    ],
)
def test_the_limit_of_the_control_group_counts(tmp_path, line, folder, name, text, expected):
    group(tmp_path / "groups" / folder, name, text)
    group(tmp_path, "own", f"1:name=systemd:/\n{line}\n")
    assert memory_limit(tmp_path / "groups", tmp_path / "own") == expected


def test_without_control_groups_it_is_the_machines(tmp_path):
    assert memory_limit(tmp_path, tmp_path / "none") == ALL
