"""The audit passes on what we build, and names the keys of every fault that is planted."""

import json
import re
import shutil
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from data_prep.auditing import checks, decoded_records, near_duplicates
from data_prep.core.records import Box, Film
from data_prep.database import lmdb_io, manifest
from data_prep.database.context_crops import SIZE, Window, augmented_windows, context_window, place, warp
from tests.helpers import databases

PATIENTS = [f"P{index:02}" for index in range(40)]


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory) -> Path:
    films = {patient: databases.texture(index) for index, patient in enumerate(PATIENTS)}
    return databases.write_films(tmp_path_factory.mktemp("audit") / "set", films)


@pytest.fixture(scope="module")
def built(csv_path, tmp_path_factory) -> Path:
    return databases.build(csv_path, tmp_path_factory.mktemp("built") / "lmdb")


@pytest.fixture(scope="module")
def database(built) -> checks.Database:
    """The clean database, read once; tests plant their faults in copies of it."""
    return checks.read(built)


@pytest.fixture
def copy(built, tmp_path) -> Path:
    return shutil.copytree(built, tmp_path / "copy")


def audit(*folders: Path):
    return databases.run("data_prep/audit.py", *folders)


def failed(result) -> list[str]:
    """The names of the checks that failed."""
    return [line.split()[1] for line in result.stdout.splitlines() if line.startswith("  FAILED")]


def with_records(
    database: checks.Database, split: str, records: list[decoded_records.DecodedRecord]
) -> checks.Database:
    """A copy of the database in which one split holds other records."""
    other = replace(database.found[split], records=records, keys=[record.key for record in records])
    return replace(database, found=database.found | {split: other})


def with_row(database: checks.Database, mass_id: str, **changes: str) -> checks.Database:
    """A copy of the database in which one line of manifest.csv is another."""
    return replace(database, rows=database.rows | {mass_id: database.rows[mass_id] | changes})


