"""YAML as plain data, read and written: no tags, no duplicate keys, bounded size; every reader sees the same
numbers."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.process.paths import is_odd

_MERGE = "tag:yaml.org,2002:merge"
_MAX_NODES = 20_000
_MAX_DEPTH = 50
_LONGEST_SCALAR = 20_000
"""Characters. Python turns a number of a million digits, or of as many groups of 60, into an integer for minutes."""


def dump(content: Any) -> str:
    """Plain data as YAML in the order given; :func:`parse` gives them back."""
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, width=120)


def plain(content: Any, where: str, depth: int = 0) -> Any:
    """What Python code gives as plain data: numbers of numpy are numbers, tuples and arrays are lists. Raises
    UsageProblem, with the place in it, for anything that no YAML says."""
    if isinstance(content, Mapping) and depth < _MAX_DEPTH:
        if odd := [key for key in content if not isinstance(key, str)]:
            raise UsageProblem(f"{where}: the key {str(odd[0])[:60]} is no text", "put it in quotes")
        return {
            str(key): plain(value, f"{where}{'.' if depth else ': '}{key}", depth + 1) for key, value in content.items()
        }
    if hasattr(content, "tolist"):  # an array, a number of numpy, a tensor
        content = content.tolist()
    if isinstance(content, list | tuple) and depth < _MAX_DEPTH:
        return [plain(value, where, depth + 1) for value in content]
    if content is None or isinstance(content, bool | int | float):
        return content
    if isinstance(content, str | PurePath):
        return str(content)
    what = "too many levels" if depth == _MAX_DEPTH else f"{type(content).__name__} is no value of a recipe"
    raise UsageProblem(f"{where[:200]}: {what}", "text, a number, True, False, None, or lists and dicts of them")


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
    """Safe YAML with three mends: a key given twice is an error, words and numbers are those of YAML 1.2, and merges of
    merges keep what was changed in between. Tags are refused. Whatever is too deep, too long or too much is refused
    while it is read, not after it has filled the memory."""

    _depth = _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self._depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            raise _refused("too many values or levels for a recipe", event)
        if getattr(event, "tag", None) is not None:
            raise _refused(f"the tag {event.tag[:60]!r}: plain data have none", event)
        if len(getattr(event, "value", "")) > _LONGEST_SCALAR:
            raise _refused(f"a value of more than {_LONGEST_SCALAR:,} characters", event)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (``<<``) by YAML's rule: a mapping's own keys win, then those of the first mapping merged. PyYAML
        6.0.4 lets what was merged twice win over what replaced it in between."""
        own: list[tuple[yaml.Node, yaml.Node]] = []
        sources: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag != _MERGE:
                own.append((key, value))
                continue
            sources += value.value if isinstance(value, yaml.SequenceNode) else [value]
        merged = {_identity(key): (key, value) for key, value in own}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise _refused("<< merges a mapping or a list of mappings", source)
            self.flatten_mapping(source)
            for key, value in source.value:
                merged.setdefault(_identity(key), (key, value))
        node.value = [*list(merged.values())[len(own) :], *own]
        self._nodes += len(node.value)
        if self._nodes > _MAX_NODES:  # merges of merges of merges
            raise _refused("too many values for a recipe (merges expanded)", node)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        first: dict[Any, yaml.Node] = {}
        for key, _ in node.value:  # as written: merges are expanded later
            if key.tag != _MERGE and (known := first.setdefault(_identity(key), key)) is not key:
                raise _refused(f"key {key.value!r} is there twice, first in line {known.start_mark.line + 1}", key)
        return node


def _identity(key: yaml.Node) -> Any:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def _refused(what: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, what, at.start_mark)


_SCALARS = {
    "bool": (r"^(true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?[0-9]+$", "-+0123456789"),
    "float": (r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
              "-+.0123456789"),
}  # fmt: skip
"""YAML 1.2's truth values and numbers. The older ones would read off as false, 010 as 8 and 1:30 as 90."""

_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] not in _SCALARS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, (_pattern, _first) in _SCALARS.items():
    for _kind in (_Loader, _PlainDumper):  # the dumper quotes what either version would take for something else
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def parse(text: str, where: str) -> Any:
    """Plain data of a YAML text; no tags, no cycles, and no more than 20,000 values once aliases are expanded."""
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.reader.ReaderError as error:
        hint = "a folder whose name is not UTF-8 is given by --data-dir" if is_odd(chr(error.character)) else ""
        raise UsageProblem(f"{where}: a character that no YAML has, {error.character:#x}", hint) from error
    except (yaml.YAMLError, ValueError, RecursionError, ArithmeticError, LookupError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise UsageProblem(f"{where}:{place} {getattr(error, 'problem', None) or error}".strip()) from error
    _count_nodes(content, where)
    return content


def _count_nodes(content: Any, where: str) -> None:
    stack, seen = [(content, 0)], 0
    while stack:
        value, depth = stack.pop()
        seen += 1
        if seen > _MAX_NODES or depth > _MAX_DEPTH:
            raise UsageProblem(f"{where}: has too many values or levels for a recipe (aliases expanded)")
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((child, depth + 1) for child in children)
