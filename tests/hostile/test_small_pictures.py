"""Pictures of a few pixels, down to one: every verb works, or says in a line what is too small for what."""

import pytest
from driving import few_steps, mmvae
from tiny_recipes import tiny

from mmvae_cli.model.networks import build_classifier, image
from mmvae_cli.process.errors import UsageProblem
from mmvae_cli.store import ModalityInfo

from stores import image_store


def small(root, shape):
    image_store(root / "small" / "tiny", views=2, counts=(24, 12), classes=3, shape=shape)
    (root / "small.yaml").write_text(tiny(2, shape=shape, evaluation__latent_samples=20).dump())


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 2), (1, 3, 32)])
def test_every_verb(shape, world):
    small(world.root, shape)
    for command in (
        ["train", "small.yaml", "training.epochs=1", "--run", "s"],
        ["evaluate", "--ckpt", "s", "--force"],
        ["sample", "--ckpt", "s", "--count", "2"],
        ["compare", "s", "--json"],
    ):
        data = [] if command[0] == "compare" else ["--data-dir", "small"]
        found = mmvae(*command, *data, cwd=world.root, first=few_steps)
        assert found.code == 0, f"{command}: {found.err}"
    found = mmvae("evaluate", "--ckpt", "s", "--protocol", "released", "--force", "--data-dir", "small", cwd=world.root)
    assert (found.code, "the paper has no classifier for image of shape" in found.complaint) == (2, True), found.err


def test_the_paper_s_classifier_begins_at_four_pixels():
    for sides in ((4, 4), (4, 9)):
        assert isinstance(build_classifier(ModalityInfo(kind="image", shape=(1, *sides)), 3), image.DigitClassifier)
    for sides in ((3, 9), (9, 3)):
        with pytest.raises(UsageProblem, match="no classifier for image"):
            build_classifier(ModalityInfo(kind="image", shape=(1, *sides)), 3)


def test_one_picture_is_no_batch_to_normalise_over(world):
    small(world.root, (1, 1, 1))
    networks = [f"modalities.m{m}.network=conv_bn" for m in range(2)]
    train = ["train", "small.yaml", *networks, "--run", "s", "--data-dir", "small", "training.epochs=1"]
    found = mmvae(*train, "training.batch_size=1", cwd=world.root)
    assert (found.code, "training.batch_size 1 is too small" in found.complaint) == (2, True), found.err
    assert not (world.root / "s").exists()
    assert mmvae(*train, "training.batch_size=2", cwd=world.root).code == 0
