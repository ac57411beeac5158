"""Fuzz one reader of tests/helpers/readers.py, guided by coverage (libFuzzer, through Atheris); for tests/drills.py.

    python -m tests.fuzz ".ics" FOLDER -max_total_time=120     # libFuzzer's options

Prints a line for each kind of exception that the reader lets out beside InputError. libFuzzer ends with a line where
an input takes longer than -timeout, more memory than -rss_limit_mb, or kills the process; the input is in FOLDER then.
"""

import os
import sys
from pathlib import Path

import atheris

os.environ["OPENCV_LOG_LEVEL"] = "SILENT"  # it has a word to say of each damaged image

with atheris.instrument_imports(
    include=["data_prep", "scripts", "pydicom", "PIL", "xlrd", "plistlib", "zipfile", "csv"]
):
    from data_prep.core import memory_limit
    from data_prep.core.errors import InputError
    from data_prep.formats import ljpeg
    from tests.helpers import readers


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    reader = readers.make(folder / "made")[name]
    path = folder / "fuzzed" / reader.name
    path.parent.mkdir(parents=True)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(reader.sound):
        (corpus / str(number)).write_bytes(content)
    ljpeg.CPU_LIMIT_S = 2  # damaged picture data can send the codec into an endless loop
    seen = set()

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            with memory_limit.limited():
                reader.read(path)
        except InputError:
            pass
        except Exception as error:
            if (kind := f"{type(error).__name__}: {error}"[:80]) not in seen and len(seen) < 20:
                seen.add(kind)
                print("let out:", " ".join(kind.split()), flush=True)
                (folder / f"let_out_{len(seen)}").write_bytes(content)

    longest = str(max(4096, 2 * max(map(len, reader.sound))))
    limits = [f"-artifact_prefix={folder}/", "-timeout=60", "-rss_limit_mb=6000", f"-max_len={longest}"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *sys.argv[3:]], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
