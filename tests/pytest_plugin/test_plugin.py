"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.metadata import entry_points
from pathlib import Path

import mutations
import pytest
import tiny_bundle
import yaml
from PIL import Image

import xxdeploy.pytest_plugin
from xxdeploy.pytest_plugin.plugin import CHECKS

pytest_plugins = ["pytester"]

INSTALLED = any(entry.name == "xxdeploy" for entry in entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "xxdeploy.pytest_plugin.plugin")
TEMPLATES = Path(xxdeploy.pytest_plugin.__file__).parent / "templates"


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*PLUGIN, "-p", "no:cacheprovider", *arguments)


def test_a_good_bundle(pytester: pytest.Pytester, bundle: Path) -> None:
    report = run(pytester, f"--xxdeploy-bundle={bundle}", "-rs", "--junitxml=j.xml")
    report.assert_outcomes(passed=3, skipped=5)
    report.stdout.fnmatch_lines(
        ["*xxdeploy/tiny::golden: portable *allowed 1.0e-05*", "*SKIPPED*no Keras model is given*"]
    )
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "j.xml").iter("testcase")}
    assert tuple(cases) == CHECKS
    assert cases["hashes"].get("classname") == "xxdeploy.tiny"
    assert cases["golden"].find("properties/property[@name='xxdeploy-portable']") is not None


def test_a_broken_bundle_is_an_error_of_ours_and_not_a_traceback(pytester: pytest.Pytester, bundle: Path) -> None:
    (bundle / "labels.txt").write_text("other\n")
    report = run(pytester, f"--xxdeploy-bundle={bundle}", "--junitxml=j.xml")
    assert report.ret == pytest.ExitCode.TESTS_FAILED
    assert "Traceback" not in report.stdout.str()
    report.stdout.fnmatch_lines(["error?file-size?: labels.txt has 6 bytes*", " hint: the bundle is damaged*"])
    failure = next(ET.parse(pytester.path / "j.xml").iter("failure"))
    assert "file-size" in str(failure.text)


def test_a_wrong_constant_is_named(pytester: pytest.Pytester, bundle: Path) -> None:
    mutations.change_mode(bundle, None)
    report = run(pytester, f"--xxdeploy-bundle={bundle}")
    report.assert_outcomes(passed=2, failed=1, skipped=5)
    report.stdout.fnmatch_lines(["error?golden-mismatch?: preprocess: mode is 'torch', and it was exported with 'tf'*"])


def test_a_bundle_that_is_not_there(pytester: pytest.Pytester) -> None:
    report = run(pytester, "--xxdeploy-bundle=absent")
    assert report.ret == pytest.ExitCode.TESTS_FAILED
    report.stdout.fnmatch_lines(["error?bundle-not-found?: there is no bundle absent"])


def test_a_signature_is_asked_for(pytester: pytest.Pytester, bundle: Path, tmp_path: Path) -> None:
    from xxdeploy.bundle.sign import generate_key, sign

    pair = generate_key(tmp_path / "k")
    options = (f"--xxdeploy-bundle={bundle}", f"--xxdeploy-key={pair.public}", "-k", "hashes")
    run(pytester, *options).stdout.fnmatch_lines(["error?signature-missing?*"])
    sign(bundle, pair.private, version=2)
    run(pytester, *options).stdout.fnmatch_lines(["*::hashes: files 4; version 2"])
    run(pytester, *options, "--xxdeploy-min-version=3").stdout.fnmatch_lines(["error?signature-old?*"])


def test_the_users_own_tests(pytester: pytest.Pytester, bundle: Path) -> None:
    pytester.makepyfile(
        f"""
        import numpy as np
        import pytest

        @pytest.mark.xxdeploy(bundle={str(bundle)!r})
        def test_a_black_picture(xxdeploy_bundle, xxdeploy_runtime):
            xxdeploy_bundle.check_golden()
            assert xxdeploy_runtime.predict(np.zeros((8, 8, 3), np.uint8))[0].label.startswith("class")

        @pytest.mark.xxdeploy({str(bundle)!r}, budget=-1)
        def test_nonsense(xxdeploy_bundle):
            pass

        @pytest.mark.xxdeploy({str(bundle)!r}, color="red")
        def test_no_such_name(xxdeploy_bundle):
            pass

        def test_of_the_command_line(xxdeploy_bundle):
            xxdeploy_bundle.check_hashes()

        def test_of_nothing():
            pass
        """
    )
    report = run(pytester, "-rs")
    report.assert_outcomes(passed=2, errors=2, skipped=1)
    report.stdout.fnmatch_lines(
        ["*--xxdeploy-budget must be greater than 0, not -1*", "*the marker xxdeploy has no argument color*"]
    )
    run(pytester, f"--xxdeploy-bundle={bundle}", "-k", "command_line").assert_outcomes(passed=1, deselected=12)
    run(pytester, f"--xxdeploy-bundle={bundle}", "-m", "xxdeploy and not own", "-k", "not test_").assert_outcomes(
        passed=3, skipped=5, deselected=5
    )


