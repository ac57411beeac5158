"""What the container images are made from, where it would go wrong unseen until somebody builds them."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import caffe
import pytest

from data_prep.core import provenance

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "Dockerfile").exists():
    pytest.skip("the Dockerfile is not here: this is a container image", allow_module_level=True)
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BINARIES = [*(Path(sys.prefix) / "bin").glob("c*_image*"), *Path(caffe.__file__).parent.glob("*.so*")]
IN_EVERY_DEBIAN = {"libc6", "libgcc-s1", "libstdc++6"}


def copied() -> set[str]:
    """The paths that the Dockerfile takes from the repository."""
    commands = [shlex.split(line)[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    return {path for paths in commands for path in paths if not paths[0].startswith("--from")}


def test_what_the_dockerfile_copies_is_there():
    for pattern in copied():
        assert list(ROOT.glob(pattern)), pattern


def test_nothing_but_what_it_copies_goes_to_the_build():
    everything, *exceptions, caches = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert (everything, caches) == ("*", "**/__pycache__")
    let_in = {line.removeprefix("!") for line in exceptions}
    needed = {next((name for name in let_in if Path(path).is_relative_to(name)), path) for path in copied()}
    assert let_in == needed


def test_the_images_version_is_the_projects():
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert re.findall(r'image\.version="(.*?)"', DOCKERFILE) == version != []


@pytest.mark.skipif(not shutil.which("readelf"), reason="readelf is not here: it comes with the compiler")
def test_the_images_have_every_debian_library_that_caffe_names():
    paths = set()
    for binary in BINARIES:
        named = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "--dynamic", binary))
        found = dict(re.findall(r"(\S+) => (/\S+)", output("ldd", binary)))
        paths |= {Path(found[library]).resolve() for library in named if library in found}
    patterns = [
        f"*{path}".replace("*/usr/", "*/") for path in paths if path.is_relative_to("/usr/lib")
    ]  # to dpkg, /lib
    packages = {line.split(":")[0] for line in output("dpkg-query", "--search", *patterns).splitlines()}
    named = set(output(ROOT / "scripts/install/runtime_packages.sh").split())
    assert {"liblmdb0", "python3"} <= named
    assert packages <= named | IN_EVERY_DEBIAN


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_outside_a_checkout_a_result_names_the_commit_that_the_image_was_built_from(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.delenv("BREAST_MASS_COMMIT", raising=False)
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("BREAST_MASS_COMMIT", "0123456789ab")
    assert provenance.commit() == "0123456789ab"
