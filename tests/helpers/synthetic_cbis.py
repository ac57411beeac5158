"""A synthetic CBIS-DDSM: the films of a synthetic DDSM set, written as the archive of DICOM files and CSVs.

    python -m tests.helpers.synthetic_cbis data/synthetic data/synthetic_cbis
    python data_prep/build_lmdb.py --source cbis --root data/synthetic_cbis --official-split --out data/lmdb_cbis

The archive's habits and faults come in turn: folders as in the CSVs, as the NBIA Data Retriever makes them, or one per
series; crop and mask in each other's places, or both called 000000.dcm; a mask at half the film's size, or of another
shape; films compressed, or with bright and dark exchanged (MONOCHROME1); a newline in the CSV's paths. Every fifth
patient is of the official test set.
"""

import csv
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from data_prep.core.files import atomic_folder
from data_prep.core.process_pool import worker_pool
from data_prep.core.records import Film, Mass
from data_prep.formats import ljpeg, optical_density
from data_prep.sources import cbis_ddsm, ddsm
from data_prep.synthesis import ddsm_set

CSV_COLUMNS = (
    *("patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type"),
    *("mass shape", "mass margins", "assessment", "pathology", "subtlety"),
    *("image file path", "cropped image file path", "ROI mask file path", "film type"),
)
"""The archive's columns in its training CSV, and one that says what these films are."""
FULL, CROP, MASK = "full mammogram images", "cropped images", "ROI mask images"
LAYOUTS = ("csv", "retriever", "flat")
HABITS = ("plain", "swapped", "both 000000.dcm", "half size", "compressed", "MONOCHROME1", "plain", "another aspect")


@dataclass(frozen=True)
class Job:
    """A film to write with its masses: the archive's name for it, the folders' layout, a habit for each mass."""

    name: str
    layout: str
    masses: list[Mass]
    habits: list[str]


def make(films: Path, out: Path) -> None:
    """Write the archive of the films of a synthetic DDSM set to the new folder `out`."""
    with atomic_folder(out) as folder, worker_pool(len(os.sched_getaffinity(0))) as pool:
        jobs = film_jobs([mass for mass in ddsm.masses(films, pool.map) if not mass.reason])
        rows = [row for rows in pool.map(write_film, [folder] * len(jobs), jobs) for row in rows]
        for official in ("Training", "Test"):
            write_csv(folder, official, [row for row in rows if f"Mass-{official}" in row["image file path"]])
        (folder / "README.txt").write_text(README)


def film_jobs(masses: list[Mass]) -> list[Job]:
    """Return a job a film; patients are numbered in order, layouts and habits go round."""
    patients = {patient: number for number, patient in enumerate(sorted({mass.patient for mass in masses}), start=1)}
    of_film: dict[Film, list[Mass]] = {}
    for mass in masses:
        of_film.setdefault(mass.film, []).append(mass)
    jobs, written = [], 0
    for members in of_film.values():
        number, first = patients[members[0].patient], members[0]
        name = f"Mass-{'Training' if number % 5 else 'Test'}_P_{number:05}_{first.side}_{first.view}"
        habits = [HABITS[(written + i) % len(HABITS)] for i in range(len(members))]
        jobs.append(Job(name, LAYOUTS[number % len(LAYOUTS)], members, habits))
        written += len(members)
    return jobs


def write_film(root: Path, job: Job) -> list[dict[str, str]]:
    """Write a film and its masses' crops and masks; return their rows of the CSV."""
    film = job.masses[0].film
    optical = optical_density.optical_density(ljpeg.decode(film.path), film.scanner)
    grey = np.rint(
        (optical_density.OD_MAX - optical) / (optical_density.OD_MAX - optical_density.OD_MIN) * 65535
    ).astype(np.uint16)
    image = write_image(root, job.layout, job.name, FULL, {"000000.dcm": grey}, job.habits[0])
    rows = []
    for number, (mass, habit) in enumerate(zip(job.masses, job.habits, strict=True), start=1):
        name = f"{job.name}_{number}"
        crop, mask = write_mask(root, job.layout, name, mass, grey, habit)
        rows.append(_row(job.name, number, mass) | dict(zip(CSV_COLUMNS[-4:-1], (image, crop, mask), strict=True)))
    return rows


