"""Every reader of files that the commands use, each with sound files for it: what tests and drills damage."""

import argparse
import io
import json
import plistlib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import cv2
import imagecodecs
import numpy as np
import xlwt
from onnx import helper, numpy_helper
from pydicom import uid
from pydicom.encaps import encapsulate

from data_prep import from_coco, from_inbreast, from_mini_mias, from_vindr
from data_prep.core import files, tables
from data_prep.core.errors import InputError
from data_prep.database import build_summary, lmdb_io, manifest, split
from data_prep.formats import image_files, ljpeg
from data_prep.sources import cbis_ddsm, csv_boxes, ddsm, nbia_client
from data_prep.synthesis import ddsm_set
from scripts.evaluation import metrics, predictions, run_files
from scripts.experiments import matrix
from scripts.nets import caffemodel, definitions, onnx_weights
from scripts.reporting import gallery
from scripts.reporting.finished_run import FinishedRun
from scripts.training import distillation_set, run_folder, snapshots, views
from scripts.training.settings import Settings
from tests.helpers import databases
from tests.helpers.synthetic_cbis import CSV_COLUMNS, dataset

GREY = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint16)
SQUARE = f"5 5  {'2 ' * 20}{'4 ' * 30}{'6 ' * 20}{'0 ' * 30}#"
ICS = b"DIGITIZER HOWTEK 43.5\nLEFT_CC LINES 60 PIXELS_PER_LINE 50 BITS_PER_PIXEL 12 RESOLUTION 43.5 OVERLAY\n"
OVERLAY = (
    f"ABNORMALITY 1\nLESION_TYPE MASS SHAPE ROUND\nPATHOLOGY BENIGN\nTOTAL_OUTLINES 1\nBOUNDARY\n{SQUARE}\n".encode()
)
ENCODERS = {
    uid.ExplicitVRLittleEndian: None,
    uid.RLELossless: None,
    uid.JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    uid.JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True),
}


class Reader(NamedTuple):
    """A reader of a path, the name that its file has, and sound files' contents."""

    read: Callable[[Path], object]
    name: str
    sound: list[bytes]


def make(folder: Path) -> dict[str, Reader]:
    """Return every reader by what it reads; `folder`, a new one, holds what some look for beside their file."""
    folder.mkdir(parents=True, exist_ok=True)
    return films(folder) | sets(folder) | database(folder / "lmdb") | runs(folder / "run") | weights(folder)


def table(*rows: tuple) -> bytes:
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


# ---- films


def films(folder: Path) -> dict[str, Reader]:
    """Readers of one film's files."""
    ljpeg.encode(GREY, folder / "sound.LJPEG", precision=12)
    grey = GREY.astype(np.uint8)
    images = [
        cv2.imencode(f".{kind}", grey)[1].tobytes() for kind in ("png", "jpg", "tif", "pgm", "bmp", "webp", "jp2")
    ]
    images += [cv2.imencode(f".{kind}", GREY)[1].tobytes() for kind in ("png", "tif")]
    return {
        "image of a film, a mask or a photograph": Reader(read_image, "a.png", images),
        "DICOM": Reader(read_film, "a.dcm", [dicom_file(syntax) for syntax in ENCODERS]),
        "LJPEG": Reader(ljpeg.decode, "a.LJPEG", [(folder / "sound.LJPEG").read_bytes()]),
        ".ics": Reader(ddsm.read_ics, "A-0001-1.ics", [ICS]),
        ".OVERLAY": Reader(ddsm.read_overlay, "a.OVERLAY", [OVERLAY]),
    }


def dicom_file(syntax: uid.UID) -> bytes:
    """Return a small mammogram in this transfer syntax."""
    image = dataset(GREY)
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if ENCODERS[syntax]:
        image.file_meta.TransferSyntaxUID = syntax
        image.PixelData = encapsulate([bytes(ENCODERS[syntax](GREY))])
        image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    elif syntax == uid.RLELossless:
        image.compress(syntax, encoding_plugin="pydicom")
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


