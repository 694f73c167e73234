"""What every benchmark leaves behind: its numbers as JSON, its tables as Markdown and on the screen."""

import json
from pathlib import Path
from typing import Any


def leave(folder: Path, name: str, found: dict[str, Any], tables: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    (folder / f"{name}.md").write_text(tables + "\n")
    print(tables)
    print(folder / f"{name}.json")
