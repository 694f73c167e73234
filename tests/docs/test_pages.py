"""The README is short, links lead somewhere, and every command on a page is one that the program understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from mmvae_cli.cli import app
from mmvae_cli.recipe import find

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = {"RECIPE", "RUN", "own.yaml", "mine.yaml", "arrays.yaml", "cells.yaml"}
"""Also recipes that stand on a page, or that a command on it writes."""


def lines(page):
    """The words of every line in a block of commands, comments cut off and broken lines joined."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def commands():
    """(page, words after mmvae) of every command of ours."""
    for page in PAGES:
        for words in lines(page):
            if "mmvae" in words:
                yield page.name, words[words.index("mmvae") + 1 :]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([\w./-]+\.\w+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_a_table_have_the_cells_of_its_head(page):
    """A bar inside a cell would cut the row off where the page is read."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        bars = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
        assert [row for row, count in zip(rows, bars, strict=True) if count != bars[0]] == []


def anchors(page):
    """What a page's headings are linked to by."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_heading_find_it(page):
    links = re.findall(r"\]\(([\w./-]+\.md)?#([^)]*)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if link[1] not in anchors(page.parent / link[0] if link[0] else page)] == []


@pytest.mark.parametrize("words", [words for _, words in commands()], ids=" ".join)
def test_a_command_on_a_page_is_understood(words):
    """Options and their values are parsed as the program does, and a recipe that is named is there."""
    command, words = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    understood = command.make_context(command.name, words).params
    recipe = understood.get("recipe")
    assert recipe is None or str(recipe) in PLACEHOLDERS or find(recipe).is_file()


def test_torchrun_starts_the_installed_command():
    """With -m it would start a clone that lies in the current folder."""
    started = [words for page in PAGES for words in lines(page) if words[0] == "torchrun"]
    assert started
    assert all(words[words.index("--no-python") + 1] == "mmvae" for words in started)


def test_commands_are_found_at_all():
    assert len(list(commands())) > 10
