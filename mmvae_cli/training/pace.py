"""How time goes: steps that become slow because other processes use the cores, and checkpoints that take long."""

import math
import time

import torch

from mmvae_cli.process import console

SLOWER, IN_A_ROW = 5, 8
"""Steps that take so many times as long as the fastest one, so many in a row, are worth a line."""
QUICK_SAVING = 0.1
"""Seconds: a checkpoint that takes no longer is written at every epoch's end that the recipe names."""
SAVING_SHARE = 20


class Pace:
    """Entered around each step. Says once, and what to do, when the threads of a CPU have begun to wait for cores that
    other processes use. A GPU's steps are not measured: they are not over when they have been asked for."""

    def __init__(self, device: torch.device) -> None:
        self._fastest, self._slow = float("inf"), 0
        self._watches = device.type == "cpu" and torch.get_num_threads() > 1

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        took = time.monotonic() - self._began
        self._fastest = min(self._fastest, took)
        self._slow = self._slow + 1 if took > SLOWER * self._fastest else 0
        if self._watches and self._slow == IN_A_ROW:
            self._watches = False
            console.warn(
                f"a step takes {took / self._fastest:.0f} times as long as it did: other work wants the cores of these "
                f"{torch.get_num_threads()} threads; stop it (Ctrl-C) and go on with OMP_NUM_THREADS=1 in front of the "
                "same command"
            )


class Saving:
    """Entered around each saving of a checkpoint. Where one takes its time, the next at an epoch's end waits for
    ``SAVING_SHARE`` times that time, so that saving takes a twentieth of the run at most."""

    def __init__(self) -> None:
        self._began = self._ended = -math.inf
        self._took = 0.0

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self._ended = time.monotonic()
        self._took = self._ended - self._began

    def is_due(self) -> bool:
        return self._took <= QUICK_SAVING or time.monotonic() - self._ended >= SAVING_SHARE * self._took
