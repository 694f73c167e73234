"""Notices when steps become slow because other processes use the cores."""

import time

import torch

from mmvae_cli.process import console

SLOWER, IN_A_ROW = 5, 8
"""Steps that take so many times as long as the fastest one, so many in a row, are worth a line."""


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
