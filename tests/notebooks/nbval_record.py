"""A pytest plugin that writes down what nbval ran: `-p tests.notebooks.nbval_record`.

nbval keeps no outputs in its lax mode; the test of the notebooks wants to know which cells were
compared, which exercises passed, and whether anything came on stderr. The file's name comes from
the environment variable NBVAL_RECORD.
"""

import json
import os
from pathlib import Path

import pytest

CELLS = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[CELLS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and hasattr(item, "cell_num"):
        outputs = item.test_outputs or []
        streams = [(out.get("name", ""), out.get("text", "")) for out in outputs]
        item.config.stash[CELLS].append(
            {
                "cell": item.cell_num,
                "outcome": report.outcome,
                "seconds": round(call.duration, 2),
                "compared": bool(item.options["check"]) and bool(item.cell.outputs),
                "tags": list(item.cell.metadata.get("tags", [])),
                "stdout": "".join(text for name, text in streams if name == "stdout"),
                "stderr": "".join(text for name, text in streams if name == "stderr"),
            }
        )
        text = json.dumps(item.config.stash[CELLS], ensure_ascii=False)
        Path(os.environ["NBVAL_RECORD"]).write_text(text, encoding="utf-8")
    return report
