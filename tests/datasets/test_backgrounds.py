import colorsys

import numpy as np
import pytest
from PIL import Image

from mmvae_cli.datasets.polymnist import backgrounds
from mmvae_cli.process.errors import DataProblem, UsageProblem


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


def test_pictures_are_known_by_content_and_come_in_natural_order(tmp_path, capsys):
    for name in ("10.png", "2", "1.jpg", ".hidden.png", "3.dat"):
        Image.new("RGB", (40, 40)).save(tmp_path / name, format="PNG")
    (tmp_path / "._1.jpg").write_bytes(b"resource fork of a Mac")
    assert [p.name for p in backgrounds.picture_paths(tmp_path)] == ["1.jpg", "2", "3.dat", "10.png"]
    assert capsys.readouterr().err == ""


def test_what_is_passed_over_is_named(tmp_path, capsys):
    Image.new("RGB", (40, 40)).save(tmp_path / "1.png")
    for name in ("holiday.heic", "notes.txt", "drawing.svg"):
        (tmp_path / name).write_bytes(b"something else, " * 9)
    (tmp_path / "more").mkdir()
    assert len(backgrounds.picture_paths(tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"passed over in {tmp_path}, being no PNG, JPEG" in said
    assert said.strip().endswith("PPM: drawing.svg, holiday.heic, more, notes.txt")
    for number in range(9):
        (tmp_path / f"a{number}.txt").write_text("x")
    backgrounds.picture_paths(tmp_path)
    assert capsys.readouterr().err.strip().endswith("a6.txt, a7.txt and 5 more")


def test_a_picture_by_name_alone_is_not_passed_over_but_refused(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"heic under another name")
    with pytest.raises(DataProblem, match=r"1\.jpg: cannot be read as an image"):
        backgrounds.read(*backgrounds.picture_paths(tmp_path))


def test_a_picture_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    Image.new("RGB", (40, 40)).save(tmp_path / "1.png")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataProblem, match=r"1\.png cannot be read \(Permission denied\)") as problem:
        backgrounds.read(*backgrounds.picture_paths(tmp_path))
    assert problem.value.hint == "check its permissions, and those of the folders above it"


STORED = {  # by the number of the orientation: how the camera stored a scene (H, W, 3)
    1: lambda scene: scene, 2: lambda scene: scene[:, ::-1], 3: lambda scene: scene[::-1, ::-1],
    4: lambda scene: scene[::-1], 5: lambda scene: scene.swapaxes(0, 1), 6: np.rot90,
    7: lambda scene: scene[::-1, ::-1].swapaxes(0, 1), 8: lambda scene: np.rot90(scene, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff", "a.webp"])
def test_pictures_stand_as_their_exif_says_that_they_were_held(tmp_path, orientation, name):
    scene = np.zeros((40, 60, 3), np.uint8)
    scene[:10, :20] = 255
    stored = STORED[orientation](scene)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    seen = backgrounds.read(tmp_path / name)
    assert seen.shape == (3, 40, 60)
    assert (seen[:, :7, :15] > 200).all()
    assert (seen[:, 15:, 30:] < 50).all()


def test_exif_of_nonsense_says_nothing(tmp_path):
    Image.new("RGB", (40, 60), (9, 9, 9)).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    assert backgrounds.read(tmp_path / "a.jpg").shape == (3, 60, 40)


def test_one_number_written_in_several_ways_has_one_order_whatever_the_folder_s(tmp_path, monkeypatch):
    for name in ("2.png", "02.png", "002.png"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    for turn in (list, lambda paths: [*paths][::-1]):
        listed = turn(sorted(tmp_path.glob("*.png")))
        monkeypatch.setattr(type(tmp_path), "iterdir", lambda self, listed=listed: iter(listed))
        assert [path.name for path in backgrounds.picture_paths(tmp_path)] == ["002.png", "02.png", "2.png"]


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
