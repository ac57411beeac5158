"""The provenance of a result: the command, the commit of this repository, versions and hardware."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """Return the checkout's commit, with "-dirty" when tracked files differ from it.

    Outside a checkout it is what BREAST_MASS_COMMIT says, which a container's build sets, else "unknown".
    """
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("BREAST_MASS_COMMIT", "unknown")


def command() -> str:
    """Return the running script's command as one types it from the repository's root, paths as public() has them."""
    return shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *map(_public_word, sys.argv[1:])])


def public(path: Path | str) -> str:
    """Return a path as a result names it: relative to here, or the last name alone of what lies elsewhere.

    Results are published, and the path to a home folder tells whose it is.
    """
    absolute = os.path.abspath(path)
    relative = os.path.relpath(absolute)
    return os.path.basename(absolute) if relative.split(os.sep)[0] == os.pardir else relative


def _public_word(word: str) -> str:
    option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{public(value)}" if value.startswith(("/", "..")) else word


def made_by(*packages: str) -> dict:
    """Return what a result says of the code that computed it: command, commit, versions of these packages."""
    return {"command": command(), "commit": commit(), "versions": versions(*packages)}


def hardware() -> dict[str, str | int]:
    """Return the processor's name and how many of its cores this process may use."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {"cpu": models[0] if models else "unknown", "cores": len(os.sched_getaffinity(0))}


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
