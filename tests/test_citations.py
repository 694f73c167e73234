"""Every citation of the mathematics leads somewhere: ``equations 4.3`` is a section of docs/equations.md."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("mmvae_cli", "recipes", "tests", "docs") for path in (ROOT / folder).rglob("*")
           if path.suffix in (".py", ".yaml", ".md", ".j2", ".sbatch")] + [ROOT / "README.md"]  # fmt: skip
CITED = re.compile(r"\bequations (\d+(?:\.\d+)?(?:(?:, | and )\d+\.\d+)*)")


def sections() -> set[str]:
    text = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
    return set(re.findall(r"^##+ (\d+(?:\.\d+)?)\.? ", text, re.MULTILINE))


def citations() -> list[tuple[str, str]]:
    """(file, section) of each citation."""
    return [
        (path.relative_to(ROOT).as_posix(), section)
        for path in SOURCES
        for found in CITED.findall(path.read_text(encoding="utf-8"))
        for section in re.findall(r"\d+(?:\.\d+)?", found)
    ]


def test_citations_are_found_at_all():
    assert len({section for _, section in citations()}) > 10


def test_every_cited_section_is_there():
    known = sections()
    assert [(path, section) for path, section in citations() if section not in known] == []


def test_nothing_cites_a_document_that_is_not_here():
    gone = re.compile(r"\bfacts(?:_\w+)?(?:\.md)? \d")
    assert [
        path.relative_to(ROOT).as_posix() for path in SOURCES if gone.search(path.read_text(encoding="utf-8"))
    ] == []
