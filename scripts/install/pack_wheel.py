"""Packs a finished Caffe build into a wheel.

    python pack_wheel.py SOURCE BUILD FOLDER

SOURCE is Caffe's source tree, BUILD its CMake build tree; the wheel is written to FOLDER and its path printed. It
holds the Python package with the shared library inside it, and the three command-line tools. They were linked with
run paths relative to their own place ($ORIGIN), so the wheel works in any virtual environment of the same Python.
"""

import argparse
import sysconfig
from pathlib import Path

from wheel.wheelfile import WheelFile

TOOLS = ("caffe", "convert_imageset", "compute_image_mean")
TAG = f"cp{sysconfig.get_config_var('py_version_nodot')}"
PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")
METADATA = """\
Metadata-Version: 2.1
Name: caffe
Version: 1.0.0
Summary: BVLC Caffe, built for this machine
License: BSD-2-Clause
Requires-Dist: numpy
Requires-Dist: protobuf
Requires-Dist: scikit-image
Requires-Dist: scipy
Requires-Dist: six
"""
WHEEL = f"""\
Wheel-Version: 1.0
Generator: breast-mass-caffe
Root-Is-Purelib: false
Tag: {TAG}-{TAG}-{PLATFORM}
"""


def pack(source: Path, build: Path, folder: Path) -> Path:
    """Writes the wheel of the Caffe built in `build` from `source` and returns its path."""
    package = source / "python" / "caffe"
    modules = [file for file in sorted(package.rglob("*.py")) if "test" not in file.relative_to(package).parts]
    path = folder / f"caffe-1.0.0-{TAG}-{TAG}-{PLATFORM}.whl"
    with WheelFile(path, "w") as wheel:
        for module in modules:
            wheel.write(module, f"caffe/{module.relative_to(package)}")
        for library in ("_caffe.so", "libcaffe.so.1.0.0"):
            wheel.write(build / "lib" / library, f"caffe/{library}")
        for tool in TOOLS:
            wheel.write(build / "tools" / tool, f"caffe-1.0.0.data/scripts/{tool}")
        wheel.write(source / "LICENSE", "caffe-1.0.0.dist-info/LICENSE")
        wheel.writestr("caffe-1.0.0.dist-info/METADATA", METADATA)
        wheel.writestr("caffe-1.0.0.dist-info/WHEEL", WHEEL)
    return path


def main() -> None:
    """Reads the three folders from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for folder in ("source", "build", "folder"):
        parser.add_argument(folder, type=Path)
    args = parser.parse_args()
    print(pack(args.source, args.build, args.folder))


if __name__ == "__main__":
    main()
