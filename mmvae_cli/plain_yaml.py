"""YAML as plain data, both ways: no tags, no duplicate keys, no bombs; numbers that every reader takes for numbers."""

import re
from typing import Any

import yaml

from mmvae_cli.errors import UsageProblem

_MAX_NODES = 20_000


def dump(content: Any) -> str:
    """Plain data as YAML in the order given; :func:`parse` gives them back."""
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, width=120)


class _PlainDumper(yaml.SafeDumper):
    """Writes floats so that every YAML reader sees floats (``5.0e-05``), lists of numbers on one line, no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_PlainDumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=not any(isinstance(item, dict) for item in data)
    ),
)


class _Loader(yaml.SafeLoader):
    """Safe YAML with two mends: a key given twice is an error, and 5e-4 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := next((key for key in keys if isinstance(key, str) and keys.count(key) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse(text: str, where: str) -> Any:
    """Plain data of a YAML text; no tags, no cycles, and no more than 20,000 values once aliases are expanded."""
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageProblem(f"{where}:{place} {getattr(error, 'problem', None) or error}".strip()) from error
    _count_nodes(content, where)
    return content


def _count_nodes(content: Any, where: str) -> None:
    stack, seen = [(content, 0)], 0
    while stack:
        value, depth = stack.pop()
        seen += 1
        if seen > _MAX_NODES or depth > 50:
            raise UsageProblem(f"{where}: has too many values or levels for a recipe (aliases expanded)")
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((child, depth + 1) for child in children)
