"""A few series of the archive, for tests of how they are fetched."""

import io
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

SCRIPT = Path(__file__).resolve().parents[2] / "data_prep" / "fetch_cbis.py"
CSVS = {
    f"mass_case_description_{part}_set.csv": b"patient_id,breast_density,left or right breast\nP_00001,3,LEFT\n" * 9
    for part in ("train", "test")
}
PATIENTS = {f"1.3.6.1.{number}": f"Mass-Training_P_{number:05}_LEFT_CC" for number in range(1, 13)} | {
    "1.3.6.2.1": "Mass-Test_P_00016_LEFT_MLO_1",
    "1.3.6.3.1": "Calc-Training_P_00005_RIGHT_CC",
    "1.3.6.3.2": "Calc-Test_P_00038_LEFT_CC_1",
}
MASSES = sorted(uid for uid, patient in PATIENTS.items() if patient.startswith("Mass-"))


def dicom_file(uid: str, number: int) -> bytes:
    """A small film of a series as the archive has them."""
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = SecondaryCaptureImageStorage, f"{uid}.{number}"
    image.SeriesInstanceUID, image.PatientID, image.Modality = uid, PATIENTS[uid], "MG"
    image.Rows = image.Columns = 64
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelData = np.random.default_rng(number).integers(0, 65536, 64 * 64, dtype=np.uint16).tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


FILES = {  # films are one file, masks come with their crop
    uid: {f"{number:08}.dcm": dicom_file(uid, number) for number in range(1, 2 + uid.endswith("1"))} for uid in PATIENTS
}


WHOLE = CSVS | {f"{uid}/{name}": file for uid in MASSES for name, file in FILES[uid].items()}


def without(*uids: str) -> dict[str, bytes]:
    return {path: file for path, file in WHOLE.items() if path.split("/")[0] not in uids}


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
