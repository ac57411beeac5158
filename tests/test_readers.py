"""Every reader of files that the commands use returns what a damaged file holds, or raises InputError in one line."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.core.errors import InputError
from data_prep.formats import ljpeg
from scripts.training import views
from tests.data_prep.test_arbitrary_bytes import bounded_memory, damaged  # noqa: F401, a fixture
from tests.helpers import readers

JUNK = [None, True, -1, 0, 10**30, float("nan"), float("inf"), "", "a\nb", [], {}, [[]], {"a": None}, "\udc80"]
few = settings(derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.filterwarnings("ignore")  # of damaged values, by the hundred


def test_a_photograph_that_claims_a_billion_pixels_is_an_error(tmp_path):
    (tmp_path / "huge.png").write_bytes(b"P5 40000 40000 255\n" + bytes(1000))
    with pytest.raises(InputError, match=r"huge\.png"):
        views.read_photographs(tmp_path)


@st.composite
def restructured(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON file with one of its values, at any depth, removed or replaced by another."""
    holder = whole = json.loads(content)
    while True:
        key = draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if not (isinstance(holder[key], dict | list) and holder[key] and draw(st.booleans())):
            break
        holder = holder[key]
    if draw(st.booleans()):
        holder[key] = draw(st.sampled_from(JUNK))
    else:
        del holder[key]
    return json.dumps(whole).encode()


def is_json(content: bytes) -> bool:
    try:
        return bool(json.loads(content))
    except ValueError:
        return False


def test_any_damage_to_any_file_is_an_input_error_of_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(ljpeg, "CPU_LIMIT_S", 2)
    let_out: dict[str, str] = {}
    for name, reader in readers.make(tmp_path / "made").items():
        path = tmp_path / "read" / "".join(filter(str.isalnum, name)) / reader.name
        path.parent.mkdir(parents=True)
        for content in reader.sound:
            path.write_bytes(content)
            reader.read(path)
        damage(name, reader, path, let_out)
    assert not let_out


def damage(name: str, reader: readers.Reader, path: Path, let_out: dict[str, str]) -> None:
    """Give a reader damaged files; note in `let_out` what it raises beside an InputError of one line."""
    sound = st.sampled_from(reader.sound)
    kinds = st.binary(max_size=200) | sound.flatmap(damaged)
    if is_json(reader.sound[0]):
        kinds |= sound.flatmap(restructured)

    @few
    @given(content=kinds)
    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            reader.read(path)
        except InputError as error:
            if "\n" in str(error):
                let_out[name] = f"several lines: {error}"
        except Exception as error:
            let_out[name] = repr(error)[:200]

    read()
