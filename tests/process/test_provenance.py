"""Which source made a run: the commit of a checkout, dirty or not; or null and why."""

import subprocess
from pathlib import Path

import pytest

import mmvae_cli
from mmvae_cli.process import provenance


@pytest.fixture
def checkout(tmp_path):
    """A repository with one committed file."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file").write_text("one")
    git(folder, "add", "file")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "one")
    return folder


def git(folder, *words):
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_source_is_the_folder_with_the_package_in_it():
    assert Path(mmvae_cli.__file__).parent.parent.samefile(provenance.SOURCE)


def test_a_checkout_says_its_commit_and_whether_files_differ(checkout, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert provenance.commit(checkout) == (head, None)
    (checkout / "file").write_text("two")
    assert provenance.commit(checkout) == (f"{head}-dirty", None)


def test_a_tag_does_not_hide_the_commit(checkout):
    git(checkout, "tag", "v1")
    assert provenance.commit(checkout)[0] == git(checkout, "rev-parse", "HEAD")


def test_an_installed_package_inside_somebody_elses_checkout_does_not_take_its_commit(checkout):
    inside = checkout / "site-packages"
    inside.mkdir()
    assert provenance.commit(inside) == (None, "installed from a package that does not say its commit")


def test_pip_remembers_the_commit_of_an_installation_from_git(tmp_path, monkeypatch):
    class Distribution:
        def read_text(self, name):
            assert name == "direct_url.json"
            return '{"url": "https://example.org/mmvae", "vcs_info": {"vcs": "git", "commit_id": "abc"}}'

    monkeypatch.setattr(provenance.metadata, "distribution", lambda name: Distribution())
    assert provenance.commit(tmp_path) == ("abc", None)


@pytest.mark.parametrize("broken", ["no git", "no commit"])
def test_what_git_cannot_say_is_null_with_the_reason(broken, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    if broken == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    found, why = provenance.commit(tmp_path)
    assert found is None
    assert "git" in why
