"""Data of the user's own: what a table or arrays become, what is guessed, and every input that is refused."""

import csv
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from mmvae_cli import recipe as recipes
from mmvae_cli.cli import app
from mmvae_cli.datasets import placing
from mmvae_cli.datasets.own import splits
from mmvae_cli.process.errors import DataProblem, Failure, UsageProblem
from mmvae_cli.store import Store, text
from mmvae_cli.store.fitting import check_store

WORDS = ("cat", "dog", "owl")
HEADER = ["id", "photo_file_name", "scan_file_name", "note", "age", "bmi", "label"]


@pytest.fixture
def items(tmp_path, monkeypatch):
    """Rows of a table beside whose file the pictures lie; a test may spoil a cell before it writes them."""
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "pics").mkdir()
    for item in range(30):
        colours = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(colours).save(tmp_path / f"pics/p{item}.png")
        Image.fromarray(colours[..., 0]).save(tmp_path / f"pics/s{item}.png")
        rows.append([str(item), f"pics/p{item}.png", f"pics/s{item}.png", f"A {WORDS[item % 3]}, no. {item}",
                     str(20 + item), f"{rng.normal():.3f}", WORDS[item % 3]])  # fmt: skip
    return rows


def write(rows, header=HEADER, name="items.csv"):
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def make(*options, verb="table", source="items.csv"):
    """Raises what the command raises."""
    done = CliRunner().invoke(app, ["make-dataset", verb, source, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_a_table_needs_no_flags(items, tmp_path):
    write(items)
    said = make("--recipe", "mine.yaml").stderr
    store = Store(tmp_path / "data" / "items")
    known = store.info.modalities
    assert {name: (m.kind, m.shape) for name, m in known.items()} == {
        "photo": ("image", (3, 12, 16)), "scan": ("image", (1, 12, 16)), "note": ("text", (13,)),
        "numbers": ("vector", (2,)),
    }  # fmt: skip
    assert store.info.labels.names == WORDS
    assert (store.count("train"), store.count("test")) == (27, 3)
    assert sorted(store.labels("test")) == [0, 1, 2]
    for flag in ("photo=image:photo_file_name", "note=text:note", "numbers=vector:age,bmi", "--label label",
                 "--key id", "--size 12x16", "--test 0.1"):  # fmt: skip
        assert flag in said
    assert json.loads((tmp_path / "data/items/dataset.json").read_text())["stand_in"] is None


def test_own_pictures_given_twice_are_noted_and_make_no_stand_in(items, tmp_path):
    for row in items[1:]:
        shutil.copy(items[0][1], row[1])
    write(items)
    make()
    info = Store(tmp_path / "data" / "items").info
    assert info.stand_in is None
    assert info.repeated == "3 of 6 test images are training images too (photo)"


def test_a_preview_shows_items_that_have_all(items, tmp_path):
    """Where there are enough of them: a class with one such item fills up with others."""
    for item, row in enumerate(items):
        row[1] = "" if item % 6 == 0 else row[1]  # of class 0 every second
        row[2] = "" if item % 3 == 1 and item > 1 else row[2]  # of class 1 all but one
    write(items)
    make("--test", "0.9")
    folder = tmp_path / "data" / "items"
    shown = placing.preview(folder, Store(folder).info)
    holes = [
        any(isinstance(cell, str) and cell == "absent" for cell in column) for column in zip(*shown.rows, strict=True)
    ]
    assert holes[:3] + holes[6:] == [False] * 6
    assert 1 <= holes[3:6].count(False) < 3, "the one complete item of its class is among them"
    assert shown.column_labels == ["cat"] * 3 + ["dog"] * 3 + ["owl"] * 3


def test_every_row_keeps_its_own_content(items, tmp_path):
    write(items)
    make()
    store = Store(tmp_path / "data" / "items")
    for split in ("train", "test"):
        known = store.info.modalities["numbers"]
        ages = store.array(split, "numbers")[:, 0] * known.deviations[0] + known.means[0]
        notes = text.decode(store.array(split, "note")[:], alphabet=store.info.modalities["note"].alphabet)
        for row, age in enumerate(np.round(ages).astype(int)):
            item = age - 20
            assert notes[row].strip() == items[item][3].lower()
            assert np.array_equal(
                store.array(split, "photo")[row].transpose(1, 2, 0), np.asarray(Image.open(items[item][1]))
            )
            assert np.array_equal(store.array(split, "scan")[row][0], np.asarray(Image.open(items[item][2])))
            assert WORDS[store.labels(split)[row]] == items[item][6]


def test_vectors_are_standardised_by_the_training_items(items, tmp_path):
    write(items)
    make()
    train = Store(tmp_path / "data" / "items").array("train", "numbers")[:]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)


def test_the_flags_that_are_printed_make_the_same_dataset(items, tmp_path):
    write(items)
    said = make("--out", "first").stderr
    line = next(line for line in said.splitlines() if "read as: " in line)
    make(*line.split("read as: ")[1].split(), "--out", "second")
    assert Store(tmp_path / "first").fingerprint == Store(tmp_path / "second").fingerprint


def test_json_lines_are_read_like_a_table(items, tmp_path):
    write(items)
    make("--out", "first")
    lines = [json.dumps(dict(zip(HEADER, row, strict=True)) | {"age": int(row[4])}) for row in items]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    make("--out", "second", source="items.jsonl")
    assert Store(tmp_path / "first").fingerprint == Store(tmp_path / "second").fingerprint


def test_the_recipe_fits_the_data(items, tmp_path):
    write(items)
    make("--recipe", "mine.yaml", "--out", "elsewhere", "--raw", "numbers", "--name", "own")
    recipe = recipes.validate(yaml.safe_load((tmp_path / "mine.yaml").read_text()), "mine.yaml")
    assert recipes.dataset_folder(recipe, tmp_path / "data") == tmp_path / "elsewhere"
    check_store(Store(tmp_path / "elsewhere"), recipe)
    assert recipe.name == "own"


def test_pictures_are_turned_cropped_and_resized(items, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:16] = 255  # white above black once it is turned
    Image.fromarray(np.rot90(upright)).save("pics/p0.png", exif=exif)
    items[0][1] = "pics/p0.png"
    write(items)
    make("--size", "8x8", "--test", "0.2")
    store = Store(tmp_path / "data" / "items")
    assert store.info.modalities["photo"].shape == (3, 8, 8)
    found = [np.concatenate([store.array(s, "photo")[:] for s in ("train", "test")])]
    turned = [p for p in found[0] if p[:, 0].min() > 200 and p[:, -1].max() < 50]
    assert len(turned) == 1


def test_a_split_column_is_followed(items, tmp_path):
    rows = [[*row, "test" if int(row[0]) % 3 == 0 else "val" if int(row[0]) == 1 else "train"] for row in items]
    write(rows, [*HEADER, "split"])
    make()
    store = Store(tmp_path / "data" / "items")
    assert {split: store.count(split) for split in store.info.splits} == {"train": 19, "validation": 1, "test": 10}
    with pytest.raises(UsageProblem, match=r"--test has no effect: items\.csv has a column split"):
        make("--test", "0.2", "--force")


def test_groups_stay_whole(items, tmp_path):
    rows = [[*row, f"patient {int(row[0]) // 5}"] for row in items]
    write(rows, [*HEADER, "patient"])
    make("--group", "patient", "--test", "0.3")
    store = Store(tmp_path / "data" / "items")
    known = store.info.modalities["numbers"]
    ages = {split: np.round(store.array(split, "numbers")[:, 0] * known.deviations[0] + known.means[0]).astype(int) - 20
            for split in ("train", "test")}  # fmt: skip
    patients = {split: set((numbers // 5).tolist()) for split, numbers in ages.items()}
    assert patients["train"].isdisjoint(patients["test"])
    assert store.count("test") in (5, 10)


def test_labels_of_one_number_written_in_several_ways_have_one_order():
    assert splits.labels_of(["1", "0001", "2", "01", "001"])[1].names == ("0001", "001", "01", "1", "2")


def test_a_label_of_any_length_is_a_label(items, tmp_path):
    for number, row in enumerate(items):
        row[6] = ("9" * 5000, "word" * 5000)[number % 2]
    write(items)
    make()
    store = Store(tmp_path / "data" / "items")
    assert store.info.labels.names == ("9" * 5000, "word" * 5000)
    assert max(placing.preview(store.folder, store.info).image().size) < 5000


def test_splits_are_drawn_alike_for_a_seed_and_evenly_over_labels():
    codes = np.arange(1000) % 4
    first, again = (splits.chosen(None, "", "", 1000, 0.1, 3, codes) for _ in range(2))
    assert np.array_equal(first["test"], again["test"])
    assert not np.array_equal(first["test"], splits.chosen(None, "", "", 1000, 0.1, 4, codes)["test"])
    assert np.bincount(codes[first["test"]]).tolist() == [25] * 4
    assert sorted(np.concatenate(list(first.values())).tolist()) == list(range(1000))
    assert not np.array_equal(np.diff(first["test"]), np.full(99, 10))


@pytest.mark.parametrize("share", [0.5, 0.7, 0.85])
def test_a_large_share_is_as_many_items_as_asked_for(share):
    for count in (8, 18, 28, 38):
        for seed in range(20):
            assert len(splits.chosen(None, "", "", count, share, seed, np.arange(count) % 3)["test"]) == round(
                share * count
            )


@pytest.mark.parametrize(("row", "column", "cell", "message"), [
    (4, 4, "", r"items.csv line 6, column age: is empty, and other numbers of the item are there"),
    (4, 6, "", r"items.csv line 6, column label: is empty, and every item has one"),
    (4, 4, "old", r"items.csv line 6, column age: 'old' is no number"),
    (4, 4, "nan", r"items.csv line 6, column age: 'nan' is not a finite number"),
    (4, 4, "1e999", r"items.csv line 6, column age: '1e999' is not a finite number"),
    (4, 0, "2", r"items.csv line 6, column id: '2' stands in line 4 too"),
    (4, 1, "items.csv", r"line 6, column photo_file_name: items.csv cannot be read as a picture"),
])  # fmt: skip
def test_a_bad_cell_is_named_and_nothing_written(items, tmp_path, row, column, cell, message):
    items[row][column] = cell
    write(items)
    with pytest.raises(DataProblem, match=message):
        make("--recipe", "mine.yaml")
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "mine.yaml").exists()


HOLES = {1: (1, 3), 2: (2,), 3: (4, 5), 7: (1, 2, 3)}
"""Row -> columns that are empty."""


def with_holes(items):
    for row, columns in HOLES.items():
        for column in columns:
            items[row][column] = ""
    items[9][1] = "pics/gone.png"
    return items


def test_empty_cells_and_missing_files_are_what_an_item_lacks(items, tmp_path):
    write(with_holes(items), [*HEADER[:4], "age", "bmi", "label"])
    said = make("--recipe", "mine.yaml").stderr
    store = Store(tmp_path / "data" / "items")
    assert store.info.version == 2
    assert "photo: 1 of 30 pictures are not there, and their items lack it (line 11: pics/gone.png)" in said
    assert "note: incomplete items: photo 90%, scan 93%, note 93%, numbers 97% are there; 25 of 30 are complete" in said
    seen = {}
    for split in ("train", "test"):
        table = store.present(split, ["photo", "scan", "note", "numbers"])
        table = np.ones((store.count(split), 4), bool) if table is None else table
        known = store.info.modalities["numbers"]
        for row, has in enumerate(table):
            if has[3]:
                numbers = store.array(split, "numbers")[
                    store.index(split, "numbers")[row] if not table[:, 3].all() else row
                ]
                seen[round(numbers[0] * known.deviations[0] + known.means[0]) - 20] = has.tolist()
    assert [row for row, has in seen.items() if not has[0]] == sorted([1, 7, 9], key=list(seen).index)
    assert seen[2] == [True, False, True, True]
    assert set(range(30)) - set(seen) == {3}
    np.testing.assert_allclose(store.array("train", "numbers")[:].mean(0), 0, atol=1e-5)
    recipe = recipes.validate(yaml.safe_load((tmp_path / "mine.yaml").read_text()), "mine.yaml")
    check_store(store, recipe)


def test_a_row_with_nothing_is_refused_by_its_key(items, tmp_path):
    for column in (1, 2, 3, 4, 5):
        items[4][column] = ""
    write(items)
    with pytest.raises(
        DataProblem, match=r"items.csv line 6 \(id 4\): has nothing: no photo and no scan and no note and no numbers"
    ):
        make()
    make("--skip-damaged")
    assert sum(Store(tmp_path / "data" / "items").count(split) for split in ("train", "test")) == 29


def test_pictures_that_are_all_missing_are_a_mistake(items):
    for row in items:
        row[1] = row[1].replace("pics", "picture")
    write(items)
    with pytest.raises(DataProblem, match=r"line 2, column photo_file_name: .* is not there, nor is any other"):
        make()


def test_a_modality_that_no_training_item_has_is_named(items):
    rows = [[*row, "test" if int(row[0]) < 4 else "train"] for row in items]
    for row in rows[4:]:
        row[3] = ""
    write(rows, [*HEADER, "split"])
    with pytest.raises(DataProblem, match=r"items.csv: no training item has note"):
        make("--modality", "note=text:note", "--modality", "numbers=vector:age,bmi")


def test_a_row_without_its_group_is_left_out_like_one_without_its_label(items):
    rows = [[*row, f"g{int(row[0]) % 5}"] for row in items]
    rows[7][-1] = ""
    write(rows, [*HEADER, "patient"])
    with pytest.raises(DataProblem, match="line 9, column patient: is empty"):
        make("--group", "patient")
    said = make("--group", "patient", "--skip-damaged").stderr
    assert "left out: 1 of 30 rows" in said
    assert "line 9, column patient" in said


def test_damaged_rows_are_left_out_and_named(items, tmp_path):
    whole = (tmp_path / "pics/p3.png").read_bytes()
    (tmp_path / "pics/p3.png").write_bytes(whole[: len(whole) // 2])
    items[5][4], items[8][6], items[9][1] = "old", "", "items.csv"
    write(items)
    said = make("--skip-damaged").stderr
    store = Store(tmp_path / "data" / "items")
    assert sum(store.count(split) for split in ("train", "test")) == 26
    assert "left out: 4 of 30 rows" in said
    for what in ("line 5, column photo_file_name", "line 7, column age: 'old'", "line 10, column label", "line 11"):
        assert what in said
    with pytest.raises(DataProblem, match="line 10, column label"):
        make("--force")


def test_parquet_is_read_like_a_table(items, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write(with_holes(items))
    make("--out", "first")
    columns = {name: [row[c] or None for row in items] for c, name in enumerate(HEADER)}
    columns |= {"age": [float(age) if age else float("nan") for age in columns["age"]]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "items.parquet")
    make("--out", "second", source="items.parquet")
    first, second = (Store(tmp_path / name) for name in ("first", "second"))
    assert first.info.files == second.info.files
    (tmp_path / "items.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataProblem, match="cannot be read as Parquet"):
        make("--out", "third", source="items.parquet")


def test_parquet_without_its_package_is_one_line(items, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "items.parquet").write_bytes(b"")
    with pytest.raises(UsageProblem, match="needs the package pyarrow") as problem:
        make(source="items.parquet")
    assert "pip install 'mmvae-cli[parquet]'" in problem.value.hint


ODD = {
    "transparency": lambda: Image.new("RGBA", (12, 12), (1, 2, 3, 4)),
    "16 bits a pixel": lambda: Image.new("I;16", (12, 12)),
    "mode CMYK": lambda: Image.new("CMYK", (12, 12)),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_odd_pictures_are_named(items, what):
    suffix = "jpg" if what == "mode CMYK" else "png"
    ODD[what]().save(f"pics/odd.{suffix}")
    items[3][1] = f"pics/odd.{suffix}"
    write(items)
    with pytest.raises(DataProblem, match=f"line 5, column photo_file_name: .*odd.{suffix} has {what}"):
        make()


@pytest.mark.parametrize("cell", ["pics/" + 300 * "a" + ".png", 5000 * "b/" + "c.png"])
def test_a_path_too_long_for_any_disk_is_a_picture_that_is_not_there(items, cell):
    items[3][1] = cell
    write(items)
    assert "1 of 30 pictures are not there" in make().stderr


def test_a_palette_with_a_clear_colour_is_named(items):
    Image.new("P", (12, 12)).save("pics/odd.png", transparency=0)
    items[3][1] = "pics/odd.png"
    write(items)
    with pytest.raises(DataProblem, match=r"odd.png has transparency"):
        make()


@pytest.mark.parametrize("kind", ["opaque", "phone"])
def test_pictures_as_screens_and_phones_write_them_are_read_like_others(items, kind, tmp_path):
    """An alpha channel that hides nothing, and a JPEG that a phone's further pictures follow."""
    with Image.open(items[3][1]) as file:
        picture = file.convert("RGB")
    if kind == "opaque":
        picture.save("pics/plain.png")
        picture.convert("RGBA").save("pics/odd.png")
    else:
        picture.save("pics/plain.jpg")
        picture.save("pics/odd.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (6, 6))])
    stores = []
    for name in ("plain", "odd"):
        items[3][1] = next(map(str, Path("pics").glob(f"{name}.*")))
        write(items)
        make("--out", name)
        stores.append(Store(tmp_path / name).info.files)
    assert stores[0] == stores[1]


def test_a_picture_that_ends_early_leaves_nothing(items, tmp_path):
    whole = (tmp_path / "pics/p3.png").read_bytes()
    (tmp_path / "pics/p3.png").write_bytes(whole[: len(whole) // 2])
    write(items)
    with pytest.raises(
        DataProblem, match=r"line 5, column photo_file_name: .*p3.png cannot be read as a picture"
    ) as problem:
        make()
    assert problem.value.hint.endswith("--skip-damaged")
    assert not [path for path in (tmp_path / "data").glob("**/*") if path.is_file()]


def test_constant_columns_are_named(items):
    for row in items:
        row[4] = "40"
    write(items)
    with pytest.raises(DataProblem, match=r"items.csv, column age: is 40 in every training item"):
        make()
    make("--raw", "numbers")


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_tables_as_spreadsheets_write_them(between, suffix, tmp_path, monkeypatch):
    """With semicolons decimals have a comma; empty rows stand at the end; byte order mark and line ends of Windows."""
    monkeypatch.chdir(tmp_path)
    comma = "," if between == ";" else "."
    rows = [["id", "a", "b"], *([f"s{item}", f"-{item}{comma}5", f"{item}e1"] for item in range(20)), [" ", "", ""]]
    text = "".join(between.join(row) + "\r\n" for row in rows)
    (tmp_path / f"items.{suffix}").write_bytes(text.encode("utf-8-sig"))
    make(source=f"items.{suffix}")
    store = Store(tmp_path / "data" / "items")
    assert store.info.modalities["numbers"].features == ("a", "b")
    assert sum(store.count(split) for split in store.info.splits) == 20


def test_labels_and_texts_that_read_alike_are_alike(items, tmp_path):
    """An accent is a character of its own, or part of its letter: a Mac writes names in the first way."""
    for number, row in enumerate(items):
        row[6] = ("né", "ne\u0301")[number % 2]
        row[3] = f"{row[6]} {number}"
    write(items)
    make()
    info = Store(tmp_path / "data" / "items").info
    assert info.labels.names == ("né",)
    assert set(info.modalities["note"].alphabet) == set(" né0123456789")


@pytest.mark.parametrize(("content", "message"), [
    ("", "header has no names"), ("a,b\n", "has no rows"), ("a,a\n1,2\n", "header has the same name twice"),
    ("a,\n1,2\n", "header has an empty name"), ("1,2\n3,4\n", "header has numbers only"),
    ("a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, the header 2"), ('a,b\n"x,2\n', "line 2: unexpected end of data"),
    ("a,b\n\udcff,2\n", "is not UTF-8"),
])  # fmt: skip
def test_what_is_no_table(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataProblem, match=message):
        make()


@pytest.mark.parametrize(("content", "message"), [
    ('{"a": 1}\n{"a": \n', "line 2 is no JSON"), ("[1]\n", "line 1 is no JSON object"),
    ('{"a": ' + "9" * 5000 + "}\n", "line 1 is no JSON"),
    ('{"a": 1}\n{"a": [2]}\n', r"line 2, column a: \[2\] is neither text nor a number"),
    ('{"a": 1}\n' * 20 + '{"b": 2}\n', "line 1, column b: is empty, and other numbers"),
])  # fmt: skip
def test_what_are_no_json_lines(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.jsonl").write_text(content)
    with pytest.raises(DataProblem, match=message):
        make(source="items.jsonl")


@pytest.mark.parametrize(("options", "message"), [
    (["--modality", "photo"], "write NAME=KIND:COLUMN"), (["--modality", "photo=film:x"], "write NAME=KIND"),
    (["--modality", "a=text:note,age"], "text data have one column"),
    (["--modality", "a=text:nota"], "no column 'nota'"),
    (["--label", "species"], "--label: items.csv has no column 'species'"),
    (["--raw", "lab"], "--raw lab: no such vector"),
    (["--size", "64"], "--size 64: height and width"), (["--test", "1.5"], "--test 1.5: a share between 0 and 1"),
    (["--modality", "a b=text:note"], "'a b' cannot name a modality"),
    (["--modality", "labels=text:note"], "'labels' cannot name a modality"),
    (["--modality", "shared=text:note"], "'shared' cannot name a modality"),
    (["--test", "0.001"], "none would be left"), (["--name", "a b"], "'a b' cannot name a dataset"),
    (["--recipe", "items.csv", "--force"], "--recipe items.csv: a recipe is a .yaml file"),
    (["--modality", "a=text:note", "--modality", "a=vector:age"], "two modalities have the same name"),
])  # fmt: skip
def test_wrong_options(items, options, message):
    write(items)
    with pytest.raises(UsageProblem, match=message):
        make(*options)


def test_a_missing_table_and_an_existing_recipe(items, tmp_path):
    with pytest.raises(DataProblem, match=r"none.csv is not there"):
        make(source="none.csv")
    write(items)
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(UsageProblem, match=r"mine.yaml exists"):
        make("--recipe", "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_columns_of_any_name_are_guessed(items, tmp_path):
    write(items, [*HEADER[:3], "A note (free)", *HEADER[4:]])
    assert "'A_note_free=text:A note (free)'" in make().stderr
    assert "A_note_free" in Store(tmp_path / "data" / "items").info.modalities


def test_paths_of_pictures_are_pictures_whatever_the_column_is_called(items, tmp_path):
    write(items, ["id", "Photo of it", *HEADER[2:]])
    assert "'Photo_of_it=image:Photo of it'" in make().stderr
    assert Store(tmp_path / "data" / "items").info.modalities["Photo_of_it"].kind == "image"


def test_captions_that_come_again_are_texts(items):
    for number, row in enumerate(items):
        row[3] = ("A cat on a mat", "two dogs in snow")[number % 2]
    write(items)
    assert "--modality note=text:note" in make().stderr


def test_long_texts_and_foreign_letters_are_told(items, tmp_path):
    items[2][3], items[5][3] = "x" * 5000, "Käse \t 大"
    write(items)
    assert "note: 1 of 30 texts are cut to 4096 characters" in make().stderr
    known = Store(tmp_path / "data" / "items").info.modalities["note"]
    assert set("ä大") < set(known.alphabet)
    assert known.alphabet[0] == known.fill == " "
    items[3][3] = "".join(chr(0x4E00 + i) for i in range(300))
    write(items)
    assert "characters are beyond the 256 most frequent ones and become blanks" in make("--force").stderr


# arrays --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    return {"m0": rng.integers(0, 256, (40, 3, 8, 8), dtype=np.uint8), "rna": rng.poisson(3, (40, 6)),
            "word": np.array(["cat", "owl"] * 20), "labels": np.arange(40) % 4}  # fmt: skip


def test_arrays_become_a_dataset(arrays, tmp_path):
    np.savez("data.npz", **arrays)
    make("--raw", "rna", "--recipe", "mine.yaml", verb="arrays", source="data.npz")
    store = Store(tmp_path / "data" / "data")
    assert {name: (m.kind, m.shape) for name, m in store.info.modalities.items()} == {
        "m0": ("image", (3, 8, 8)), "rna": ("vector", (6,)), "word": ("text", (3,))}  # fmt: skip
    everything = np.concatenate([store.array(split, "rna")[:] for split in ("train", "test")])
    assert sorted(map(tuple, everything)) == sorted(map(tuple, arrays["rna"].astype(np.float32)))
    recipe = recipes.validate(yaml.safe_load((tmp_path / "mine.yaml").read_text()), "mine.yaml")
    assert recipe.modalities["rna"].likelihood == "negative_binomial"
    check_store(store, recipe)


def test_arrays_say_what_is_missing(arrays, tmp_path):
    """By a mask, nan in a whole row, or an empty string."""
    there = np.arange(40) % 3 > 0
    arrays["rna"] = np.where(np.arange(40)[:, None] % 5, arrays["rna"], np.nan)
    arrays["word"][7:9] = ""
    np.savez("data.npz", **arrays, m0_present=there)
    assert "m0 65%, rna 80%, word 95% are there" in make("--raw", "rna", verb="arrays", source="data.npz").stderr
    store = Store(tmp_path / "data" / "data")
    tables = [store.present(split, ["m0", "rna", "word"]) for split in ("train", "test")]
    assert sum(np.ones((store.count("test"), 3)).sum(0) if t is None else t.sum(0) for t in tables).tolist() == [
        26,
        32,
        38,
    ]
    assert store.array("train", "m0").shape[0] == tables[0][:, 0].sum()
    arrays["word"][0] = ""
    np.savez("data.npz", **arrays, m0_present=there)
    with pytest.raises(DataProblem, match=r"data.npz, row 0: has nothing: no m0 and no rna and no word"):
        make("--force", verb="arrays", source="data.npz")


def test_a_folder_of_arrays_is_the_same(arrays, tmp_path):
    np.savez("data.npz", **arrays)
    (tmp_path / "folder").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / f"folder/{name}.npy", array)
    make("--out", "first", "--name", "x", verb="arrays", source="data.npz")
    make("--out", "second", "--name", "x", verb="arrays", source="folder")
    assert Store(tmp_path / "first").fingerprint == Store(tmp_path / "second").fingerprint


def test_a_table_keeps_the_names_of_its_items(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"s{item},{item}.5,{item % 7}" for item in range(20)]
    (tmp_path / "items.csv").write_text("\n".join(["id,a,b", *rows, ""]))
    make(source="items.csv")
    store = Store(tmp_path / "data" / "items")
    values = np.concatenate([store.array(split, "numbers")[:] for split in ("train", "test")])
    keys = np.concatenate([store.keys(split) for split in ("train", "test")])
    known = store.info.modalities["numbers"]
    assert keys.tolist() == [f"s{int(a)}" for a in values[:, 0] * known.deviations[0] + known.means[0]]


def test_without_names_latents_say_where_an_item_stood(tmp_path, monkeypatch, arrays):
    monkeypatch.chdir(tmp_path)
    rows = [f"{item},{item}.5" for item in range(20)]
    rows[3] = "3,"
    (tmp_path / "items.csv").write_text("\n".join(["a,b", *rows, ""]))
    make("--skip-damaged", source="items.csv")
    store = Store(tmp_path / "data" / "items")
    known = store.info.modalities["numbers"]
    for split in ("train", "test"):
        a = store.array(split, "numbers")[:][:, 0] * known.deviations[0] + known.means[0]
        assert store.keys(split).tolist() == [f"line {round(number) + 2}" for number in a], "as an editor counts them"
    np.savez("data.npz", **arrays)
    make(verb="arrays", source="data.npz")
    store = Store(tmp_path / "data" / "data")
    assert {*store.keys("train"), *store.keys("test")} == {f"row {item}" for item in range(len(arrays["labels"]))}


def test_strings_of_bytes_are_the_same_strings(arrays, tmp_path):
    np.savez("data.npz", **arrays)
    np.savez("bytes.npz", **(arrays | {"word": np.char.encode(arrays["word"], "utf-8")}))
    for source in ("data", "bytes"):
        make("--name", "x", "--out", f"from_{source}", verb="arrays", source=f"{source}.npz")
    assert Store(tmp_path / "from_data").fingerprint == Store(tmp_path / "from_bytes").fingerprint


def test_an_array_says_the_splits(arrays, tmp_path):
    np.savez("data.npz", **arrays, split=np.array(["train", "train", "test", "train"] * 10))
    make(verb="arrays", source="data.npz")
    store = Store(tmp_path / "data" / "data")
    assert (store.count("train"), store.count("test")) == (30, 10)
    assert set(store.labels("test")) == {2}


@pytest.mark.parametrize(("change", "message"), [
    ({"rna": np.ones((40, 0))}, r"array rna: \(40, 0\) holds nothing"),
    ({"word": np.array([b"\xff"] * 40)}, "array word: bytes that are not UTF-8"),
    ({"rna": np.ones((39, 6))}, "every array has a row for each item, here: .*rna 39"),
    ({"rna": np.ones((40, 2, 2, 2, 2))}, "array rna: .* is no data of a known kind"),
    ({"rna": np.ones((40, 8, 8))}, r"array rna: .* known kind\nhint: .*from 0 to 1.*astype\(numpy.uint8\)"),
    ({"rna": np.where(np.arange(80).reshape(40, 2) == 5, np.nan, 1.5)}, "array rna, row 2, column 1: nan is not fin"),
    ({"rna": np.full((40, 2), np.nan)}, "column 0: no training item has a number"),
    ({"rna": np.ones((40, 6))}, "array rna, column 0: is 1 in every training item"),
    ({"m0": np.zeros((40, 8, 8, 3), np.uint8)}, r"looks like \(N, H, W, C\)"),
    ({"labels": np.ones((40, 2))}, "array labels: .* are no classes"),
    ({"split": np.array(["train"] * 40)}, "no item is in split test"),
    ({"split": np.array(["train", "half"] * 20)}, r"'half' \(item 2\) is no split"),
    ({"rna": np.array(["x"] * 40, object)}, "array rna cannot be read .it holds something else.*\nhint: .*astype.str"),
    ({"rna_present": np.arange(40) % 2}, "rna_present: is no mask"),
])  # fmt: skip
def test_arrays_that_are_refused(arrays, tmp_path, change, message):
    np.savez("data.npz", **(arrays | change))
    with pytest.raises(Failure, match=message):
        make(verb="arrays", source="data.npz")
    assert not (tmp_path / "data").exists()


def test_what_are_no_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.npz").write_bytes(b"nothing of numpy")
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "one.npy", np.zeros(3))
    endless = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 9)}".ljust(117) + b"\n"
    for name, content in (("text", b"hello"), ("cut", b"{'descr': "), ("endless", endless)):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            head = b"\x93NUMPY\1\0" + len(content).to_bytes(2, "little") if name != "text" else b""
            archive.writestr("a.npy", head + content)
    for source, message in (
        ("one.npy", "is no .npz file; a folder of .npy files is read, too"),
        ("text.npz", "text.npz, array a cannot be read .it is no array"),
        ("cut.npz", "cut.npz, array a cannot be read"),
        ("endless.npz", "endless.npz, array a cannot be read"),
        ("data.npz", r"cannot be read \(it holds something else than arrays of numbers or strings\)"),
        ("folder", "has no .npy file"),
        ("none", "is not there"),
    ):
        with pytest.raises(DataProblem, match=message):
            make(verb="arrays", source=source)
