"""LMDB databases of Datums: what is written is what is read, by us and by Caffe's own tools."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from caffe.proto import caffe_pb2

from data_prep.core.errors import InputError
from data_prep.database import lmdb_io
from data_prep.database.lmdb_io import BlobProto, Datum, Record


@pytest.fixture
def records() -> list[Record]:
    rng = np.random.default_rng(0)
    return [
        Record(
            lmdb_io.key_of(i, f"P{i}.film.1", "r1c2" if i % 2 else ""),
            i % 2,
            rng.integers(0, 256, (227, 227), np.uint8),
        )
        for i in range(30)
    ]


def write(folder, records):
    return lmdb_io.write(folder, map(lmdb_io.pack, records), 227, len(records))


def test_records_come_back_in_key_order_with_the_same_pixels(tmp_path, records):
    write(tmp_path / "db", records[::-1])
    assert lmdb_io.count(tmp_path / "db") == 30
    for written, read in zip(records, lmdb_io.records(tmp_path / "db"), strict=True):
        assert (written.key, written.label) == (read.key, read.label)
        assert np.array_equal(written.image, read.image)


def test_png_records_of_older_databases_are_read(tmp_path, records):
    packed = [lmdb_io.pack(record)._replace(pgm=cv2.imencode(".png", record.image)[1].tobytes()) for record in records]
    lmdb_io.write(tmp_path / "db", packed, 227, len(packed))
    for written, read in zip(records, lmdb_io.records(tmp_path / "db"), strict=True):
        assert np.array_equal(written.image, read.image)


@pytest.mark.parametrize("count", [0, lmdb_io.BATCH, 2 * lmdb_io.BATCH + 1])
def test_sets_of_no_records_of_a_whole_batch_and_of_several_are_written(tmp_path, count):
    image = np.zeros((9, 9), np.uint8)
    packed = (lmdb_io.pack(Record(lmdb_io.key_of(i, "M"), 0, image)) for i in range(count))
    assert len(lmdb_io.write(tmp_path / "db", packed, 9, count)) == count
    assert lmdb_io.count(tmp_path / "db") == len(list(lmdb_io.records(tmp_path / "db"))) == count


def test_our_messages_are_caffes():
    fields = {"channels": 1, "height": 227, "width": 226, "data": b"abc", "label": 1, "encoded": True}
    assert Datum(**fields).SerializeToString() == caffe_pb2.Datum(**fields).SerializeToString()
    fields = {"num": 1, "channels": 3, "height": 2, "width": 4, "data": [0.5, -1.25, 3.0]}
    assert BlobProto(**fields).SerializeToString() == caffe_pb2.BlobProto(**fields).SerializeToString()


def test_a_key_tells_its_mass(records):
    assert [lmdb_io.mass_id_of(record.key) for record in records] == [f"P{i}.film.1" for i in range(30)]
    assert lmdb_io.mass_id_of(lmdb_io.key_of(3, "A_1_1.LEFT_CC.1", "r0c4")) == "A_1_1.LEFT_CC.1"


def test_digest_is_of_the_content_and_not_of_the_order_of_writing(tmp_path, records):
    one = lmdb_io.digest(write(tmp_path / "a", records))
    assert lmdb_io.digest(write(tmp_path / "b", records[::-1])) == one
    changed = [*records[:-1], Record(records[-1].key, 1 - records[-1].label, records[-1].image)]
    assert lmdb_io.digest(write(tmp_path / "c", changed)) != one
    changed[-1] = Record(records[-1].key, records[-1].label, records[-1].image ^ 1)
    assert lmdb_io.digest(write(tmp_path / "d", changed)) != one


def test_mean_equals_that_of_caffes_own_compute_image_mean(tmp_path, records):
    write(tmp_path / "db", records)
    mean = np.mean([record.image for record in records], axis=0)
    lmdb_io.write_mean(tmp_path / "mean.binaryproto", mean)
    ours = lmdb_io.read_mean(tmp_path / "mean.binaryproto")
    command = ["compute_image_mean", "-backend", "lmdb", tmp_path / "db", tmp_path / "caffe.binaryproto"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = lmdb_io.read_mean(tmp_path / "caffe.binaryproto")
    assert ours.shape == (3, 227, 227)
    for channel in ours:
        assert np.allclose(channel, theirs[0], atol=1e-3)


def test_a_write_that_fails_is_a_clear_error(tmp_path):
    """A limit on file size stands in for a full disk: both refuse LMDB's write."""
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from data_prep.database import lmdb_io; from data_prep.core.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "rng = np.random.default_rng(0)\n"
        "image = rng.integers(0, 256, (227, 227), np.uint8)\n"
        "packed = (lmdb_io.pack(lmdb_io.Record(f'{i:08}_x', 0, image)) for i in range(99))\n"
        "try: lmdb_io.write(Path(sys.argv[1]), packed, 227, 99)\n"
        "except InputError as error: print(error)\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "db")], capture_output=True, text=True, check=True
    )
    assert "cannot be written" in result.stdout


def test_what_is_not_an_lmdb_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="not an LMDB"):
        lmdb_io.count(tmp_path)


def test_a_record_without_an_image_names_its_key(tmp_path, records):
    bad = lmdb_io.pack(records[0])._replace(pgm=b"no image")
    lmdb_io.write(tmp_path / "db", [bad], 227, 1)
    with pytest.raises(InputError, match=records[0].key):
        list(lmdb_io.records(tmp_path / "db"))
