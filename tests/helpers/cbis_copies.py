"""Copies of a CBIS-DDSM archive of DICOM files, as people have them today."""

import csv
import shutil
from pathlib import Path

import cv2
import pydicom

from data_prep.formats import dicom


def kaggle(archive: Path, out: Path) -> Path:
    """Write the copy of JPEG files on Kaggle: csv/*.csv, jpeg/SERIES/N-NNN.jpg; masks before crops here and there."""
    (out / "csv").mkdir(parents=True)
    for table in archive.glob("*.csv"):
        shutil.copy(table, out / "csv")
    rows = []
    for number, (path, header) in enumerate(_files(archive)):
        values = dicom.upper_8_bits(path)
        image = f"jpeg/{header.SeriesInstanceUID}/{1 + number * 7 % 2}-{number:03}.jpg"
        (out / image).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(out / image), values, [cv2.IMWRITE_JPEG_QUALITY, 90])
        rows.append((f"CBIS-DDSM/{image}", header.PatientID, header.SeriesDescription, header.SeriesInstanceUID))
    with (out / "csv" / "dicom_info.csv").open("w", newline="") as file:
        columns = ("image_path", "PatientID", "SeriesDescription", "SeriesInstanceUID")
        csv.writer(file).writerows([columns, *rows])
    (out / "csv" / "meta.csv").write_text("SeriesInstanceUID,Collection\n")
    (out / "jpeg" / "1.3.6.1.4.1.9590.100.1.2.1").mkdir()  # empty
    (out / "jpeg" / "a.lnk").write_bytes(b"L")
    return out


def png(archive: Path, out: Path, bits: int) -> Path:
    """Write a copy of PNG files in folders as in the CSVs, whose paths end in .png; 16 bits, or the upper 8."""
    out.mkdir()
    for table in archive.glob("*.csv"):
        (out / table.name).write_text(table.read_text().replace(".dcm", ".png"))
    for path, header in _files(archive):
        values = dicom.stored(path) if bits == 16 else dicom.upper_8_bits(path)
        folder = out / header.PatientID / header.StudyInstanceUID / header.SeriesInstanceUID
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"1-{len(list(folder.iterdir())) + 1}.png"), values)
    return out


def series(archive: Path) -> tuple[dict[str, dict[str, bytes]], dict[str, str]]:
    """Return the files of each series by name, and the PatientID of each."""
    files: dict[str, dict[str, bytes]] = {}
    patients = {}
    for number, (path, header) in enumerate(_files(archive)):
        files.setdefault(header.SeriesInstanceUID, {})[f"{number:08}.dcm"] = path.read_bytes()
        patients[header.SeriesInstanceUID] = header.PatientID
    return files, patients


def _files(archive: Path) -> list[tuple[Path, pydicom.Dataset]]:
    return [(path, dicom.header(path)) for path in sorted(archive.rglob("*.dcm"))]
