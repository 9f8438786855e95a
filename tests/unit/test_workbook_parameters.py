"""Parameters are read from the notebooks and checked before a kernel starts."""

import subprocess
import sys

import pandas as pd
import pytest

from recsys_lib.commands.main import main
from recsys_lib.workbook import InputError
from recsys_lib.workbook.parameters import check, declared, from_text
from recsys_lib.workbook.running import notebook_files

NOTEBOOKS = {path.stem[:2]: path for path in notebook_files()}


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=lambda path: path.stem)
def test_the_defaults_of_every_notebook_pass_their_own_check(path):
    known = declared(path)
    assert {"profile", "dataset", "seed"} <= set(known)
    check(path, {name: parameter.default for name, parameter in known.items()})
    for parameter in known.values():
        assert from_text(parameter, str(parameter.default)) == parameter.default
        assert type(parameter.default).__name__ == parameter.kind
        assert parameter.meaning
        assert parameter.allowed


@pytest.mark.parametrize(
    ("number", "name", "value", "says"),
    [
        ("04", "sed", 1, r'04_evaluation has no parameter "sed".*Did you mean "seed"\?'),
        ("04", "profile", "ful", r'profile = "ful" must be "quick" or "full"'),
        ("04", "seed", -1, "seed = -1 must be a whole number from 0"),
        ("04", "seed", True, "seed = True must be a whole number"),
        ("04", "model", " ", "model = ' ' must be a name"),
        ("04", "model", "./nowhere/encoder", r'model = "\./nowhere/encoder" is not a folder'),
        ("04", "text_column", 3, "text_column = 3 must be a text"),
        ("04", "cost_false_positive", 0, "cost_false_positive = 0 must be a number above 0"),
        ("04", "cost_false_positive", float("nan"), "must be a finite number"),
        ("04", "cost_false_positive", "5", "cost_false_positive = '5' must be a number"),
        ("04", "dataset", "clothin", r'Did you mean "clothing"\?'),
        ("04", "dataset", "nowhere/my.csv", "is not a file"),
        ("04", "dataset", "my.xlsx", "must be one of"),
        ("05", "dataset", "clothing", r'must be one of "auto", "market", "fashion"'),
        ("05", "judgements", "nowhere.csv", 'judgements = "nowhere.csv" is not a file'),
    ],
)
def test_a_wrong_value_is_one_line(number, name, value, says, monkeypatch):
    monkeypatch.setenv("RECSYS_DATA", "")
    with pytest.raises(InputError, match=says) as caught:
        check(NOTEBOOKS[number], {name: value})
    assert "\n" not in str(caught.value)


def test_right_values_pass(tmp_path):
    table = tmp_path / "mine.csv"
    pd.DataFrame({"text": ["fine"], "label": [1]}).to_csv(table, index=False)
    check(NOTEBOOKS["04"], {"dataset": str(table), "seed": 7, "cost_false_negative": 2})
    check(NOTEBOOKS["05"], {"dataset": str(table), "judgements": str(table), "wish": "a scarf"})
    check(NOTEBOOKS["01"], {"dataset": "market", "profile": "full"})


def test_a_text_is_read_as_the_parameters_own_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = declared(NOTEBOOKS["04"])
    assert from_text(known["seed"], "3") == 3
    assert from_text(known["cost_false_positive"], "1e-1") == 0.1
    assert from_text(known["text_column"], "3") == "3"  # a column may be called so
    assert from_text(known["dataset"], "market") == "market"
    assert from_text(known["dataset"], "my.csv") == str(tmp_path / "my.csv")
    assert from_text(known["model"], "bert-base-uncased") == "bert-base-uncased"
    (tmp_path / "encoder").mkdir()
    assert from_text(known["model"], "./encoder") == str(tmp_path / "encoder")
    with pytest.raises(InputError, match=r'seed = "1\.5" must be a whole number'):
        from_text(known["seed"], "1.5")


def test_the_command_lists_what_can_be_set(capsys):
    assert main(["params", "04"]) == 0
    out = capsys.readouterr().out
    assert "cost_false_positive: float = 5.0" in out
    assert "allowed: a number above 0" in out
    assert main(["params", "evalution"]) == 2
    assert 'Did you mean "04_evaluation"?' in capsys.readouterr().err


def test_a_check_does_without_torch():
    """To import it takes seconds, and a mistake should be told at once."""
    program = (
        "import sys; from recsys_lib.commands.main import main;"
        "code = main(['run', '04', '-p', 'seed', 'x']); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "2 False\n", done.stdout + done.stderr
