"""The model card: metadata that YAML reads, measured facts, and texts of users without a meaning of their own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import tiny_bundle
import yaml
from described import EVIDENCE, with_input

from xxdeploy.report.card import describe, escaped, model_card
from xxdeploy.results import Evidence
from xxdeploy.runtime.image.preprocess import Preprocess


def metadata(card: str) -> dict[str, Any]:
    _, head, _ = card.split("---\n", 2)
    value: dict[str, Any] = yaml.safe_load(head)
    return value


def test_the_metadata_are_those_of_a_model_index() -> None:
    files, manifest = tiny_bundle.parts_and_manifest()
    manifest = replace(manifest, variants=(replace(manifest.variants[0], name="int8"),))
    data = metadata(model_card(manifest, EVIDENCE, files))
    assert (data["library_name"], data["pipeline_tag"]) == ("onnx", "image-classification")
    (index,) = data["model-index"]
    assert index["name"] == "tiny-0"
    assert index["results"] == [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": f"evaluation images of the export, SHA-256 {'e' * 12}", "type": "image-folder"},
            "metrics": [
                {
                    "type": "accuracy",
                    "name": "top-1 of model.onnx, 400 images (95 % interval 70.5 to 79.0 %)",
                    "value": 0.75,
                }
            ],
        }
    ]


def test_a_litert_file_is_of_another_library() -> None:
    files, manifest = tiny_bundle.parts_and_manifest()
    variant = replace(manifest.variants[0], model="model.tflite", requires=("litert",))
    card = model_card(replace(manifest, variants=(variant,)), Evidence(), {**files, "model.tflite": b""})
    assert metadata(card)["library_name"] == "tflite"
    assert "| `model.tflite` | fp32 | litert | 0.00 |" in card


def test_without_labeled_images_there_is_no_index() -> None:
    files, manifest = tiny_bundle.parts_and_manifest()
    card = model_card(manifest, Evidence(), files)
    assert "model-index" not in metadata(card)
    assert "## Measured" not in card


def test_a_text_of_a_user_is_only_a_text() -> None:
    text = "a | <script>x</script>\n# head [link](http://x) `code` *b*"
    assert escaped(text) == (r"a \| &lt;script&gt;x&lt;/script&gt; \# head \[link\]\(http://x\) \`code\` \*b\*")
    files, manifest = tiny_bundle.parts_and_manifest()
    named = replace(manifest, source={"model": "x\n---\nevil: true"})
    card = model_card(named, Evidence(notes=(text,)), files)
    assert "<script>" not in card
    assert "evil" not in metadata(card)


def test_the_card_and_the_file_for_transformers_come_together() -> None:
    files, _ = tiny_bundle.parts_and_manifest()
    described = describe(with_input(Preprocess(8, 8)), EVIDENCE, files, card=True, bom=True)
    assert sorted(described) == ["README.md", "bom.cdx.json", "preprocessor_config.json"]
    parts = json.loads(described["bom.cdx.json"])["components"]
    assert {"README.md", "preprocessor_config.json"} <= {part["name"] for part in parts}
    assert describe(with_input(Preprocess(8, 8)), EVIDENCE, files, card=False, bom=False) == {}


def test_a_preprocessing_that_transformers_lacks_is_named_in_the_card() -> None:
    files, _ = tiny_bundle.parts_and_manifest()
    described = describe(with_input(Preprocess(8, 8, 3, "caffe")), EVIDENCE, files, card=True, bom=False)
    assert list(described) == ["README.md"]
    why = "there is no `preprocessor_config.json`: the model takes BGR, and transformers makes RGB"
    assert why in described["README.md"].decode()