def read_film(path: Path) -> None:
    for read in (image_files.film, image_files.mask):
        with suppress(InputError):
            read(path)


def read_image(path: Path) -> None:
    read_film(path)
    views.read_photographs(path.parent)


# ---- sets of films


def sets(folder: Path) -> dict[str, Reader]:
    """Readers of the tables that come with a set of films."""
    about = folder / "set"  # what is beside the tables
    about.mkdir()
    (about / "a.png").write_bytes(cv2.imencode(".png", GREY.astype(np.uint8))[1].tobytes())
    boxes = table(
        databases.HEADER, *(("a.png", f"P{number}", "LEFT", "CC", 5, 6, 20, 30, "BENIGN") for number in (1, 2))
    )
    name = "Mass-Training_P_00001_LEFT_CC"
    place = f"{name}/1.2/1.3/000000.dcm"
    case = ("P_00001", 3, "LEFT", "CC", 1, "mass", "OVAL", "SPICULATED", 4, "MALIGNANT", 4, *[place] * 3, "")
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "width": 50, "height": 60, "patient_id": "P1"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 20, 30]}],
        "categories": [{"id": 1, "name": "malignant mass"}],
    }
    regions = [{"Name": "Mass", "Point_px": ["(5.0, 6.0)", "(25.0, 6.0)", "(25.0, 36.0)"]}]
    (about / "20587054_b6a4f750_MG_L_CC_ANON.dcm").write_bytes(dicom_file(uid.ExplicitVRLittleEndian))
    (about / "INbreast.csv").write_text("File Name,Laterality,View,Bi-Rads\n20587054,L,CC,5\n")
    vindr = table(from_vindr.NEEDED, ("1", "a", 60, 50, "\"['Mass']\"", "BI-RADS 5", 5, 6, 25, 36))
    listed = [{"SeriesInstanceUID": "1.2.3", "PatientID": name, "ImageCount": 1, "FileSize": "7200"}]
    return {
        "CSV of boxes": Reader(lambda path: csv_boxes.masses(beside(path, about) / path.name), "masses.csv", [boxes]),
        "case list of CBIS-DDSM": Reader(
            lambda path: cbis_ddsm.masses(path.parent),
            "mass_case_description_train_set.csv",
            [table(CSV_COLUMNS, case)],
        ),
        "table of Excel's": Reader(tables.read_table, "a.xls", [xls(folder)]),
        "split.csv": Reader(
            lambda path: split.read_split(path, []), "split.csv", [table(("patient", "split"), ("P1", "val"))]
        ),
        "annotations of COCO's": Reader(
            converted(from_coco, about, patient=None), "a.json", [json.dumps(coco).encode()]
        ),
        "Info.txt of mini-MIAS": Reader(
            converted(from_mini_mias, about), "Info.txt", [b"mdb001 G CIRC B 535 425 197\nmdb003 D NORM\n"]
        ),
        "outlines of INbreast": Reader(
            converted(from_inbreast, about, malignant_above_3=False),
            "20587054.xml",
            [plistlib.dumps({"Images": [{"ROIs": regions}]})],
        ),
        "findings of VinDr-Mammo": Reader(
            converted(from_vindr, about, malignant_above_3=True), "finding_annotations.csv", [vindr]
        ),
        "list of an NBIA server's series": Reader(
            lambda path: nbia_client.read_list(path, "http://x"), "series", [json.dumps(listed).encode()]
        ),
        "zip of an NBIA server's images": Reader(unpack, "zip", [zipped(folder)]),
        "record of a synthetic set": Reader(
            lambda path: ddsm_set.read_record(path.parent),
            ddsm_set.RECORD,
            [json.dumps({"patients": 3, "seed": 1}).encode()],
        ),
    }


def converted(module, about: Path, **options) -> Callable[[Path], object]:
    """Return what reads a published set's folder, as its converter does."""
    return lambda path: module.read(argparse.Namespace(root=beside(path, about), **options))


