"""Commands on the small world of conftest.py, each of which needs other files of it."""

TRAIN = ["train", "tiny.yaml", "--run", "runs/a"]
NEW = ["train", "tiny.yaml", "--run", "runs/new"]
EVALUATE = ["evaluate", "--ckpt", "runs/a", "--metrics", "latent"]
CLASSIFY = ["evaluate", "--ckpt", "runs/a", "--metrics", "coherence", "--force"]
COMPARE = ["compare", "runs/a"]
