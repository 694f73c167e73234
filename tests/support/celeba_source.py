"""A tiny CelebA in the official layout, and variants of it, for the tests."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from mmvae_cli.store.attribute_text import ATTRIBUTES

COUNT = 20  # 14 train, 3 validation, 3 test
NAMES = [f"{number:06d}.jpg" for number in range(1, COUNT + 1)]
PARTITION = [0] * 14 + [1] * 3 + [2] * 3


def picture(seed: int, size: tuple[int, int] = (178, 218)) -> Image.Image:
    """Smooth colours: what a JPEG keeps."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def jpeg(seed: int, size: tuple[int, int] = (178, 218)) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def attributes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (COUNT, 40), dtype=np.uint8)


def write(folder: Path) -> Path:
    """Folder of images and .txt lists."""
    (folder / "img_align_celeba").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        (folder / "img_align_celeba" / name).write_bytes(jpeg(seed))
    rows = [
        " ".join([name, *(" 1" if v else "-1" for v in row)]) for name, row in zip(NAMES, attributes(), strict=True)
    ]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(COUNT), " ".join(ATTRIBUTES) + " ", *rows, ""]))
    splits = (f"{name} {split}\n" for name, split in zip(NAMES, PARTITION, strict=True))
    (folder / "list_eval_partition.txt").write_text("".join(splits))
    return folder


def to_zip(folder: Path) -> None:
    """Replace the folder of images by the zip, with what macOS adds to one."""
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for path in sorted((folder / "img_align_celeba").iterdir(), reverse=True):
            archive.write(path, f"img_align_celeba/{path.name}")
            archive.writestr(f"__MACOSX/img_align_celeba/._{path.name}", b"resource fork")
    shutil.rmtree(folder / "img_align_celeba")


def to_csv(folder: Path) -> None:
    """Replace the .txt lists by .csv ones, with a byte-order mark and Windows line ends."""
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()[1:]
    rows = [",".join(["image_id", *lines[0].split()]), *(",".join(line.split()) for line in lines[1:])]
    (folder / "list_attr_celeba.csv").write_bytes(("﻿" + "\r\n".join(rows) + "\r\n").encode())
    splits = ["image_id,partition", *((folder / "list_eval_partition.txt").read_text().replace(" ", ",").split())]
    (folder / "list_eval_partition.csv").write_text("\n".join(splits) + "\n")
    (folder / "list_attr_celeba.txt").unlink()
    (folder / "list_eval_partition.txt").unlink()
