"""`doctor` says what is wrong on a machine and what to do about it."""

import pytest

from recsys_lib.commands import doctor
from recsys_lib.commands.main import main


def by_name() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine()}


def test_this_machine_is_ready(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("Python", "packages", "device", "memory", "disk", "model", "data"):
        assert word in out
    assert "WRONG" not in out


def test_another_version_is_a_note_and_a_missing_package_is_wrong(tmp_path, monkeypatch, capsys):
    lines = "# tested\nnumpy==0.1\nno-such-package==1.0\n\nalso-not-there==2.0\n"
    (tmp_path / "constraints.txt").write_text(lines, encoding="utf-8")
    monkeypatch.setattr(doctor, "project_folder", lambda: tmp_path)
    found = {finding.state: finding for finding in doctor._packages()}
    assert "(0.1 was tested)" in found["note"].found
    assert found["wrong"].found == "missing: no-such-package"  # what others bring may be absent
    assert main(["doctor"]) == 1
    assert "pip install -c constraints.txt" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("what", "name", "value", "state"),
    [("memory", "MEMORY_GB", 10**6, "note"), ("disk", "DISK_GB", 10**6, "note")],
)
def test_too_little_is_a_note_with_advice(what, name, value, state, monkeypatch):
    monkeypatch.setattr(doctor, name, value)
    finding = by_name()[what]
    assert finding.state == state
    assert finding.advice


def test_a_model_that_does_not_load_and_missing_data(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_DATA", "")
    monkeypatch.setattr("recsys_lib.models.load_encoder", lambda name: 1 / 0)
    found = by_name()
    assert (found["model"].state, found["model"].found) == ("wrong", "division by zero")
    assert "data get" in found["data"].advice
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "nowhere"))
    assert by_name()["data"].state == "wrong"


def test_spoiled_data_and_a_runs_folder_that_is_a_file_are_wrong(monkeypatch, tmp_path):
    spoiled = tmp_path / "clothing" / "Womens Clothing E-Commerce Reviews.csv"
    spoiled.parent.mkdir()
    spoiled.write_text("text\n", encoding="utf-8")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    (found,) = [f for f in doctor.examine() if f.what == "data" and f.state == "wrong"]
    assert found.found == f"clothing in {tmp_path / 'clothing'} is not as registered"
    assert "data get clothing --to" in found.advice
    monkeypatch.setenv("RECSYS_RUNS", str(spoiled))
    assert by_name()["disk"].state == "wrong"