def test_it_costs_other_tests_nothing(pytester: pytest.Pytester, bundle: Path) -> None:
    """Loading imports next to nothing, and checking a bundle without a model no TensorFlow."""
    code = "import sys, xxdeploy.pytest_plugin.plugin; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for module in ("numpy", "PIL", "onnxruntime", "tensorflow", "xxdeploy.runtime", "xxdeploy.exporter"):
        assert f"'{module}'" not in loaded
    pytester.makeconftest(
        "def pytest_unconfigure():\n    import json, sys\n    print('modules', json.dumps(sorted(sys.modules)))\n"
    )
    out = pytester.runpytest_subprocess(*PLUGIN, f"--xxdeploy-bundle={bundle}", "-s").stdout.str()
    modules = json.loads(re.search(r"^modules (.*)$", out, re.MULTILINE)[1])  # type: ignore[index]
    assert "onnxruntime" in modules
    assert not {"tensorflow", "keras", "tf2onnx"} & set(modules)


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """One image of each class of the tiny bundle, all alike: one in ten is right."""
    for label in tiny_bundle.LABELS:
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8), (200, 30, 90)).save(tmp_path / "val" / label / "0.png")
    return tmp_path / "val"


def test_accuracy_without_a_record_needs_a_floor(pytester: pytest.Pytester, bundle: Path, labeled: Path) -> None:
    options = (f"--xxdeploy-bundle={bundle}", f"--xxdeploy-eval={labeled}", "-k", "accuracy", "-rs")
    result = run(pytester, *options)
    result.assert_outcomes(skipped=1, deselected=7)
    result.stdout.fnmatch_lines(["*the bundle records no accuracy: export it with --eval, or add*"])
    run(pytester, *options, "--xxdeploy-min-accuracy=0.1").assert_outcomes(passed=1, deselected=7)
    result = run(pytester, *options, "--xxdeploy-min-accuracy=0.11")
    result.stdout.fnmatch_lines(
        ["error?accuracy-below-floor?: onnx-fp32: top-1 is 10.0% on 10 images, less than 11.0%"]
    )
    result = run(pytester, *options, "--xxdeploy-min-accuracy=70")
    result.stdout.fnmatch_lines(["error?bad-accuracy?*"])


def test_a_device_skips_the_checks_that_need_the_exporter(
    pytester: pytest.Pytester, bundle: Path, labeled: Path, tmp_path: Path
) -> None:
    other = tiny_bundle.make(tmp_path / "other", seed=1)
    exporter = ("tensorflow", "keras", "tf2onnx", "onnx", "h5py", "jinja2", "psutil")
    pytester.makeconftest(f"import sys\nsys.modules.update(dict.fromkeys({exporter!r}))\n")
    options = (
        f"--xxdeploy-eval={labeled}",
        "--xxdeploy-model=source",
        "--xxdeploy-budget=9",
        "--xxdeploy-min-accuracy=0",
    )
    result = pytester.runpytest_subprocess(
        *PLUGIN, f"--xxdeploy-bundle={bundle}", *options, f"--xxdeploy-card={other}", "-rs"
    )
    result.assert_outcomes(passed=4, skipped=4)  # parity, agreement, latency, drift
    result.stdout.fnmatch_lines(["*SKIPPED*this step needs *which is not installed: pip install 'xxdeploy?export?'*"])


def test_a_device_without_an_engine_fails(pytester: pytest.Pytester, bundle: Path) -> None:
    pytester.makeconftest("import sys\nsys.modules['onnxruntime'] = None\n")
    result = pytester.runpytest_subprocess(*PLUGIN, f"--xxdeploy-bundle={bundle}", "-k", "golden")
    result.stdout.fnmatch_lines(["error?missing-dependency?*onnxruntime*"])


def test_drift_and_latency(pytester: pytest.Pytester, bundle: Path, tmp_path: Path) -> None:
    other = tiny_bundle.make(tmp_path / "other", seed=1)
    options = (f"--xxdeploy-bundle={bundle}", f"--xxdeploy-beside={other}")
    run(pytester, *options, "--xxdeploy-budget=50").stdout.fnmatch_lines(["*::latency: *x (budget 50x)"])
    run(pytester, *options, "--xxdeploy-budget=0.01").stdout.fnmatch_lines(["error?over-budget?*"])


def commands(node: object) -> list[str]:
    """Every shell command in a workflow: what is under `run` and `script`."""
    if isinstance(node, dict):
        own = [str(text) for key, value in node.items() if key in ("run", "script")
               for text in (value if isinstance(value, list) else [value])]  # fmt: skip
        return own + [text for value in node.values() for text in commands(value)]
    return [text for value in node for text in commands(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_workflow_files_are_yaml_and_use_options_that_there_are(name: str) -> None:
    text = (TEMPLATES / name).read_text()
    workflow = yaml.safe_load(text)
    if name == "github.yml":
        assert {"name", "permissions", "env", "jobs"} <= set(workflow)
        assert all("uses" in step or "run" in step for step in workflow["jobs"]["parity"]["steps"])
    else:
        assert {"image", "script", "artifacts"} <= set(workflow["parity"])
    told = "\n".join(commands(workflow))
    assert subprocess.run(["bash", "-n", "-c", told], check=False).returncode == 0
    helped = subprocess.run(
        [sys.executable, "-m", "pytest", *PLUGIN, "--help"], capture_output=True, text=True, check=True
    )
    exports = subprocess.run(
        [sys.executable, "-m", "xxdeploy", "export", "--help"], capture_output=True, text=True, check=True
    )
    options = set(re.findall(r"--[a-z][a-z0-9-]+", told)) - {"--junitxml"}
    assert {"--xxdeploy-bundle", "--xxdeploy-model", "--int8"} <= options
    for option in options:
        assert option in (helped.stdout if option.startswith("--xxdeploy") else exports.stdout), option
    assert shlex.split(told.replace("\n", " "))
