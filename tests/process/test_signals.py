"""What a signal does to a process: remembered, or the end of it; what the caller ignores stays ignored."""

import signal
import subprocess
import sys
import time

import pytest

from mmvae_cli.process.signals import SAME_SECONDS

REMEMBERS = """
import sys, time
from mmvae_cli.process import signals
from mmvae_cli.process.errors import Stopped
signals.install()
{work}
print("on", flush=True)
for _ in range(100):
    time.sleep(0.1)
    if signals.requested():
        print("heard", flush=True)
        time.sleep(float(sys.argv[1]))
        try:
            signals.leave_if_requested("all is kept")
        except Stopped as stopped:
            print(stopped, flush=True)
            sys.exit(stopped.code)
"""
WAITING = REMEMBERS.format(work="block = signals.interrupts_wait(); block.__enter__()")


def started(code, *, stays=0.0, ignored=()):
    def calm():  # a shell starts its background jobs deaf to SIGINT, these tests among them
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    process = subprocess.Popen([sys.executable, "-c", code, str(stays)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, preexec_fn=calm)  # fmt: skip
    assert process.stdout.readline() == "on\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_is_remembered_until_the_work_asks(number):
    process = started(REMEMBERS.format(work=""))
    process.send_signal(number)
    assert process.communicate(timeout=20)[0] == f"heard\nstopped by {number.name}: all is kept\n"
    assert process.returncode == 75


def test_an_interrupt_is_remembered_where_there_is_work_to_keep():
    process = started(WAITING)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "heard\ninterrupted: all is kept\n"
    assert process.returncode == 130


def test_an_interrupt_ends_other_work_where_it_is():
    process = started(REMEMBERS.format(work=""))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, err.splitlines()[-1]) == ("", "KeyboardInterrupt")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_at_once_is_the_same_request_and_a_later_one_leaves(number):
    process = started(WAITING, stays=60)
    process.send_signal(number)
    assert process.stdout.readline() == "heard\n"
    process.send_signal(number)
    time.sleep(SAME_SECONDS + 0.2)
    assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == ""
    assert err.splitlines()[-1:] == ([] if number == signal.SIGTERM else ["KeyboardInterrupt"])
    assert process.returncode == (75 if number == signal.SIGTERM else -signal.SIGINT)


def test_what_the_caller_ignores_stays_ignored():
    process = started(WAITING, ignored=(signal.SIGINT, signal.SIGHUP))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[0] == "heard\nstopped by SIGTERM: all is kept\n"
    assert process.returncode == 75
