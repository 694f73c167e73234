import colorsys

import numpy as np
import pytest
from PIL import Image

from mmvae_cli.datasets import backgrounds
from mmvae_cli.errors import DataProblem, UsageProblem


def test_builtin_ones_are_dark_smooth_and_reproducible():
    for view in range(12):
        drawn = backgrounds.builtin(view, 3)
        assert drawn.shape == (3, 256, 256)
        assert drawn.dtype == np.uint8
        assert drawn.max() < 70
        assert np.abs(np.diff(drawn.astype(int), axis=2)).mean() < 1
        assert np.array_equal(drawn, backgrounds.builtin(view, 3))
        assert not np.array_equal(drawn, backgrounds.builtin(view, 4))


def test_builtin_ones_differ_clearly_in_hue():
    hues = [colorsys.rgb_to_hsv(*backgrounds.builtin(view, 0).mean((1, 2)) / 255)[0] for view in range(5)]
    gaps = [min(abs(a - b), 1 - abs(a - b)) for i, a in enumerate(hues) for b in hues[:i]]
    assert min(gaps) > 0.09  # of the colour circle


def test_natural_order(tmp_path):
    for name in ("10.png", "2.png", "1.png", ".hidden.png", "notes.txt"):
        Image.new("RGB", (40, 40)).save(tmp_path / name, format="PNG")
    assert [p.name for p in backgrounds.picture_paths(tmp_path)] == ["1.png", "2.png", "10.png"]


def test_too_few_none_and_nowhere(tmp_path):
    with pytest.raises(DataProblem, match="no images"):
        backgrounds.picture_paths(tmp_path)
    with pytest.raises(DataProblem, match="no such folder"):
        backgrounds.picture_paths(tmp_path / "x")
    with pytest.raises(UsageProblem, match="1 images for 2 views"):
        backgrounds.choose([tmp_path / "a.png"], 2, tmp_path)


def save(tmp_path, image: Image.Image, name: str = "a.png") -> np.ndarray:
    image.save(tmp_path / name)
    return backgrounds.read(tmp_path / name)


def test_grey_transparent_palette_and_deep_pictures_become_rgb(tmp_path):
    grey = save(tmp_path, Image.new("L", (40, 30), 99))
    assert grey.shape == (3, 30, 40)
    assert (grey == 99).all()
    assert (save(tmp_path, Image.new("RGBA", (40, 40), (200, 100, 50, 0))) == 0).all()
    assert save(tmp_path, Image.new("RGBA", (40, 40), (200, 100, 50, 255)))[:, 0, 0].tolist() == [200, 100, 50]
    assert (save(tmp_path, Image.fromarray(np.full((40, 40), 0x8000, np.uint16))) // 2 == 63).all()
    assert (save(tmp_path, Image.fromarray(np.full((40, 40), 300, np.uint16))) == 1).all(), "dark, of 65,535"
    fraction = Image.fromarray(np.full((40, 40), 0.5, np.float32))
    assert (save(tmp_path, fraction, "a.tiff") == 127).all()
    assert (save(tmp_path, Image.new("RGB", (40, 40), (1, 2, 3)).convert("P")).ndim) == 3
    assert (save(tmp_path, Image.new("1", (40, 40), 1)) == 255).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0"])
def test_damaged_pictures_are_named(tmp_path, content):
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(DataProblem, match=r"b\.png: cannot be read as an image"):
        backgrounds.read(tmp_path / "b.png")


def test_a_truncated_jpeg_is_named(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(tmp_path / "c.jpg")
    content = (tmp_path / "c.jpg").read_bytes()
    (tmp_path / "c.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataProblem, match=r"c\.jpg: cannot be read"):
        backgrounds.read(tmp_path / "c.jpg")


def test_small_and_giant_pictures(tmp_path, monkeypatch):
    with pytest.raises(DataProblem, match="28x100 is too small"):
        save(tmp_path, Image.new("RGB", (28, 100)))
    assert save(tmp_path, Image.new("RGB", (29, 29))).shape == (3, 29, 29)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataProblem, match="cannot be read"):
        save(tmp_path, Image.new("RGB", (40, 40)))
