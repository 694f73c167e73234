"""What others read about the package: its version, its licence, its citation, that its types may be used."""

import tomllib
from pathlib import Path

import mmvae_cli
from mmvae_cli.disk import plain_yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_one_version_and_one_licence_everywhere():
    cited = plain_yaml.parse((ROOT / "CITATION.cff").read_text(encoding="utf-8"), "CITATION.cff")
    assert str(cited["version"]) == PROJECT["version"] == mmvae_cli.__version__
    assert cited["license"] == PROJECT["license"]


def test_the_paper_is_cited_at_its_address():
    cited = plain_yaml.parse((ROOT / "CITATION.cff").read_text(encoding="utf-8"), "CITATION.cff")["preferred-citation"]
    assert (cited["title"], cited["year"]) == ("Generalized Multimodal ELBO", 2021)
    assert cited["url"] == PROJECT["urls"]["Paper"]


def test_types_are_shipped():
    assert (Path(mmvae_cli.__file__).parent / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]
