"""One writer a result on an object store: who comes second is refused, and a dead or stale holder holds nothing."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from p2d import leases
from p2d.errors import UserError
from p2d.leases import held
from p2d.runs import whole


@pytest.fixture
def lock(s3_folder):
    return s3_folder / "waves" / ".lock"


def put_by(lock, host, process):
    lease = lock.with_name(".lock.other")
    with whole(lease) as file:
        file.write_text(json.dumps({"process": process, "host": host}))
    return lease


def test_a_second_writer_is_refused_and_the_first_goes_on(lock):
    with held(lock.parent, lock):
        refusal = f"waves.* is being written by process {os.getpid()} on {socket.gethostname()}; wait"
        with pytest.raises(UserError, match=refusal), held(lock.parent, lock):
            pass
        with held(lock.parent.parent / "other", lock.parent.with_name("other") / ".lock"):
            pass
        assert len(lock.parent.files()) == 1, "that of the first"
    assert not lock.parent.files()


def test_of_two_at_a_time_both_step_back_and_try_again(lock, monkeypatch):
    put, rivals = leases._put, []

    def put_beside_a_rival(lease):
        put(lease)
        if len(rivals) < 2:
            rivals.append(put_by(lock, "elsewhere", 7))
        else:  # it has stepped back too
            rivals[0].unlink()

    monkeypatch.setattr(leases, "_put", put_beside_a_rival)
    with held(lock.parent, lock):
        assert len(rivals) == 2
        assert len(lock.parent.files()) == 1


def test_a_holder_of_this_machine_that_was_killed_holds_nothing(lock):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = put_by(lock, socket.gethostname(), dead.pid)
    with held(lock.parent, lock):
        assert not left.exists()


def test_a_holder_of_another_machine_holds_as_long_as_it_renews(lock, monkeypatch):
    left = put_by(lock, "elsewhere", 1)
    with pytest.raises(UserError, match="by process 1 on elsewhere"), held(lock.parent, lock):
        pass
    monkeypatch.setattr(leases, "STALE_S", 1.0)
    time.sleep(2.1)  # the store tells times in whole seconds
    with held(lock.parent, lock):
        assert not left.exists()


def test_a_lease_is_renewed(lock, monkeypatch):
    monkeypatch.setattr(leases, "RENEW_S", 0.2)
    with held(lock.parent, lock):
        (lease,) = lock.parent.files()
        first = lease.stat().st_mtime
        time.sleep(2.1)
        assert lease.stat().st_mtime > first
