"""What commands print with --json is what the schema in docs/reference says."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import tiny_bundle
from json_schema import json_schema, schema_of
from PIL import Image

from xxdeploy.cli import main
from xxdeploy.cli.output import plain
from xxdeploy.exporter import ExportResult

ROOT = Path(__file__).resolve().parents[2]


def printed(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> object:
    assert main([*words, "--json"]) == status
    out, err = capsys.readouterr()
    return json.loads(err if status else out)


def test_the_schema_is_valid_and_up_to_date() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    written = (ROOT / "docs" / "reference" / "json-output.schema.json").read_text(encoding="utf-8")
    assert json.loads(written) == json_schema(), "run python scripts/make_reference.py"


def test_an_export_fits(lenet_export: ExportResult) -> None:
    document = json.loads(json.dumps(plain(lenet_export)))
    jsonschema.validate(document, schema_of("export"))
    del document["rows"]
    with pytest.raises(jsonschema.ValidationError, match="'rows' is a required property"):
        jsonschema.validate(document, schema_of("export"))


def test_commands_on_a_bundle_fit(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(picture)
    for command, words in {
        "predict": ["predict", str(bundle), str(picture)],
        "verify": ["verify", str(bundle)],
        "bench": ["bench", str(bundle), "--rounds", "5"],
        "models": ["models"],
    }.items():
        jsonschema.validate(printed(capsys, *words), schema_of(command))


def test_other_answers_of_predict_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(picture)
    made = printed(
        capsys, "predict", str(tiny_bundle.make_picture(tmp_path / "p")), str(picture), "--out", str(tmp_path)
    )
    jsonschema.validate(made, schema_of("predict, pictures"))
    numbers = printed(capsys, "predict", str(tiny_bundle.make_values(tmp_path / "v")), str(picture))
    jsonschema.validate(numbers, schema_of("predict, values"))


def test_an_error_fits(capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema.validate(printed(capsys, "export", "mobilnetv2", status=2), schema_of("error"))
