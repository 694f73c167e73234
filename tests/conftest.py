"""Shared by all tests: helper modules of each folder, thread count, and where real data are."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FOLDERS = ("support", "sampling", "comparison", "hostile", "datasets")
sys.path[:0] = [str(HERE / name) for name in FOLDERS]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONSAFEPATH"] = "1"  # the programs that tests start run the installed code, whatever folder they are in


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with MNIST/, svhn/, celeba/, backgrounds/ in their official layouts, from MMVAE_TEST_DATA."""
    folder = os.environ.get("MMVAE_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MMVAE_TEST_DATA names no folder with real data")
    return Path(folder).resolve()


def pytest_configure(config: pytest.Config) -> None:
    from outcome_table import OutcomeTable

    config.pluginmanager.register(OutcomeTable(), "outcome table of tests/hostile")


def pytest_report_header() -> str:
    folder = os.environ.get("MMVAE_TEST_DATA")
    return f"real data: {folder or 'none (set MMVAE_TEST_DATA); tests marked realdata are skipped'}"
