from __future__ import annotations

from pathlib import Path

import pytest
from unusual_options import options_with

from xxdeploy import exporter
from xxdeploy.batch.jobs import SET_BY_BATCH, Job, all_models, job_from, jobs_from
from xxdeploy.cli.app import run
from xxdeploy.errors import UsageError
from xxdeploy.exporter.option_fields import PRECISIONS, Value
from xxdeploy.exporter.options import OPTIONS, ExportOptions
from xxdeploy.models.catalog import CATALOG, find


def test_every_network_in_every_precision() -> None:
    jobs = jobs_from(all_models(), ("fp32", "int8"), {"weights": "none"})
    assert len(jobs) == 2 * len(CATALOG)
    assert {job.name for job in jobs} == {f"{spec.name}-{p}" for spec in CATALOG for p in ("fp32", "int8")}


def test_the_smallest_comes_first_and_the_largest_last() -> None:
    sizes = [find(name).parameters for name in all_models()]
    assert sizes == sorted(sizes)


def test_a_cell_is_a_command(tmp_path: Path) -> None:
    job = job_from("Mobile-Net V2", "int8", {"alpha": 0.35, "no-top": True, "weights": "none", "samples": 20})
    assert job.arguments(tmp_path / "b") == [
        "export", "--int8", "--alpha=0.35", "--no-top", "--samples=20", "--weights=none",
        f"--out={tmp_path / 'b'}", "--force", "--json", "--", "mobilenetv2",
    ]  # fmt: skip


def test_an_option_can_have_several_values(tmp_path: Path) -> None:
    words = job_from("lenet", "fp32", {"custom-objects": ("a:b", "c:d")}).arguments(tmp_path)
    assert words[1:3] == ["--custom-objects=a:b", "--custom-objects=c:d"]


def test_the_command_line_understands_a_job(tmp_path: Path) -> None:
    """Up to the network, which does not exist: every word before it was understood."""
    options: dict[str, Value] = {
        "alpha": 0.35,
        "no-top": True,
        "samples": 20,
        "seed": 3,
        "weights": "none",
        "input-size": 64,
    }
    words = Job("x-int8", "no-such-network", "int8", options).arguments(tmp_path)
    with pytest.raises(UsageError) as caught:
        run(words)
    assert caught.value.code == "unknown-model"


def test_a_name_cannot_become_an_option(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run(Job("x", "--weights=none", "fp32", {}).arguments(tmp_path))
    assert caught.value.code == "unknown-model"


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_arrives_in_the_job_that_it_applies_to(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process parses the same options; jobs in precisions where an option has no effect go without it."""
    options = options_with(name)
    calls: list[ExportOptions] = []
    monkeypatch.setattr(exporter, "export", lambda _source, options, _out, **_: calls.append(options))
    given = {option.name: value for option, value in options.given().items() if option.name not in SET_BY_BATCH}
    for precision in PRECISIONS:
        job = job_from("lenet", precision, given)
        run(job.arguments(tmp_path))
        expected = {OPTIONS[option].field: value for option, value in job.options.items()}
        assert calls.pop() == ExportOptions.of(precision, **{**expected, "force": True})
        assert (name in job.options) == (name in given and precision in OPTIONS[name].scope.precisions)


def test_options_that_a_precision_refuses_are_left_out_of_its_job() -> None:
    """The command of D2 in HOUSE.md: ``--precisions fp32,int8 --keep-fp32``."""
    options: dict[str, Value] = {"weights": "none", "calibration": "train", "cpu": "arm", "keep-fp32": True, "seed": 1}
    fp32, fp16, int8 = jobs_from(["lenet"], PRECISIONS, options)
    assert dict(fp32.options) == {"weights": "none", "seed": 1}
    assert dict(fp16.options) == {"weights": "none", "seed": 1, "calibration": "train"}
    assert dict(int8.options) == options


def test_the_digest_is_of_options_and_contents(tmp_path: Path) -> None:
    def digest() -> str:
        return job_from("lenet", "int8", {"labels": str(tmp_path / "l"), "calibration": str(tmp_path / "c")}).digest

    (tmp_path / "l").write_text("one")
    (tmp_path / "c" / "in").mkdir(parents=True)
    (tmp_path / "c" / "in" / "a.png").write_bytes(b"123")
    seen = [digest()]
    assert digest() == seen[0]
    (tmp_path / "l").write_text("two")
    seen.append(digest())
    (tmp_path / "c" / "in" / "b.png").write_bytes(b"123")
    seen.append(digest())
    (tmp_path / "c" / "in" / "b.png").write_bytes(b"1234")
    seen.append(digest())
    assert len(set(seen)) == 4
    assert job_from("lenet", "fp32", {"seed": 1}).digest != job_from("lenet", "fp32", {"seed": 2}).digest
    assert job_from("lenet", "fp32", {}).digest != job_from("lenet", "int8", {}).digest


def test_memory_grows_with_the_weights_and_stays_in_what_a_machine_has() -> None:
    of = {name: job_from(name, "fp32", {}).memory for name in ("lenet", "resnet50", "vgg19")}
    assert of["lenet"] < of["resnet50"] < of["vgg19"] < 5e9
    assert job_from("resnet50", "int8", {}).memory > of["resnet50"]


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("lenet", 0.68e9),
        ("nasnetmobile", 1.32e9),
        ("xception", 2.13e9),
        ("densenet-bc-190-40", 2.81e9),  # few weights, many layers
        ("resnet152v2", 2.90e9),
        ("nasnetlarge", 4.34e9),
        ("vgg19", 4.66e9),
    ],
)
def test_int8_gets_more_than_was_measured_but_not_twice_as_much(name: str, measured: float) -> None:
    given = job_from(name, "int8", {}).memory
    assert 1.1 * measured < given < max(1.6 * measured, 3.5e9)


def test_a_model_file_is_known_by_its_stem_and_size(tmp_path: Path) -> None:
    path = tmp_path / "my model (2).keras"
    path.write_bytes(bytes(1000))
    job = job_from(str(path), "fp32", {})
    assert (job.name, job.model, job.weight_bytes) == ("my-model-2-fp32", str(path), 1000)


@pytest.mark.parametrize(
    ("models", "precisions", "code"),
    [
        (["lenet", "Le-Net"], ("fp32",), "repeated-cell"),
        (["lenet"], ("fp32", "fp32"), "repeated-cell"),
        (["lenet"], ("fp64",), "unknown-precision"),
        (["lenett"], ("fp32",), "unknown-model"),
        ([], ("fp32",), "bad-matrix"),
        (["results.keras"], (), "bad-matrix"),
    ],
)
def test_what_makes_no_sense(models: list[str], precisions: tuple[str, ...], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        jobs_from(models, precisions, {})
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "results", "x" * 200, "a\nb", "C:"])
def test_a_bundle_lands_in_its_folder(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Job(name, "lenet", "fp32", {})
    assert caught.value.code == "bad-matrix"
