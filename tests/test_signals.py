"""Handlers of SIGINT and SIGTERM: an exception with the right exit code, the second ends at once, none elsewhere."""

import signal
import subprocess
import sys
import threading

import pytest

from p2d import signals

# Does as cli.main does; `clean up` takes for ever, and a library has put its own handlers in the place of ours.
PROGRAM = """
import signal, sys, time
from p2d import signals

signals.GRACE[signal.SIGINT] = 0.2
with signals.handling():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("another's handler"))
    signal.signal(signal.SIGINT, lambda *_: None)
    signals.restore()
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as stop:
        print(stop, stop.number, signals.stopping(), flush=True)
        time.sleep(60 if "hangs" in sys.argv else 0)
        sys.exit(signals.exit_code())
"""


@pytest.fixture
def program():
    processes = []

    def start(*words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-c", PROGRAM, *words], **pipes))
        assert processes[-1].stdout.readline() == "ready\n"
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_an_exception_whatever_a_library_has_installed(program, number, code):
    process = program()
    process.send_signal(number)
    told, _ = process.communicate(timeout=20)
    assert (told, process.returncode) == (f"stopped by {number.name} {number.value} True\n", code)


def test_a_second_signal_ends_at_once(program):
    process = program("hangs")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline().startswith("stopped by SIGTERM")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (told, process.returncode) == (f"p2d: {signals.STOPPED}\n", 143)  # the first says why


def test_what_hangs_is_ended_when_its_time_is_over(program):
    process = program("hangs")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (told, process.returncode) == (f"p2d: {signals.STOPPED}\n", 130)


def test_there_are_none_beside_the_main_thread_and_none_are_left():
    before = {number: signal.getsignal(number) for number in signals.GRACE}
    with signals.handling():
        assert all(signal.getsignal(number) is not handler for number, handler in before.items())
    assert {number: signal.getsignal(number) for number in before} == before
    seen = []

    def elsewhere():
        with signals.handling():
            signals.restore()
            seen.append({number: signal.getsignal(number) for number in before} == before)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [True]


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.handling():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