def put(folder: Path, key: str, value: bytes | None) -> None:
    """Replace one value in an LMDB; without one, delete the key."""
    with lmdb.open(str(folder), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        transaction.put(key.encode(), value) if value is not None else transaction.delete(key.encode())


def planted(database: checks.Database, image: np.ndarray) -> tuple[checks.Database, str]:
    """A copy of the database whose first validation record holds `image`; and that record's key."""
    first, *others = database.found["val"].records
    core = database.expected["val"][lmdb_io.name_of(first.key)][1]
    seen = decoded_records.summarise(lmdb_io.Record(first.key, first.label, image), core)
    return with_records(database, "val", [seen, *others]), f"val/{first.key}"


# --- what is whole passes


@pytest.mark.slow
def test_a_clean_build_passes_and_so_do_its_small_and_unaugmented_arms_together(csv_path, built, tmp_path):
    split = built / "split.csv"
    small = databases.build(csv_path, tmp_path / "small", "--context", "small", "--split", split)
    plain = databases.build(csv_path, tmp_path / "plain", "--no-aug", "--split", split)
    result = audit(built, small, plain)
    assert (result.returncode, result.stderr) == (0, "")
    assert "FAILED" not in result.stdout
    assert result.stdout.count("balance") == 3
    assert "one split" in result.stdout


@pytest.mark.slow
def test_real_masses_pass_and_none_is_like_another_patients(shared, tmp_path):
    built = databases.build(shared / "cbis_ddsm_mass_800" / "masses.csv", tmp_path / "real", "--no-aug")
    result = audit(built)
    assert result.returncode == 0, result.stdout


# --- leaks


CHANGES = {
    "exact": lambda image, rng: image,
    "noise": lambda image, rng: image + rng.normal(0, 5, image.shape),
    "brighter": lambda image, rng: image + 25.0,
    "less contrast": lambda image, rng: image * 0.8 + 10,
    "JPEG": lambda image, rng: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 0),
    "shifted": lambda image, rng: np.roll(image, 1, axis=(0, 1)),
    "mirrored": lambda image, rng: image[:, ::-1],
    "upside down": lambda image, rng: image[::-1, ::-1],
    "turned": lambda image, rng: image.T,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_of_a_training_crop_in_validation_is_found(database, built, change):
    record = next(lmdb_io.records(built / "train"))
    image = CHANGES[change](record.image, np.random.default_rng(0))
    leaky, key = planted(database, np.ascontiguousarray(image.clip(0, 255).astype(np.uint8)))
    (offender,) = checks.near_identical(leaky).offenders
    assert offender.startswith(f"{key} is like train/{record.key}")
    identical = checks.identical(leaky).offenders
    assert identical == ([f"train/{record.key} = {key}"] if change == "exact" else [])


def test_a_copy_between_validation_and_test_is_found(database, built):
    leaky, key = planted(database, next(lmdb_io.records(built / "test")).image)
    assert [line.split(" is like ")[0] for line in checks.near_identical(leaky).offenders] == [key]


def test_different_masses_beside_the_same_white_edge_are_not_alike():
    """The film's edge is no tissue, yet by far the strongest structure: a plain correlation is 0.95 here."""
    patches = []
    for index in range(12):
        image = 100 + cv2.resize(databases.texture(index)[:150, :150], (SIZE, SIZE)) // 3
        image[:, 60:80] = 255
        patches.append(near_duplicates.patch(image, near_duplicates.WHOLE))
    assert (
        max(near_duplicates.correlation(one, other) for one, other in combinations(patches, 2))
        < near_duplicates.ALIKE - 0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize("context", ["large", "small"])
def test_films_entered_under_two_patients_are_found_through_all_augmentation(tmp_path, context):
    """The ordinary build: the twins in training are only ever seen turned and cut."""
    films = {patient: databases.texture(index) for index, patient in enumerate(PATIENTS[:20])}
    x, y, width, height = databases.BOX
    rng = np.random.default_rng(0)
    twins = {
        "exact": films["P00"],
        "mirrored": films["P01"][:, ::-1],
        "noisy": (films["P02"] + rng.normal(0, 3, films["P02"].shape)).clip(0, 255).astype(np.uint8),
        "faint": (films["P03"] * 0.7 + 30).astype(np.uint8),
    }
    csv_path = databases.write_films(tmp_path / "set", films | twins, {"mirrored": (200 - x - width, y, width, height)})
    places = {patient: "train" for patient in films} | {"P18": "val", "P19": "test"}
    places |= {"exact": "val", "mirrored": "test", "noisy": "val", "faint": "test"}
    (tmp_path / "split.csv").write_text("patient,split\n" + "".join(f"{p},{s}\n" for p, s in places.items()))
    built = databases.build(csv_path, tmp_path / "lmdb", "--split", tmp_path / "split.csv", "--context", context)
    result = audit(built)
    assert (result.returncode, failed(result)) == (1, ["alike"])
    found = [line.split() for line in result.stdout.splitlines() if "(correlation" in line]
    pairs = {(words[0].partition("_")[2].split(".")[0], words[3].partition("_")[2].split(".")[0]) for words in found}
    assert pairs == {("exact", "P00"), ("mirrored", "P01"), ("noisy", "P02"), ("faint", "P03")}


# --- records, labels, patients


def test_a_flipped_label_is_found(database):
    first, *others = database.found["train"].records
    broken = with_records(database, "train", [first._replace(label=1 - first.label), *others])
    assert [line.split(":")[0] for line in checks.labels(broken).offenders] == [f"train/{first.key}"]


def test_a_missing_record_is_found(database):
    first, *others = database.found["train"].records
    broken = with_records(database, "train", others)
    name = lmdb_io.name_of(first.key)
    number = len(others)
    told = f"train: {number:,} records, where manifest.json says {number + 1}"
    assert checks.complete(broken).offenders == [f"train/*_{name}: missing", told]
    assert checks.keys(broken).offenders[0] == f"train/{others[0].key}: should be number 0"


@pytest.mark.parametrize("key", ["x", "", "_", "00000000", "0_P", "zzzzzzzz_P99.P99.1", "00000000_P\\xff"])
def test_a_key_that_is_none_of_ours_is_found_by_every_check_without_an_error(database, key):
    first, *others = database.found["val"].records
    broken = with_records(database, "val", [first._replace(key=key), *others])
    assert checks.records(broken).offenders == [f"val/{key}: its mass is not in manifest.csv"]
    assert checks.keys(broken).offenders == ([] if key.startswith("00000000_") else [f"val/{key}: should be number 0"])
    for check in (checks.complete, checks.labels, checks.patients, checks.same_mass, checks.near_identical):
        check(broken)


def test_a_crop_that_is_there_twice_is_found(database):
    one, other, *rest = database.found["train"].records
    name = lmdb_io.name_of(one.key)
    broken = with_records(database, "train", [one, other._replace(key=f"00000001_{name}"), *rest])
    assert checks.records(broken).offenders == [f"train/*_{name}: 2 times"]


def test_a_record_of_a_mass_that_was_left_out_or_is_of_another_split_is_found(database):
    record = database.found["val"].records[0]
    mass_id = lmdb_io.mass_id_of(record.key)
    for changes, why in (
        ({"split": "", "reason": "no outline"}, "left out (no outline)"),
        ({"split": "test"}, "in test"),
    ):
        broken = with_row(database, mass_id, **changes)
        expected = {
            split: checks.expected_records(broken.rows, split, broken.content) for split in ("train", "val", "test")
        }
        (offender,) = checks.records(replace(broken, expected=expected)).offenders
        assert offender.startswith(f"val/{record.key}: ")
        assert why in offender


def test_a_patient_in_two_splits_is_found_by_each_of_the_three_sources(database):
    record = database.found["val"].records[0]
    mass_id = lmdb_io.mass_id_of(record.key)
    patient = database.rows[mass_id]["patient"]
    by_csv = replace(database, split=[*database.split, (patient, "train")])
    by_manifest = with_row(database, mass_id, split="train")
    by_record = with_records(database, "train", [*database.found["train"].records, record])
    for broken in (by_csv, by_manifest, by_record):
        (offender,) = checks.patients(broken).offenders
        assert offender.startswith(f"{patient}: ")
        assert "train (" in offender
        assert "val (" in offender


def test_balance_is_asked_for_only_where_the_split_was_ours(database):
    broken = with_records(database, "val", database.found["val"].records[1:])
    assert len(checks.balance(broken).offenders) == 1
    given = replace(broken, content=broken.content | {"split": "official"})
    assert checks.balance(given).offenders == []
    assert "official" in checks.balance(given).figures


def test_a_crop_that_is_not_what_its_key_says_is_found(database):
    """Two training masses whose crops were mistaken for each other."""
    one, *rest = database.found["train"].records
    other = next(record for record in rest if lmdb_io.mass_id_of(record.key) != lmdb_io.mass_id_of(one.key))
    swapped = one._replace(core=other.core)
    broken = with_records(database, "train", [swapped, *rest])
    assert [line.split(":")[0] for line in checks.same_mass(broken).offenders] == [f"train/{one.key}"]


# --- files


def test_a_record_that_cannot_be_decoded_or_has_another_size_is_found_and_the_rest_still_read(copy, tmp_path):
    names = [key.decode() for key, _ in lmdb_io.items(copy / "train")]
    put(copy / "train", names[3], b"no Datum at all")
    small = lmdb_io.pack(lmdb_io.Record(names[5], 0, np.zeros((100, 80), np.uint8)))
    lmdb_io.write(tmp_path / "one", [small], 100, 1)
    put(copy / "train", names[5], next(value for _, value in lmdb_io.items(tmp_path / "one")))
    result = audit(copy)
    assert (result.returncode, result.stderr) == (1, "")
    assert failed(result) == ["readable", "mean", "digest"]
    assert f"record {names[3]} holds no image" in result.stdout
    assert f"record {names[5]} is 80 x 100, not 227 x 227" in result.stdout


@pytest.mark.parametrize("kept", [0.6, 0.0])
def test_a_file_cut_short_is_a_failed_line_and_not_a_crash(copy, kept):
    data = copy / "test" / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(int(data.stat().st_size * kept))
    result = audit(copy)
    assert (result.returncode, result.stderr) == (1, "")
    assert "FAILED  readable" in result.stdout
    assert str(copy / "test") in result.stdout
    assert "all records of" in result.stdout


def test_pages_overwritten_with_noise_are_failed_lines(copy):
    data = copy / "train" / "data.mdb"
    rng = np.random.default_rng(0)
    pages = np.memmap(data, np.uint8, "r+").reshape(-1, 4096)
    pages[rng.permutation(np.arange(2, len(pages)))[: len(pages) // 3]] = rng.integers(0, 256, 4096)
    pages.flush()
    result = audit(copy)
    assert (result.returncode, result.stderr) == (1, "")
    assert {"readable", "digest"} <= set(failed(result))


def test_damage_that_kills_whoever_reads_it_is_a_failed_line_and_the_other_splits_are_read(copy):
    """A value's length, just before its key in a page, is raised beyond the file's end: LMDB reads on, to a SIGBUS."""
    key = next(lmdb_io.items(copy / "train"))[0]
    data = (copy / "train" / "data.mdb").read_bytes()
    node = re.compile(rb"(..)..(....)(?=" + re.escape(key) + b")", re.DOTALL)  # also in pages that are no longer used
    (copy / "train" / "data.mdb").write_bytes(node.sub(lambda found: found[1] + b"\xff\x0f" + found[2], data))
    result = audit(copy)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"{copy / 'train'}: the process that read it died" in result.stdout
    counts = manifest.read_json(copy)["counts"]
    assert f"train 0, val {counts['val']['records']}, test {counts['test']['records']}" in result.stdout


def test_a_changed_mean_digest_or_label_on_disk_is_found(copy):
    stored = lmdb_io.read_mean(copy / lmdb_io.MEAN)[0]
    lmdb_io.write_mean(copy / lmdb_io.MEAN, stored + (np.arange(SIZE) == 9))
    content = manifest.read_json(copy)
    manifest.write_json(copy, content | {"digest": "0" * 64})
    result = audit(copy)
    assert (result.returncode, failed(result)) == (1, ["mean", "digest"])
    assert "off by up to 1 grey levels" in result.stdout


def test_long_lists_are_cut(copy):
    text = (copy / "manifest.csv").read_text()
    (copy / "manifest.csv").write_text(text.replace("BENIGN", "MALIGNANT"))
    result = audit(copy)
    assert failed(result) == ["labels"]
    lines = [line for line in result.stdout.splitlines() if "but MALIGNANT" in line]
    wrong = sum(record.label == 0 for split in ("train", "val", "test") for record in lmdb_io.records(copy / split))
    assert len(lines) == 10
    assert f"and {wrong - 10} more" in result.stdout


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text('{"source": "boxes"'),
        lambda folder: (folder / "manifest.json").write_text('{"source": "boxes"}'),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.csv").unlink(),
        lambda folder: (folder / "manifest.csv").write_text("a,b\n1,2\n"),
        lambda folder: (folder / "manifest.csv").write_bytes(bytes(range(256))),
        lambda folder: (folder / "split.csv").unlink(),
    ],
)
def test_an_unfinished_or_damaged_folder_fails_at_once(built, tmp_path, damage):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name in ("manifest.json", "manifest.csv", "split.csv"):
        shutil.copy(built / name, folder)
    damage(folder)
    (check,) = checks.check(folder)
    assert check.name == "finished"
    assert str(folder) in check.offenders[0]


def test_a_folder_that_is_not_there_is_a_user_error(tmp_path):
    result = audit(tmp_path / "nowhere")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


def test_folders_of_one_source_that_split_differently_fail_together(built, tmp_path):
    other = shutil.copytree(built, tmp_path / "other", ignore=shutil.ignore_patterns("*.mdb"))
    rows = manifest.read_csv(other)
    patient = next(row["patient"] for row in rows.values() if row["split"] == "val")
    text = (other / "manifest.csv").read_text().splitlines()
    text = [line.replace(",val,", ",train,") if f",{patient}," in line else line for line in text]
    (other / "manifest.csv").write_text("\n".join(text) + "\n")
    assert checks.one_split([built, built]).offenders == []
    assert checks.one_split([built, other]).offenders == [f"{patient}: val in {built}, train in {other}"]
    content = manifest.read_json(other)
    (other / "manifest.json").write_text(json.dumps(content | {"root": "another set"}))
    assert checks.one_split([built, other]).offenders == []


# --- the core


@pytest.mark.parametrize("context", ["large", "small"])
@pytest.mark.parametrize("size", [(40, 30), (900, 200), (1500, 1500)])
def test_the_core_lies_within_every_window(context, size):
    box = Box(1000, 2000, 1000 + size[0], 2000 + size[1])
    windows = [w for seed in range(40) for w in augmented_windows(box, context, "mass", seed)]
    for window in [context_window(box, context), *windows]:
        core = near_duplicates.core(window, box, context)
        radius = core.side / 2
        assert min(core.x, core.y) >= radius - 1e-6
        assert max(core.x, core.y) <= SIZE - radius + 1e-6


def test_crops_of_a_mass_turned_back_show_the_same_pixels():
    film = Film(Path("film"), 200, 300)
    image = databases.texture(1)
    box = Box(60, 90, 130, 140)
    upright = warp(image, film, context_window(box, "large"))
    expected = near_duplicates.patch(upright, near_duplicates.core(context_window(box, "large"), box, "large"))
    for window in augmented_windows(box, "large", "mass", 1):
        patch = near_duplicates.patch(warp(image, film, window), near_duplicates.core(window, box, "large"))
        assert np.abs(patch.astype(float) - expected)[near_duplicates.TAPER > 0].mean() < 1


def test_place_is_the_inverse_of_warp():
    """A bright dot of the film is found where `place` says, in a turned and shifted window."""
    image = np.zeros((300, 200), np.uint8)
    image[140, 110] = 255
    window = Window(100, 130, 80, 33.0)
    crop = warp(image, Film(Path("film"), 200, 300), window)
    row, column = np.unravel_index(crop.argmax(), crop.shape)
    assert np.allclose((column + 0.5, row + 0.5), place(window, 110.5, 140.5), atol=1)


# ---- cross-validation


@pytest.fixture(scope="module")
def folds(csv_path, tmp_path_factory) -> list[Path]:
    """The databases of a cross-validation of three folds."""
    folder = tmp_path_factory.mktemp("folds")
    options = ("--no-aug", "--fold")
    return [databases.build(csv_path, folder / f"fold{number}", *options, f"{number}/3") for number in (1, 2, 3)]


def test_each_mass_is_tested_in_one_fold(folds, csv_path, tmp_path):
    result = audit(*folds)
    assert result.returncode == 0, result.stdout
    assert "folds      each of 40 patients and 40 masses is tested in one of 3 folds\n" in result.stdout
    assert "val 2 malignant, 2 benign; test 7 malignant, 7 benign (split: fold 1/3)" in result.stdout
    small = databases.build(csv_path, tmp_path / "small", "--no-aug", "--context", "small", "--fold", "2/3")
    assert [check.offenders for check in (checks.one_split([*folds, small]), *checks.folds([*folds, small]))] == [
        [],
        [],
    ]
    assert "(1, 3 not here)" in next(checks.folds([folds[1]])).figures


def test_a_patient_tested_in_two_folds_and_a_mass_tested_in_none_are_named(folds, tmp_path):
    """As where one fold's database was built with another seed, or from other films."""
    strange = shutil.copytree(folds[2], tmp_path / "fold3")
    rows = manifest.read_csv(strange)
    tested = next(row for row in rows.values() if row["split"] == "test")
    trained = next(row for row in manifest.read_csv(folds[0]).values() if row["split"] == "test")
    text = (strange / manifest.CSV).read_text()
    for row, split in ((tested, "train"), (trained, "test")):
        line = next(line for line in text.splitlines() if line.startswith(f"{row['mass_id']},"))
        text = text.replace(line, f"{line.rpartition(',')[0].rpartition(',')[0]},{split},")
    (strange / manifest.CSV).write_text(text)
    (check,) = checks.folds([*folds[:2], strange])
    assert check.offenders == [
        f"{trained['patient']}: tested in folds [1, 3]",
        f"{tested['mass_id']}: tested in no fold",
    ]
