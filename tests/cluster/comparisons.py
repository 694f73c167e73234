"""Two comparisons that must say the same: what disturbed runs and undisturbed ones lead to."""

import json

from mmvae_cli.disk.sealed import SEAL


def timeless(content):
    """A comparison without what depends on the clock: when it was made, how long training took."""
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key != SEAL}
        return {key: timeless(value) for key, value in kept.items() if "seconds" not in key and key != "created"}
    return [timeless(item) for item in content] if isinstance(content, list) else content


def leaves(content, path=""):
    """(where, value) of everything in a document."""
    if isinstance(content, dict | list):
        for key, item in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(item, f"{path}/{key}")
    else:
        yield path, content


def assert_same(folder, whole):
    mine, other = (timeless(json.loads((place / "comparison.json").read_text())) for place in (folder, whole))
    assert [pair for pair in zip(leaves(mine), leaves(other), strict=True) if pair[0] != pair[1]] == []
    leftovers = [path for path in folder.rglob("*") if ".tmp-" in path.name or path.name == "lock"]
    assert not leftovers, "what killed processes left behind was cleared up"
