"""Breaking one thing on purpose fails a check with a message that names the place; nothing broken, nothing fails.

On the sample MobileNetV2 (Fashion-MNIST), exported as anybody would. The table in docs/explanation/reliability.md is
of these.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mutations
import pytest

from xxdeploy.diagnose.first_fault import Reference, open_reference
from xxdeploy.errors import XXDeployError
from xxdeploy.exporter import ExportOptions, export
from xxdeploy.models.catalog import find
from xxdeploy.models.samples import sample_for
from xxdeploy.pytest_plugin.subject import Subject, SubjectOptions

SPEC = find("mobilenetv2")
CHECKS = ("hashes", "records", "golden", "parity", "agreement", "accuracy")


class Made:
    """The two bundles, and the Keras model, built once."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "images"
        for picture in sorted(sample_for(SPEC).evaluation.rglob("*.png")):
            if int(picture.stem) < 12:
                target = self.images / picture.parent.name / picture.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(picture, target)
        plan: dict[str, Any] = {"weights": "sample", "evaluation": self.images}
        self.bundles = {
            "int8": export(SPEC, ExportOptions.of("int8", samples=60, **plan), folder / "int8").bundle,
            "fp32": export(SPEC, ExportOptions.of("fp32", **plan), folder / "fp32").bundle,
        }
        self.reference = open_reference(Subject(self.bundles["int8"]).manifest)

    def subject(self, bundle: Path, reference: Reference | None = None) -> Subject:
        """The bundle under test with the Keras model built once for all mutations."""
        return Subject(bundle, SubjectOptions(evaluation=self.images), reference=reference or self.reference)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def failures(subject: Subject) -> dict[str, XXDeployError]:
    errors = {}
    for check in CHECKS:
        try:
            getattr(subject, f"check_{check}")()
        except XXDeployError as error:
            errors[check] = error
    return errors


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_nothing_is_found_where_nothing_is_broken(made: Made, precision: str) -> None:
    assert failures(made.subject(made.bundles[precision])) == {}


@pytest.mark.parametrize(
    ("what", "precision", "break_it", "check", "code", "place"),
    mutations.MUTATIONS,
    ids=[f"{what} ({check})" for what, _, _, check, _, _ in mutations.MUTATIONS],
)
def test_a_mutation_is_caught_and_named(
    made: Made,
    tmp_path: Path,
    record_property: Any,
    what: str,
    precision: str,
    break_it: mutations.Break,
    check: str,
    code: str,
    place: str,
) -> None:
    bundle = tmp_path / "b"
    shutil.copytree(made.bundles[precision], bundle)
    break_it(bundle, made.reference.keras)
    with pytest.raises(XXDeployError) as caught:
        getattr(made.subject(bundle), f"check_{check}")()
    assert caught.value.code.startswith(code), caught.value.message
    assert place in caught.value.message
    record_property("message", f"{what} | {check} | {caught.value.message}")


def test_a_float_graph_that_was_converted_wrongly_is_told_by_stage_and_layer(made: Made, tmp_path: Path) -> None:
    """The converter itself at fault: the reference's own float graph is broken, Keras is right."""
    import dataclasses

    from xxdeploy.onnxmodel.model import OnnxModel

    bundle = tmp_path / "b"
    shutil.copytree(made.bundles["fp32"], bundle)
    mutations.skip_batch_norm(bundle, made.reference.keras)
    broken = OnnxModel((bundle / "model.onnx").read_bytes())
    subject = made.subject(made.bundles["int8"], dataclasses.replace(made.reference, fp32=broken))
    with pytest.raises(XXDeployError) as caught:
        subject.check_parity()
    assert caught.value.message.startswith("onnx-fp32: the first layer that goes wrong is block_2_expand")


def test_the_table_of_the_documentation_is_of_these() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "explanation" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and " | `" in line]
    expected = [
        f"| {what} | {precision} | `{check}` | `{code}{'*' if code.endswith('-') else ''}` | {place} |"
        for what, precision, _, check, code, place in mutations.MUTATIONS
    ]
    assert [row for row in rows if row in expected] == expected
