"""The 28 models of ``../shared/cases``: each is about something that a test here holds; five become INT8 whole.

``scripts/check_cases.py`` exports all of them and compares the bundles with the answers of the models in memory.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import check_cases
import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[2]
OWN = "convert/user_model"
HELD_BY = {
    "01-hard-sigmoid-keras2": f"{OWN}/test_upgrade_config.py::test_transfer_learning_from_h5",
    "02-hard-sigmoid-keras3": f"{OWN}/test_conversion.py::test_layers",
    "04-shared-submodel": f"{OWN}/test_conversion.py::test_layers",
    "05-nested-three-deep": f"{OWN}/test_conversion.py::test_layers",
    "06-groups-1-keras2": f"{OWN}/test_layer_options.py::test_options_without_effect_are_dropped_with_a_note",
    "08-hdf5-named-keras": f"{OWN}/test_files_of_keras2.py::test_the_content_decides_and_a_note_says_so",
    "09-lambda-rescale": f"{OWN}/lambdas/test_replace.py::test_the_numbers_are_those_of_the_lambda_layers",
    "11-mixed-float16": f"{OWN}/test_adapt.py::test_sixteen_bits_become_float32",
    "12-fixed-batch-32": f"{OWN}/test_adapt.py::test_a_fixed_batch_is_freed",
    "14-upsample-bilinear": f"{OWN}/test_conversion.py::test_layers",
    "15-avgpool-same-odd": f"{OWN}/test_conversion.py::test_layers",
    "16-dilated-depthwise": f"{OWN}/test_shared_cases.py::test_five_cases_in_int8",
    "17-conv-transpose": f"{OWN}/test_shared_cases.py::test_five_cases_in_int8",
    "19-dead-and-pruned": f"{OWN}/test_shared_cases.py::test_five_cases_in_int8",
    "21-one-sigmoid": f"{OWN}/test_prepare.py::test_one_sigmoid_becomes_two_classes",
    "22-softmax-layer-logits": f"{OWN}/test_describe.py::test_what_an_output_holds",
    "23-activations-zoo": f"{OWN}/test_conversion.py::test_activations",
    "25-group-layer-norm": f"{OWN}/test_conversion.py::test_layers",
    "27-batchnorm-extremes": f"{OWN}/test_shared_cases.py::test_five_cases_in_int8",
    "28-zero-padding-max": f"{OWN}/test_shared_cases.py::test_five_cases_in_int8",
    "31-crnn-ctc": f"{OWN}/quarantine/test_refused.py::test_each_name_of_keras_is_known_or_has_a_reason",
    "32-dynamic-size": f"{OWN}/test_describe.py::test_pictures_of_any_size_need_one",
    "33-rescaling-twice": "cli/test_names.py::test_pixels_can_be_scaled_twice_if_the_training_did_so",
    "34-dropout-training-true": f"{OWN}/test_layer_options.py::test_training_mode",
    "36-four-channels": f"{OWN}/test_describe.py::test_inputs_that_are_no_pictures",
    "37-odd-names": "cli/test_names.py::test_odd_names_of_files_and_layers",
    "38-single-class-softmax": f"{OWN}/test_prepare.py::test_a_softmax_over_one_class_is_said_to_be_one",
    "40-grey-into-rgb": "runtime/image/test_preprocess.py::test_modes_convert_as_pillow_does",
}
"""Each case, and the test that holds what it is about."""
INT8 = [name for name, test in HELD_BY.items() if test.endswith("in_int8")]

needs_cases = pytest.mark.skipif(
    not check_cases.BUILDER.is_file(),
    reason="../shared/cases (models that broke converters, not for release) is absent",
)


def test_the_tests_exist() -> None:
    for test in HELD_BY.values():
        path, _, name = test.partition("::")
        tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


@needs_cases
def test_no_case_is_missing() -> None:
    text = check_cases.BUILDER.read_text(encoding="utf-8")
    assert set(re.findall(r'^@case\("([^"]+)"', text, re.MULTILINE)) == set(HELD_BY)


@needs_cases
def test_five_cases_in_int8(tmp_path: Path) -> None:
    index = check_cases.build(tmp_path, INT8)
    assert len(index) == len(INT8) == 5
    for case in index:
        bundle = check_cases.export_case(case, tmp_path, int8=True)
        stored = np.load(tmp_path / f"{case['name']}.npz")
        (given,) = check_cases.answers(bundle, stored["pixels"])
        assert np.abs(given - stored["y0"]).max() < 0.05, case["name"]