def write_mask(root: Path, layout: str, name: str, mass: Mass, grey: np.ndarray, habit: str) -> tuple[str, str]:
    """Write a mass's crop and mask; return their paths as the CSV gives them, which for "swapped" are wrong."""
    box = mass.box
    crop = grey[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)]
    mask = ddsm.filled(mass.outline, *grey.shape) * np.uint8(255)
    if habit == "half size":
        mask = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST)
    elif habit == "another aspect":
        mask = np.ascontiguousarray(mask[: len(mask) * 9 // 10])
    if habit == "both 000000.dcm":
        paths = [
            write_image(root, layout, name, kind, {"000000.dcm": pixels}, habit)
            for kind, pixels in ((CROP, crop), (MASK, mask))
        ]
        return paths[0], paths[1]
    pixels = (mask, crop) if habit == "swapped" else (crop, mask)
    path = write_image(root, layout, name, MASK, dict(zip(("000000.dcm", "000001.dcm"), pixels, strict=True)), habit)
    return path, path.replace("000000.dcm", "000001.dcm")


def write_image(
    root: Path, layout: str, patient: str, description: str, images: dict[str, np.ndarray], habit: str
) -> str:
    """Write one series of DICOM images, by file name; return the first one's path as the CSV gives it."""
    study, series = (generate_uid(entropy_srcs=[patient, description, what]) for what in ("study", "series"))
    for number, (file, pixels) in enumerate(images.items(), start=1):
        path = {
            "csv": root / patient / study / series / file,
            "retriever": root / patient / "07-20-2016-DDSM-NA" / f"1.000000-{description}" / f"1-{number}.dcm",
            "flat": root / series / f"1-{number}.dcm",
        }[layout]
        path.parent.mkdir(parents=True, exist_ok=True)
        photometric = "MONOCHROME1" if (habit, description) == ("MONOCHROME1", FULL) else "MONOCHROME2"
        image = dataset(pixels, photometric)
        image.PatientID = image.PatientName = patient
        image.StudyInstanceUID, image.SeriesInstanceUID, image.SeriesDescription = study, series, description
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, file])
        if habit == "compressed":
            image.compress(RLELossless, encoding_plugin="pydicom")
        image.save_as(path, enforce_file_format=True)
    return "/".join((patient, study, series, next(iter(images))))


def dataset(pixels: np.ndarray, photometric: str = "MONOCHROME2") -> Dataset:
    """Return uint8 or uint16 (rows, columns), bright tissue high, as a mammogram in DICOM; the caller names it."""
    bits = 8 * pixels.itemsize
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    image.SOPClassUID, image.Modality = DigitalMammographyXRayImageStorageForPresentation, "MG"
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, photometric, 0
    image.BitsAllocated, image.BitsStored, image.HighBit = bits, bits, bits - 1
    image.PixelData = (~pixels if photometric == "MONOCHROME1" else pixels).tobytes()
    return image


def _row(name: str, number: int, mass: Mass) -> dict[str, str]:
    _, patient, side, view = cbis_ddsm.NAME.match(name).groups()
    values = (patient, "2", side, view, number, "mass", mass.shape, mass.margins, mass.assessment, mass.pathology)
    return dict(zip(CSV_COLUMNS, (*values, mass.subtlety), strict=False)) | {"film type": ddsm_set.FILM_TYPE}


def write_csv(root: Path, official: str, rows: list[dict[str, str]]) -> None:
    """Write the CSV of one official set, with the newline after the mask path and, in test, the other spelling."""
    path = root / f"mass_case_description_{'train' if official == 'Training' else 'test'}_set.csv"
    header = [name.replace("_", " ") if (official, name[:6]) == ("Test", "breast") else name for name in CSV_COLUMNS]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([str(row[name]) + ("\n" if name.startswith("ROI") else "") for name in CSV_COLUMNS])


README = """\
SYNTHETIC mammograms, drawn from random numbers: no patient's data, no medical meaning.

Films and masses of a set by data_prep/synthetic.py in the format of CBIS-DDSM, with its faults, by
tests/helpers/synthetic_cbis.py. The archive holds proven masses only, so lesions of other kinds are not here.
"""

if __name__ == "__main__":
    make(*map(Path, sys.argv[1:]))
