"""The house: commands on top that nobody imports, rooms beneath whose imports go down, texts that name what is."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = (
    ("data_prep.core",),
    ("data_prep.formats", "data_prep.database"),
    ("data_prep.sources",),
    ("data_prep.auditing", "data_prep.synthesis"),
    ("data_prep.building",),
    ("scripts.nets",),
    ("scripts.evaluation",),
    ("scripts.training", "scripts.reporting"),
    ("scripts.benchmarks",),
    ("scripts.experiments", "scripts.gpu_checks"),
    ("data_prep", "scripts"),  # the commands
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path.relative_to(ROOT) for part in ("data_prep", "scripts") for path in (ROOT / part).rglob("*.py"))
SUFFIXES = (".py", ".md", ".toml", ".prototxt", ".sh")
ELSEWHERE = {"solver.prototxt", "net.prototxt", "test_draw.py"}  # in a run's folder; in Caffe's source
COMMANDS = [path for path in MODULES if len(path.parts) == 2 and path.name != "__init__.py"]


def imports(path: Path) -> set[str]:
    """The modules of ours that a file imports, dotted."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("data_prep", "scripts"):
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                is_module = (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()
                found.add(name if is_module else node.module)
    return found


@pytest.mark.parametrize("path", COMMANDS, ids=str)
def test_a_file_on_top_is_a_command(path):
    text = (ROOT / path).read_text()
    assert "\ndef main() -> None:" in text and "sys.exit(run(main))" in text
    assert f"python {path}" in ast.get_docstring(ast.parse(text)), "its docstring shows what a user types"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down_and_nobody_imports_a_command(path):
    room = ".".join(path.parent.parts)
    for module in imports(path):
        other = module.rpartition(".")[0]
        assert other == room or FLOOR[other] < FLOOR[room], f"{path} imports {module}"
        assert Path(module.replace(".", "/")).with_suffix(".py") not in COMMANDS, f"{path} imports the command {module}"


@pytest.mark.parametrize("room", FLOOR)
def test_every_room_says_what_it_is_for(room):
    assert ast.get_docstring(ast.parse((ROOT / room.replace(".", "/") / "__init__.py").read_text()))


def test_every_file_that_a_text_names_is_there():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [name for name in listed if not name.startswith(("results/", "tests/")) and Path(name).suffix in SUFFIXES]
    known = {Path(name).name for name in listed}
    missing = []
    for name in texts:
        for named in re.findall(r"(?<![\w.*{$/])[\w./-]+\.(?:py|sh|prototxt|toml)\b(?!\()", (ROOT / name).read_text()):
            if named.startswith(("data/", "runs/", "weights/", "/")):
                continue
            there = named in listed if "/" in named else named in known | ELSEWHERE
            if not there and not (ROOT / name).parent.joinpath(named).is_file():
                missing.append(f"{name}: {named}")
    assert not missing
