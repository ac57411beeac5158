"""Fetching CBIS-DDSM from the Imaging Data Commons: its real index, and a server on this machine that speaks S3."""

import csv
import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from data_prep.core.records import LABELS
from data_prep.sources import cbis_download, idc_client
from data_prep.sources.cbis_ddsm import NAME
from tests.helpers import idc_server
from tests.helpers.cbis_series import CSVS, FILES, MASSES, PATIENTS, WHOLE, content, wait_for, without
from tests.helpers.idc_server import BUCKET, Server, started
from tests.helpers.servers import serving

DAMAGED = "1.3.6.1.5"


@pytest.fixture(scope="module")
def listed() -> list[idc_client.Series]:
    found = idc_client.list_series("cbis_ddsm")
    return [series for series in found if series.patient.startswith(cbis_download.PATIENTS)]


def test_the_real_index_has_the_archives_masses(listed):
    assert len(listed) == 3391
    assert sum(bool(NAME.fullmatch(series.patient)) for series in listed) == 1592
    assert sum(series.size for series in listed) == pytest.approx(82.5e9, rel=1e-3)
    assert Counter(series.images for series in listed) == {1: 1592 + 206, 2: 1593}
    assert all(re.fullmatch(rf"s3://{BUCKET}/[0-9a-f-]{{36}}/\*", series.url) for series in listed)


def test_the_real_index_has_every_series_of_the_archives_case_list(listed, shared):
    with (shared / "cbis_ddsm_mass_800" / "mass_case_description_train_set.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    of = {series.uid: series.patient for series in listed}
    for row in rows:
        for column in ("image file path", "cropped image file path", "ROI mask file path"):
            name, _, series, _ = row[column].split("/")
            assert of[series] == name


def test_the_first_patients_are_whole_and_of_both_classes(listed, shared):
    few = cbis_download.of_first_patients(listed, 60)
    films = {series.patient for series in few if NAME.fullmatch(series.patient)}
    patients = {re.search(r"P_\d+", series.patient)[0] for series in few}
    assert 60 <= len(films) <= 64
    assert set(few) == {series for series in listed if re.search(r"P_\d+", series.patient)[0] in patients}
    with (shared / "cbis_ddsm_mass_800" / "mass_case_description_train_set.csv").open(newline="") as file:
        labels = Counter(LABELS[row["pathology"]] for row in csv.DictReader(file) if row["patient_id"] in patients)
    assert min(labels.values()) > 10


@pytest.fixture
def server():
    yield from serving(Server(FILES))


@pytest.fixture
def index(tmp_path) -> Path:
    return idc_server.write_index(tmp_path / "index", FILES, PATIENTS)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "a set's folder" / "cbis"


def fetch(server: Server, out: Path, index: Path, *options: str) -> tuple[int, str, str]:
    """Runs the script; returns its exit status, stdout and stderr."""
    with started(server, out, index, *options) as process:
        printed = process.communicate(timeout=200)
    return process.returncode, *printed


def test_all_masses_and_their_tables_are_fetched_and_a_second_time_nothing_is_asked_for(server, out, index):
    status, stdout, stderr = fetch(server, out, index)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE
    assert {name.split("/")[0] for name in server.asked} == set(MASSES)
    assert stdout.startswith("13 of 13 series to come, 0.0 of 0.0 GB\n") and "CC BY 3.0" in stdout
    server.asked.clear()
    status, stdout, _ = fetch(server, out, index)
    assert (status, server.asked) == (0, [])
    assert stdout.startswith("0 of 13 series to come")


def test_only_the_first_patients_are_fetched_where_few_films_are_wanted(server, out, index):
    status, stdout, _ = fetch(server, out, index, "--films-only", "3")
    assert status == 0
    assert content(out) == without(*(set(MASSES) - {"1.3.6.1.1", "1.3.6.1.2", "1.3.6.1.3"}))
    assert stdout.startswith("3 of 3 series to come")


def test_after_a_kill_only_what_is_missing_is_asked_for(server, out, index):
    server.go = threading.Semaphore(4)
    with started(server, out, index) as process:
        wait_for(lambda: len(list(out.glob("1.*"))) >= 2 and len(server.asked) == len(WHOLE) - len(CSVS))
        process.kill()
        process.wait()
    there = {path.name for path in out.glob("1.*")}
    for uid in there:
        assert {path.name: path.read_bytes() for path in (out / uid).iterdir()} == FILES[uid]
    server.go.release(1000)
    time.sleep(0.5)  # s5cmd ended with the script, so nothing more comes
    assert {path.name for path in out.glob("1.*")} == there
    server.asked.clear()
    status, _, _ = fetch(server, out, index)
    assert status == 0
    assert {name.split("/")[0] for name in server.asked} == set(MASSES) - there
    assert content(out) == WHOLE


def test_ctrl_c_stops_at_once_and_says_how_to_go_on(server, out, index):
    server.go = threading.Semaphore(0)
    with started(server, out, index) as process:
        wait_for(lambda: server.asked)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    server.go.release(1000)
    assert (process.returncode, stderr) == (130, "interrupted; type the command again to go on\n")
    assert sorted(path.name for path in out.iterdir()) == sorted(CSVS)


def test_a_file_cut_off_is_asked_for_again(server, out, index):
    server.cut[f"{DAMAGED}/00000001.dcm"] = 2
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr) == (0, "")
    assert content(out) == WHOLE


@pytest.mark.parametrize("fault", ["refused", "truncated", "not there"])
def test_a_series_that_is_not_whole_is_named_and_the_others_are_fetched(server, out, index, fault):
    name = f"{DAMAGED}/00000001.dcm"
    problem = f"not the 1 files of {len(server.objects[name]):,} bytes that the index tells of"
    if fault == "refused":
        server.gone.add(name)
        problem = "AccessDenied: Access Denied status code: 403"
    elif fault == "truncated":
        server.objects[name] = server.objects[name][:1000]
    else:
        del server.objects[name]
        problem = "no object found"
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr.count("\n")) == (2, 1)
    assert stderr.startswith(f"error: series {DAMAGED}: {problem}")
    assert "type the command again to go on" in stderr
    assert content(out) == without(DAMAGED)


def test_a_server_that_is_not_there_is_one_line(server, out, index):
    status, _, stderr = fetch(server, out, index, "--endpoint", "http://127.0.0.1:9")
    assert (status, stderr.count("\n")) == (2, 1)
    assert "connection refused" in stderr and "more series failed" in stderr


def test_csvs_that_have_moved_are_one_line_that_says_where_to_look(server, out, index):
    server.csvs = {}
    status, _, stderr = fetch(server, out, index)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "cancerimagingarchive.net/collection/cbis-ddsm" in stderr
    assert f"put it at {out / min(CSVS, key=lambda name: 'test' in name)}" in stderr


def test_without_the_optional_packages_it_is_one_line(server, out, tmp_path):
    (tmp_path / "idc_index_data.py").write_text("raise ImportError('No module named idc_index_data')")
    status, _, stderr = fetch(server, out, tmp_path)
    assert (status, stderr.count("\n")) == (2, 1)
    assert "pip install -r requirements-fetch.txt" in stderr
