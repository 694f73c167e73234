"""make-dataset celeba: the rule for pixels and texts, every layout of the official files, every damage."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvae_cli import cli
from mmvae_cli.datasets.celeba import build as celeba
from mmvae_cli.datasets.celeba import decoding as celeba_decoding
from mmvae_cli.datasets.celeba import files as celeba_files
from mmvae_cli.disk.files import own_mark
from mmvae_cli.store import Store, text
from mmvae_cli.store.attribute_text import ATTRIBUTES, render

import celeba_source as tiny


@pytest.fixture
def source(tmp_path):
    return tiny.write(tmp_path / "source")


@pytest.fixture
def mmvae(tmp_path, monkeypatch, capsys):
    """Run the command in-process; returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        options = ["make-dataset", "celeba", "--data-dir", str(tmp_path / "data"), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["mmvae", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


# --- pixels and texts ------------------------------------------------------------------------------------------------


def bicubic(rows: np.ndarray, size: int) -> np.ndarray:
    """Antialiased bicubic (a = -0.5) along the first axis from its definition, rounded to 8 bits."""
    factor = len(rows) / size
    distance = np.abs((np.arange(len(rows)) + 0.5)[None] - (np.arange(size)[:, None] + 0.5) * factor) / factor
    near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    weights /= weights.sum(1, keepdims=True)
    return np.clip(np.round(np.tensordot(weights, rows.astype(float), 1)), 0, 255)


def test_decode_crops_rows_35_to_182_and_columns_15_to_162_and_resizes_with_antialiasing():
    content = tiny.jpeg(3)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (218, 178, 3)
    cropped = pixels[35:183, 15:163]
    expected = bicubic(bicubic(cropped.transpose(1, 0, 2), 64).transpose(1, 0, 2), 64).transpose(2, 0, 1)
    decoded = celeba_files.decode(content)
    assert (decoded.shape, decoded.dtype) == ((3, 64, 64), np.uint8)
    assert np.abs(decoded - expected).max() <= 1
    assert np.abs(decoded - expected).mean() < 0.1


def test_one_pixel_off_would_be_seen():
    """The comparison above is sharp enough: neighbouring crops differ by much more than rounding."""
    image = Image.open(io.BytesIO(tiny.jpeg(3)))
    for box in ((16, 35, 164, 183), (15, 36, 163, 184), (14, 34, 162, 182)):
        other = np.asarray(image.crop(box).resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        assert np.abs(celeba_files.decode(tiny.jpeg(3)).astype(int) - other).max() > 2


def test_a_face_stands_as_its_exif_says():
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # stored lying on its side
    lying = tiny.picture(3).transpose(Image.Transpose.ROTATE_90)
    lying.save(buffer, "JPEG", quality=95, exif=exif)
    assert np.abs(celeba_files.decode(buffer.getvalue()).astype(int) - celeba_files.decode(tiny.jpeg(3))).mean() < 2


def test_texts_may_begin_at_the_first_place(source, tmp_path, mmvae):
    assert mmvae("--source", source, "--out", tmp_path / "usual")[0] == 0
    code, _, said = mmvae("--source", source, "--out", tmp_path / "first", "--text-begins", "first")
    assert code == 0
    assert "every text begins at the first of its 256 places" in said
    usual, first = Store(tmp_path / "usual"), Store(tmp_path / "first")
    assert first.info.stand_in == f"{usual.info.stand_in}; every text begins at the first of its 256 places"
    for split in celeba.SPLITS:
        np.testing.assert_array_equal(usual.array(split, "image"), first.array(split, "image"))
        before, after = (text.decode(one.array(split, "text")) for one in (usual, first))
        assert [string.strip("*").ljust(256, "*") for string in before] == after
    assert usual.fingerprint != first.fingerprint
    assert mmvae("--source", source, "--out", tmp_path / "third", "--text-begins", "middle")[0] == 2


def test_grey_jpegs_become_three_channels():
    buffer = io.BytesIO()
    tiny.picture(0).convert("L").save(buffer, "JPEG")
    decoded = celeba_files.decode(buffer.getvalue())
    assert (decoded[0] == decoded[1]).all()


def test_the_store_holds_what_the_rule_says(source, tmp_path):
    celeba.build(tmp_path / "out", tmp_path, source=str(source), seed=5)
    store = Store(tmp_path / "out")
    assert list(store.info.modalities) == ["image", "text"]
    assert store.info.labels.kind == "attributes"
    assert store.info.labels.names == ATTRIBUTES
    assert store.info.stand_in == "subset of CelebA: 20 of 202,599 images"
    assert [store.count(split) for split in celeba.SPLITS] == [14, 3, 3]
    first = 0
    for split in celeba.SPLITS:
        rows = slice(first, first := first + store.count(split))
        images = [celeba_files.decode(tiny.jpeg(seed)) for seed in range(tiny.COUNT)[rows]]
        np.testing.assert_array_equal(store.array(split, "image"), images)
        np.testing.assert_array_equal(store.labels(split), tiny.attributes()[rows])
        strings = [render(row, name, 5) for row, name in zip(tiny.attributes()[rows], tiny.NAMES[rows], strict=True)]
        assert text.decode(store.array(split, "text")) == strings
    assert (tmp_path / "out" / "preview.png").is_file()


def test_folder_zip_txt_and_csv_make_the_same_store(source, tmp_path):
    prints = []
    for step in (None, tiny.to_zip, tiny.to_csv):
        if step:
            step(source)
        celeba.build(tmp_path / "out", tmp_path, source=str(source), force=True)
        prints.append(Store(tmp_path / "out").fingerprint)
    assert len(set(prints)) == 1


def test_the_owners_own_folders_are_understood(source, tmp_path):
    """The download has Img/, Anno/ and Eval/, and unpacking its zip makes img_align_celeba/img_align_celeba."""
    for inner, name in (("Anno", "list_attr_celeba.txt"), ("Eval", "list_eval_partition.txt")):
        (source / inner).mkdir()
        (source / name).rename(source / inner / name)
    (source / "Img" / "img_align_celeba").mkdir(parents=True)
    (source / "img_align_celeba").rename(source / "Img" / "img_align_celeba" / "img_align_celeba")
    assert len(celeba_files.read(source).names) == tiny.COUNT


def rewritten(source: Path, parted, head: bool = True, ending: str = ".csv", count: bool = False) -> None:
    """Both lists again as other programs write them: ``parted`` joins the fields of a row with its number."""
    columns = {"list_attr_celeba": list(ATTRIBUTES), "list_eval_partition": ["partition"]}
    for name, header in columns.items():
        rows = [line.split() for line in (source / f"{name}.txt").read_text().splitlines() if ".jpg" in line]
        lines = [parted("", ["image_id", *header])] if head else [" ".join(header)] if len(header) > 1 else []
        lines += [parted(str(number), row) for number, row in enumerate(rows)]
        if count and len(header) > 1:
            lines.insert(0, str(len(rows)))
        (source / f"{name}.txt").unlink()
        (source / f"{name}{ending}").write_text("\r\n".join(lines) + "\r\n")


FORMS = {
    "quoted (csv.QUOTE_ALL)": lambda s: rewritten(s, lambda n, row: ",".join(f'"{v}"' for v in row)),
    "semicolons (Excel in Europe)": lambda s: rewritten(s, lambda n, row: ";".join(row)),
    "quoted semicolons": lambda s: rewritten(s, lambda n, row: "; ".join(f'"{v}"' for v in row)),
    "tabs": lambda s: rewritten(s, lambda n, row: "\t".join(row), ending=".tsv"),
    "numbered (pandas)": lambda s: rewritten(s, lambda n, row: ",".join([n, *row])),
    "numbered and quoted (R)": lambda s: rewritten(s, lambda n, row: ",".join(f'"{v}"' for v in [n, *row])),
    "trailing commas": lambda s: rewritten(s, lambda n, row: ",".join(row) + ",,", count=True),
    "official, renamed .csv": lambda s: rewritten(s, lambda n, row: "  ".join(row), head=False, count=True),
    "official, without its count": lambda s: rewritten(s, lambda n, row: " ".join(row), head=False, ending=".txt"),
    "a CSV renamed .txt": lambda s: rewritten(s, lambda n, row: ",".join(row), ending=".txt"),
    "fetched twice": lambda s: rewritten(s, lambda n, row: " ".join(row), head=False, count=True, ending=" (1).txt"),
    "fetched with two endings": lambda s: rewritten(s, lambda n, row: ",".join(row), ending=".csv.txt"),
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_are_read_as_people_have_them(source, form):
    wanted = celeba_files.read(source)
    FORMS[form](source)
    found = celeba_files.read(source)
    assert (found.names, found.damage) == (wanted.names, [])
    assert np.array_equal(found.attributes, wanted.attributes)
    assert np.array_equal(found.partition, wanted.partition)


def test_processes_and_no_processes_write_the_same(source, tmp_path, monkeypatch):
    tiny.to_zip(source)
    celeba.build(tmp_path / "one", tmp_path, source=str(source))
    monkeypatch.setattr(celeba_decoding, "_WORTH_A_PROCESS", 5)
    monkeypatch.setattr(celeba_decoding, "_BATCH", 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    celeba.build(tmp_path / "two", tmp_path, source=str(source))
    assert Store(tmp_path / "one").fingerprint == Store(tmp_path / "two").fingerprint


def test_decoding_processes_take_nothing_from_the_current_folder(source, tmp_path):
    """Python's helper processes import random.py and types.py; a user may have files of these names."""
    (tmp_path / "bin").mkdir()  # where a script lies, as bin/mmvae does, its folder is searched and not the current one
    (tmp_path / "bin" / "program.py").write_text(
        "import os\n"
        "from mmvae_cli import cli\n"
        "from mmvae_cli.datasets.celeba import decoding\n"
        "if __name__ == '__main__':\n"
        "    decoding._WORTH_A_PROCESS = 5\n"
        "    os.sched_getaffinity = lambda process: {0, 1}\n"
        "    cli.main()\n"
    )
    for name in ("random", "types", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the current folder was run')")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    options = ["make-dataset", "celeba", "--source", source, "--out", tmp_path / "x"]
    done = subprocess.run(
        [sys.executable, "bin/program.py", *options], cwd=tmp_path, env=clean, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout.decode()) == (0, f"{tmp_path / 'x'}\n"), done.stderr.decode()


@pytest.mark.parametrize(
    ("available", "limit", "expected"),
    [
        ([14, 3, 3], None, [14, 3, 3]),
        ([14, 3, 3], 99, [14, 3, 3]),
        ([7000, 1500, 1500], 1000, [700, 150, 150]),
        ([162770, 19867, 19962], 1000, [803, 98, 99]),
        ([1000, 2, 2], 3, [1, 1, 1]),
        ([100, 1, 1], 10, [8, 1, 1]),
    ],
)
def test_a_limit_is_shared_out_in_proportion(available, limit, expected):
    assert celeba.share_out(available, limit) == expected


def test_limit_keeps_the_first_images_and_their_texts(source, tmp_path):
    celeba.build(tmp_path / "all", tmp_path, source=str(source))
    celeba.build(tmp_path / "few", tmp_path, source=str(source), limit=10)
    whole, few = Store(tmp_path / "all"), Store(tmp_path / "few")
    assert [few.count(split) for split in celeba.SPLITS] == [7, 2, 1]
    for modality in celeba.MODALITIES:
        np.testing.assert_array_equal(few.array("train", modality), whole.array("train", modality)[:7])


# --- damage ----------------------------------------------------------------------------------------------------------


def edit(path: Path, change) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def drop_image(source):
    (source / "img_align_celeba" / "000004.jpg").unlink()


def add_images(source):
    for number in range(90, 95):
        (source / "img_align_celeba" / f"0000{number}.jpg").write_bytes(tiny.jpeg(1))


def truncate_image(source):
    path = source / "img_align_celeba" / "000002.jpg"
    path.write_bytes(path.read_bytes()[:2000])


def other_size(source):
    (source / "img_align_celeba" / "000016.jpg").write_bytes(tiny.jpeg(1, (100, 100)))


def no_jpeg(source):
    tiny.picture(1).save(source / "img_align_celeba" / "000003.jpg", "PNG")


def huge_image(source):
    path = source / "img_align_celeba" / "000003.jpg"
    path.write_bytes(path.read_bytes() + bytes(celeba_files.MAX_IMAGE_BYTES))


def wrong_count(source):
    edit(source / "list_attr_celeba.txt", lambda lines: ["21", *lines[1:]])


def wrong_count_renamed(source):
    wrong_count(source)
    (source / "list_attr_celeba.txt").rename(source / "list_attr_celeba.csv")


def short_row(source):
    edit(source / "list_attr_celeba.txt", lambda lines: [*lines[:6], lines[6].rsplit(None, 1)[0], *lines[7:]])


def strange_value(source):
    edit(source / "list_attr_celeba.txt", lambda lines: [*lines[:6], lines[6].replace("-1", "7", 1), *lines[7:]])


def repeated_row(source):
    edit(source / "list_attr_celeba.txt", lambda lines: ["21", *lines[1:], lines[5]])


def strange_split(source):
    edit(source / "list_eval_partition.txt", lambda lines: [lines[0][:-1] + "3", *lines[1:]])


def missing_split(source):
    edit(source / "list_eval_partition.txt", lambda lines: lines[1:])


def extra_split(source):
    edit(source / "list_eval_partition.txt", lambda lines: [*lines, "777777.jpg 0"])


def climbing_name(source):
    edit(
        source / "list_attr_celeba.txt", lambda lines: [*lines[:2], lines[2].replace("000001", "../000001"), *lines[3:]]
    )


DAMAGES = [
    (drop_image, "1 rows without an image (000004.jpg)", 19),
    (add_images, "5 images without a row in list_attr_celeba (000090.jpg, 000091.jpg, 000092.jpg, ...)", 20),
    (truncate_image, "1 unreadable images (000002.jpg: ", 19),
    (other_size, "1 unreadable images (000016.jpg: 100x100 pixels, not 178x218)", 19),
    (no_jpeg, "1 unreadable images (000003.jpg: cannot identify image file", 19),
    (huge_image, "1 unreadable images (000003.jpg: larger than 4194304 bytes)", 19),
    (wrong_count, "1 wrong header count in list_attr_celeba.txt (line 1 says '21', there are 20 rows)", 20),
    (wrong_count_renamed, "1 wrong header count in list_attr_celeba.csv (line 1 says '21', there are 20 rows)", 20),
    (short_row, "1 malformed rows in list_attr_celeba.txt (line 7)", 19),
    (strange_value, "1 malformed rows in list_attr_celeba.txt (line 7)", 19),
    (repeated_row, "1 repeated rows in list_attr_celeba.txt (000004.jpg, line 23)", 20),
    (strange_split, "1 malformed rows in list_eval_partition.txt (line 1)", 19),
    (missing_split, "1 rows of list_attr_celeba without a split (000001.jpg)", 19),
    (extra_split, "1 rows of list_eval_partition without attributes (777777.jpg)", 20),
    (climbing_name, "1 rows without an image (../000001.jpg)", 19),
]


@pytest.mark.parametrize(("damage", "message", "left"), DAMAGES, ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named_and_nothing_built_unless_it_may_be_skipped(mmvae, source, tmp_path, damage, message, left):
    damage(source)
    code, out, err = mmvae("--source", source)
    assert (code, out) == (3, "")
    assert message in err
    assert "nothing was built" in err
    assert "--skip-damaged" in err
    assert "Traceback" not in err
    assert list((tmp_path / "data").iterdir()) == []

    code, out, err = mmvae("--source", source, "--skip-damaged")
    assert code == 0, err
    assert f"left out: {message}" in err
    store = Store(tmp_path / "data" / "celeba")
    assert sum(store.count(split) for split in celeba.SPLITS) == left
    assert any(message in line for line in store.info.provenance["left_out"])


def test_skipping_an_image_keeps_the_others_with_their_texts(source, tmp_path):
    celeba.build(tmp_path / "all", tmp_path, source=str(source))
    truncate_image(source)
    celeba.build(tmp_path / "few", tmp_path, source=str(source), skip_damaged=True)
    whole, few = Store(tmp_path / "all"), Store(tmp_path / "few")
    for modality in celeba.MODALITIES:
        np.testing.assert_array_equal(few.array("train", modality), np.delete(whole.array("train", modality), 1, 0))
    np.testing.assert_array_equal(few.labels("train"), np.delete(whole.labels("train"), 1, 0))


def test_an_image_twice_in_the_zip_is_named(mmvae, source):
    tiny.to_zip(source)
    with zipfile.ZipFile(source / "img_align_celeba.zip", "a") as archive:
        archive.writestr("elsewhere/000001.jpg", tiny.jpeg(9))
    code, _, err = mmvae("--source", source)
    assert code == 3
    assert "1 images twice in img_align_celeba.zip (000001.jpg)" in err


def test_a_zip_with_backslashes_is_read(source, tmp_path):
    with zipfile.ZipFile(source / "img_align_celeba.zip", "w") as archive:
        for path in (source / "img_align_celeba").iterdir():
            archive.write(path, "img_align_celeba\\" + path.name)
            archive.writestr("__MACOSX\\._" + path.name, b"resource fork")
    shutil.rmtree(source / "img_align_celeba")
    assert len(celeba_files.read(source).names) == tiny.COUNT


def test_a_zip_writes_nothing_outside_and_is_not_unpacked(source, tmp_path):
    tiny.to_zip(source)
    with zipfile.ZipFile(source / "img_align_celeba.zip", "a") as archive:
        archive.writestr("../../evil.txt", b"x")
    before = sorted(tmp_path.rglob("*"))
    celeba.build(tmp_path / "out", tmp_path, source=str(source))
    assert sorted(path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")) == before


def test_a_corrupt_zip_member_is_an_unreadable_image(mmvae, source):
    tiny.to_zip(source)
    path = source / "img_align_celeba.zip"
    content = bytearray(path.read_bytes())
    content[content.index(b"img_align_celeba/000005.jpg") + 800] ^= 0xFF
    path.write_bytes(content)
    code, _, err = mmvae("--source", source)
    assert code == 3
    assert "1 unreadable images (000005.jpg: Bad CRC-32" in err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list_attr_celeba.txt", None, "has no list_attr_celeba.txt and no list_attr_celeba.csv"),
        ("list_eval_partition.txt", None, "has no list_eval_partition.txt"),
        ("list_attr_celeba.txt", b"", "is empty"),
        ("list_attr_celeba.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("list_attr_celeba.txt", b"1\nMale Young\n000001.jpg 1 1\n", "does not name CelebA's 40 attributes"),
        ("img_align_celeba.zip", b"<html>quota exceeded</html>", "is no readable zip file"),
        (
            "list_eval_partition.txt",
            "".join(f"{n} 0\n" for n in tiny.NAMES).encode(),
            "no image in the split validation",
        ),
    ],
)
def test_unusable_files_are_refused_whatever_may_be_skipped(mmvae, source, tmp_path, name, content, message):
    if name.endswith(".zip"):
        tiny.to_zip(source)
    (source / name).unlink()
    if content is not None:
        (source / name).write_bytes(content)
    code, out, err = mmvae("--source", source, "--skip-damaged")
    assert (code, out) == (3, "")
    assert message in err
    assert "hint:" in err
    assert list((tmp_path / "data").iterdir()) == []


# --- the command -----------------------------------------------------------------------------------------------------


def test_source_must_be_a_folder(mmvae, tmp_path):
    code, _, err = mmvae("--source", tmp_path / "nowhere")
    assert code == 3
    assert "is no folder" in err


def test_the_official_files_in_the_data_folder_are_found_and_never_replaced(mmvae, tmp_path):
    tiny.write(tmp_path / "data" / "celeba")
    code, _, err = mmvae("--force")
    assert code == 2
    assert "holds the official files" in err
    assert "--out" in err
    assert len(list((tmp_path / "data" / "celeba" / "img_align_celeba").iterdir())) == 20
    code, out, err = mmvae("--out", tmp_path / "made")
    assert code == 0, err
    assert out.splitlines()[-1] == str(tmp_path / "made")


def test_without_files_the_download_is_tried_and_its_failure_explained(mmvae, monkeypatch, tmp_path):
    import torchvision.datasets

    def refuse(*arguments, **options):
        raise RuntimeError("Too many users have\nviewed this file")

    monkeypatch.setattr(torchvision.datasets, "CelebA", refuse)
    code, _, err = mmvae()
    assert code == 3
    assert "CelebA could not be downloaded (RuntimeError: Too many users have viewed this file)" in err
    assert "--source embedded" in err
    assert not (tmp_path / "data" / "celeba").exists()


def test_a_download_is_read_like_any_source_and_found_again(mmvae, monkeypatch, tmp_path):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CelebA", lambda root, **options: tiny.write(Path(root) / "celeba"))
    assert mmvae()[0] == 0
    monkeypatch.setattr(torchvision.datasets, "CelebA", None)
    assert mmvae("--force")[0] == 0


def test_a_download_that_broke_off_is_not_taken_for_a_source(mmvae, monkeypatch, tmp_path):
    import torchvision.datasets

    (tiny.write(tmp_path / "data" / "sources" / "celeba") / "list_eval_partition.txt").unlink()
    monkeypatch.setattr(torchvision.datasets, "CelebA", None)
    code, _, err = mmvae()
    assert code == 3
    assert "could not be downloaded" in err


def test_a_full_disk_is_one_line_and_leaves_nothing(mmvae, source, monkeypatch, tmp_path):
    def full(descriptor, offset, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    code, _, err = mmvae("--source", source)
    assert code == 1
    assert "No space left on device" in err
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "2"], "--limit 2 is below the 3 splits"),
        (["--count", "50"], "--count has no effect without --source embedded"),
        (["--source", "embedded", "--count", "9"], "--count 9 is below 10"),
    ],
)
def test_wrong_settings_are_refused(mmvae, tmp_path, options, message):
    code, _, err = mmvae(*options)
    assert code == 2
    assert message in err
    assert not (tmp_path / "data" / "celeba").exists()


def test_an_existing_dataset_is_kept_without_force(mmvae, source, tmp_path):
    assert mmvae("--source", source)[0] == 0
    before = Store(tmp_path / "data" / "celeba").fingerprint
    code, _, err = mmvae("--source", source, "--seed", "1")
    assert code == 2
    assert "--force" in err
    assert Store(tmp_path / "data" / "celeba").fingerprint == before
    assert mmvae("--source", source, "--seed", "1", "--force")[0] == 0
    assert Store(tmp_path / "data" / "celeba").fingerprint != before


def test_json_is_one_document_with_the_stand_in(mmvae):
    code, out, _ = mmvae("--source", "embedded", "--count", "30", "--json")
    assert code == 0
    known = json.loads(out)
    assert known["counts"] == {"train": 24, "validation": 3, "test": 3}
    assert known["stand_in"] == "generated cartoon faces, not CelebA"


def test_the_parts_that_read_data_import_no_torch():
    code = "import sys; from mmvae_cli.datasets.celeba import build; print({'torch', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Path:
    folder = Path(os.environ.get("MMVAE_TEST_DATA", "/nonexistent")) / "celeba"
    if not folder.is_dir():
        pytest.skip("MMVAE_TEST_DATA names no folder with celeba/")
    return folder


@pytest.mark.realdata
@pytest.mark.slow
def test_real_faces_have_celebas_frequencies(real, tmp_path):
    celeba.build(tmp_path / "out", tmp_path, source=str(real), limit=3000)
    store = Store(tmp_path / "out")
    assert [store.count(split) for split in celeba.SPLITS] == [2100, 450, 450]
    shares = dict(zip(ATTRIBUTES, store.labels("train").mean(0), strict=True))
    for name, share in {"Male": 0.417, "Young": 0.774, "Smiling": 0.482, "Bald": 0.022}.items():
        assert abs(shares[name] - share) < 0.05
    faces = celeba_files.read(real)
    row = int(np.flatnonzero(faces.partition == 1)[0])
    expected = celeba_files.decode(celeba_files.open_images(real).read(faces.names[row]))
    np.testing.assert_array_equal(store.array("validation", "image")[0], expected)


def wait_until_gone(group: int) -> None:
    """Fail where a process of the group outlives the command by seconds (Python's resource tracker takes a moment)."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a process outlived the command")


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.6])  # while processes start, just after, while they decode
def test_a_stop_signal_leaves_nothing_and_no_process(real, tmp_path, delay):
    options = ["make-dataset", "celeba", "--source", str(real), "--out", str(tmp_path / "x")]
    command = [sys.executable, "-m", "mmvae_cli", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list(tmp_path.glob(".x.tmp-*/test/image.npy")):
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGTERM)  # as a cluster does: to every process of the job
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "nothing was written" in err
    assert list(tmp_path.iterdir()) == []
    wait_until_gone(process.pid)


@pytest.mark.realdata
@pytest.mark.slow
def test_a_killed_build_leaves_no_process_and_the_next_one_clears_up(real, tmp_path):
    options = ["make-dataset", "celeba", "--source", str(real), "--out", str(tmp_path / "x")]
    process = subprocess.Popen([sys.executable, "-m", "mmvae_cli", *options], start_new_session=True)
    while not list(tmp_path.glob(".x.tmp-*/test/image.npy")):
        time.sleep(0.02)
    time.sleep(0.8)
    process.kill()
    process.wait()
    wait_until_gone(process.pid)
    assert [path.name for path in tmp_path.iterdir()] == [f".x.tmp-{own_mark().rpartition('-')[0]}-{process.pid}"]
    celeba.build(tmp_path / "x", tmp_path, source=str(real), limit=20)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# --- attributes as a vector ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [18, 40])
def test_attributes_are_a_vector_too(source, tmp_path, count):
    celeba.build(tmp_path / "store", tmp_path, source=str(source), attributes=count)
    store = Store(tmp_path / "store")
    info = store.info.modalities["attributes"]
    assert (info.kind, info.shape) == ("vector", (count,))
    columns = [ATTRIBUTES.index(name) for name in info.features]
    for split in celeba.SPLITS:
        assert np.array_equal(store.array(split, "attributes")[:], store.labels(split)[:, columns])


def test_the_18_attributes_are_those_of_mvae():
    names = [ATTRIBUTES[column] for column in celeba.COLUMNS[18]]
    assert names[:4] == ["Bald", "Bangs", "Black_Hair", "Blond_Hair"]
    assert names[-3:] == ["Straight_Hair", "Wavy_Hair", "Wearing_Hat"]


def test_another_number_of_attributes_is_refused(mmvae, source):
    code, _, said = mmvae("--source", source, "--attributes", 7)
    assert code == 2
    assert "--attributes 7: there are the 18 of MVAE, or all 40" in said
