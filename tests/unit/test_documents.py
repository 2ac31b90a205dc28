"""The documents show real output: examples and schema are generated, and may not go stale.

``SATSCORE_REGENERATE_GOLDEN=1 pytest tests/unit/test_documents.py`` rewrites them.
"""

import json
import os
from pathlib import Path

import jsonschema
import pytest

from satscore.core.summary import Summary, decode, encode, json_schema
from satscore.views.text import render
from tests.unit.sim_runs import four_ranks, no_gpu, one_process

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMAND = ["python", "pretrain.py", "--config", "8b.yaml"]
README_BEGIN, README_END = "<!-- example:begin -->\n```text\n", "\n```\n<!-- example:end -->"
EXAMPLES = {
    "summary.example.json": lambda: one_process("sim:checkpoints", 900, COMMAND),
    "summary.example.four-ranks.json": lambda: four_ranks(300, COMMAND),
    "summary.example.no-gpu.json": lambda: no_gpu(["true"]),
}


def compare(path: Path, text: str) -> None:
    if os.environ.get("SATSCORE_REGENERATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: see the top of this test"


def rounded(summary: Summary) -> str:
    """Return the summary as JSON with floats to 6 digits: the last ones depend on the numpy build."""

    def walk(value):
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        return [walk(item) for item in value] if isinstance(value, list) else value

    return json.dumps(walk(json.loads(encode(summary))), indent=2, ensure_ascii=False) + "\n"


def test_schema_is_what_the_types_say():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    compare(DOCS / "summary.schema.json", json.dumps(schema, indent=2) + "\n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    summary = EXAMPLES[name]()
    compare(DOCS / name, rounded(summary))
    jsonschema.validate(json.loads(encode(summary)), json.loads((DOCS / "summary.schema.json").read_text()))
    assert decode((DOCS / name).read_bytes()).schema_version == summary.schema_version


def test_readme_shows_the_block_of_a_simulated_run():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = render(one_process("sim:gh200x4", 400, COMMAND)).lstrip("\n")
    if os.environ.get("SATSCORE_REGENERATE_GOLDEN"):
        head, rest = text.split(README_BEGIN, 1)
        text = head + README_BEGIN + block + README_END + rest.split(README_END, 1)[1]
        (ROOT / "README.md").write_text(text, encoding="utf-8")
    assert README_BEGIN + block + README_END in text
