"""Caffe's own unit tests on a GPU: the list of them, and the result of each.

`scripts/install/caffe_test.sh --cuda` builds their program. Each test case (a class of tests) runs in a process of its
own: where one of its tests makes Caffe abort, those of the other cases still run.
"""

import os
import re
import subprocess
from pathlib import Path

from tqdm import tqdm

from scripts.gpu_checks.isolated_runs import Failed, last_words

BUILD = "scripts/install/caffe_test.sh --cuda"
ON_GPU = "*/2.*:*/3.*:*GPU*:CuDNN*:Im2colKernelTest/*"
"""gtest's filter of the tests that compute on a GPU.

A test case for float and double on both devices is four: /0 and /1 are the CPU's, /2 and /3 the GPU's. The others have
only /0 and /1, and are the GPU's where their names say so.
"""
PASSED, FAILED, ABORTED, NOT_REACHED = "passed", "failed", "aborted", "not reached"
RESULT = re.compile(r"\[( RUN      |       OK |  FAILED  )\] ([^\s,]+)")


def program() -> Path:
    """Return where caffe_test.sh puts what starts the program: under the cache folder, as setup.sh names it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "breast-mass-caffe" / "test-cuda" / "run"


def run(chosen: str, gpu: int | None) -> dict[str, dict[str, str]]:
    """Run the tests that gtest's filter `chosen` takes in; return each one's "result" and what it "said".

    Raises Failed when there are none.
    """
    found = {}
    device = [] if gpu is None else [str(gpu)]
    for names in tqdm(list_tests(chosen), desc="Caffe's unit tests", unit="case", disable=None):
        text = _start(":".join(names), *device)
        ended = read(text)
        said = "" if ended else last_words(text)
        found |= {name: {"result": NOT_REACHED, "said": said} for name in names} | ended
    return found


def list_tests(chosen: str) -> list[list[str]]:
    """Return the full names of the tests that a filter takes in, a list each test case; Failed when there are none."""
    found: list[list[str]] = []
    text = _start(chosen, "--gtest_list_tests")
    for line in text.splitlines():
        if re.fullmatch(r"\S+\.", line):
            case = line
            found.append([])
        elif found and re.fullmatch(r"  \S+", line):
            found[-1].append(case + line.strip())
    if not found:
        raise Failed(f"{chosen}: no test is of this name\n{last_words(text)}".strip())
    return found


def read(text: str) -> dict[str, dict[str, str]]:
    """Return result and output of each test in gtest's output; the one in which it breaks off was aborted."""
    found, current, said = {}, None, []
    for line in text.splitlines():
        kind, name = match.groups() if (match := RESULT.match(line)) else ("", "")
        if kind == " RUN      ":
            current, said = name, []
        elif kind and name == current:  # at its end gtest names once more what failed
            found[name] = {"result": PASSED if "OK" in kind else FAILED, "said": last_words("\n".join(said))}
            current = None
        else:
            said.append(line)
    if current:
        found[current] = {"result": ABORTED, "said": last_words("\n".join(said))}
    return found


def _start(chosen: str, *arguments: str) -> str:
    """Return all that the program writes."""
    command = [program(), *arguments, f"--gtest_filter={chosen}"]
    environment = os.environ | {"GLOG_minloglevel": "2"}
    ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    return ran.stdout