def xls(folder: Path) -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("1")
    for row, values in enumerate((("patient", "split"), ("P1", "val"))):
        for column, value in enumerate(values):
            sheet.write(row, column, value)
    book.save(str(folder / "sound.xls"))
    return (folder / "sound.xls").read_bytes()


def zipped(folder: Path) -> bytes:
    image = dicom_file(uid.RLELossless)
    with zipfile.ZipFile(folder / "sound.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("00000001.dcm", image)
        file.writestr(
            nbia_client.SUMS, f"Filename,MD5Hash\n00000001.dcm,{nbia_client.hashlib.md5(image).hexdigest()}\n"
        )
    return (folder / "sound.zip").read_bytes()


def unpack(path: Path) -> None:
    with files.scratch_folder() as out:
        nbia_client.unpack(path, out / "images", 1, most=1 << 20)


# ---- databases


def database(folder: Path) -> dict[str, Reader]:
    """Readers of a database's files."""
    databases.write(
        folder, {"train": ["P1"], "val": ["P2"], "test": ["P3"]}, views=["CC"], size=8, rotations=5, crops=5
    )
    counts = {name: dict.fromkeys(build_summary.ROWS, 1) for name in split.SPLITS}
    account = {name: dict.fromkeys(build_summary.UNITS, 3) for name in (build_summary.FOUND, build_summary.USED)}
    more = {"root": "films", "counts": counts, "account": account, "histogram": [1] * 16}
    manifest.write_json(folder, manifest.read_json(folder) | more)
    content = manifest.read_json(folder, whole=True)

    def read_rows(path: Path) -> None:
        for row in manifest.read_csv(path.parent).values():
            if row["split"]:
                manifest.windows(row, content)

    def read_records(path: Path) -> None:
        lmdb_io.count(path.parent)
        list(lmdb_io.records(path.parent))

    def reader(read: Callable[[Path], object], name: str, path: Path | None = None) -> Reader:
        return Reader(read, name, [(path or folder / name).read_bytes()])

    return {
        "manifest.json": reader(lambda path: manifest.read_json(path.parent, whole=True), manifest.JSON),
        "manifest.csv": reader(read_rows, manifest.CSV),
        "LMDB": reader(read_records, "data.mdb", folder / "train" / "data.mdb"),
        "mean.binaryproto": reader(lmdb_io.read_mean, lmdb_io.MEAN),
        "views.json": Reader(
            lambda path: distillation_set.read_content(path.parent),
            distillation_set.JSON,
            [json.dumps({"side": 96, "counts": {"train": 66, "val": 4}, "seed": 1, "digest": "0a"}).encode()],
        ),
    }


# ---- runs


def runs(folder: Path) -> dict[str, Reader]:
    """Readers of what commands leave in a run's folder, and of the file of experiments."""
    settings = Settings("baseline", "data/lmdb", "0a", None, False, 1, 2, None, 4, 1, 10, 6, 6)
    folder.mkdir(parents=True)
    run_folder.create(folder, settings, {"gpu": None, "command": "python scripts/train.py"})
    (folder / run_files.LOG).write_bytes(table(run_files.COLUMNS, (1, 0.2, 0.7, 0.5, 0.7, 0.5, 1.5)))
    (folder / "crops.webp").write_bytes(cv2.imencode(".webp", np.zeros((224, 224), np.uint8))[1].tobytes())
    predicted = ("m", "p", "f", "LEFT", "CC", "BENIGN", 0, 0.5, 1)
    tile = ("m", "p", "BENIGN", 0, 0.5, 1, "FP")
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    scores = {
        **{name: "a" for name in ("net", "weights", "data", "split", "source", "context", "data_digest")},
        **{"augmented_training": True, "iteration": 4, "n": 4, "masses": 4, "patients": 4, "malignant": 2, "benign": 2},
        "counts": {"tp": 1, "fp": 1, "fn": 1, "tn": 1},
        "metrics": dict.fromkeys(metrics.NAMES, estimate),
    }

    def read_log(path: Path) -> None:
        run_folder.trim_log(path.parent, 3)
        run_files.read_log(path.parent)

    def reader(read: Callable[[Path], object], name: str) -> Reader:
        return Reader(read, name, [(folder / name).read_bytes()])

    return {
        "run.json": reader(lambda path: run_folder.read_run(beside(path, folder)), run_files.JSON),
        "solver of a run": reader(lambda path: run_folder.read_run(beside(path, folder)), run_folder.SOLVER),
        "log.csv": reader(read_log, run_files.LOG),
        "predictions.csv": Reader(
            predictions.read_predictions, "predictions.csv", [table(predictions.FIELDS, predicted)]
        ),
        "metrics.json": Reader(
            lambda path: FinishedRun(path.parent.parent).scores, "eval_test/metrics.json", [json.dumps(scores).encode()]
        ),
        "index.csv of a gallery": Reader(
            lambda path: gallery.read(beside(path, folder)), gallery.INDEX, [table(gallery.FIELDS, tile)]
        ),
        "experiments.toml": Reader(matrix.read_experiments, "experiments.toml", [matrix.EXPERIMENTS.read_bytes()]),
    }


def beside(path: Path, folder: Path) -> Path:
    """Return the folder of a file, with links to the sound files that belong beside it."""
    for sound in folder.iterdir():
        if not (path.parent / sound.name).exists():
            (path.parent / sound.name).symlink_to(sound)
    return path.parent


# ---- weights


def weights(folder: Path) -> dict[str, Reader]:
    """Readers of nets and weights."""
    caffe_pb2 = definitions.import_caffe().proto.caffe_pb2
    run = folder / "run"  # its solver is Adam
    net = caffe_pb2.NetParameter(name="baseline")
    state = caffe_pb2.SolverState(iter=2, learned_net="snapshot_iter_2.caffemodel")
    for shape in ((4, 3), (4,)):
        blob = net.layer.add(name=f"fc{len(shape)}", type="InnerProduct").blobs.add()
        blob.shape.dim.extend(shape)
        blob.data.extend([0.5] * int(np.prod(shape)))
    state.history.extend(2 * [layer.blobs[0] for layer in net.layer])
    paths = [snapshots.file_of(run, 2, ending) for ending in snapshots.ENDINGS]
    for path, message in ((paths[0], net), (paths[2], state)):
        path.write_bytes(message.SerializeToString())
    sums = {caffemodel.SHA256: caffemodel.sha256_of(paths[0]), snapshots.STATE_SHA256: caffemodel.sha256_of(paths[2])}
    paths[1].write_text(json.dumps(asdict(snapshots.Progress(1, 0.7, 0.5, 1.5)) | sums))
    shapes = {"fc2": [(4, 3)], "fc1": [(4,)]}
    nodes = [
        helper.make_node("Conv", ["data", "w", "b"], ["out"]),
        helper.make_node("Gemm", ["out", "v", "b"], ["end"]),
    ]
    arrays = {"w": (4, 3, 1, 1), "b": (4,), "v": (4, 4)}
    stored = [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in arrays.items()]
    graph = helper.make_graph(nodes, "net", [], [], stored)
    return {
        "caffemodel": Reader(
            lambda path: caffemodel.check_fit(path, caffemodel.read_weights(path), shapes, needed=set()),
            "a.caffemodel",
            [paths[0].read_bytes()],
        ),
        "solverstate": Reader(
            lambda path: snapshots.check_state(beside(path, run), 2), paths[2].name, [paths[2].read_bytes()]
        ),
        "JSON of a snapshot": Reader(
            lambda path: snapshots.newest_whole(beside(path, run)), paths[1].name, [paths[1].read_bytes()]
        ),
        "ONNX": Reader(onnx_weights.read_layers, "a.onnx", [helper.make_model(graph).SerializeToString()]),
    }
