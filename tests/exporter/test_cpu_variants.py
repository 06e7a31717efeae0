"""One file for each kind of processor that needs one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hardnets import PREPROCESS, draw, harmless_overflow, inputs, network, saturating

from xxdeploy.datasets import ImageSet
from xxdeploy.exporter.cpu_variants import CpuFiles, Judges, Sample, Tuning, int8_variants
from xxdeploy.exporter.ladder import Goal
from xxdeploy.exporter.quantizer import Quantizer
from xxdeploy.lowering.x86_file import from_x86_file
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.quantize.x86.processors import risky_layers
from xxdeploy.quantize.x86.saturation import emulate_avx2
from xxdeploy.results import Progress
from xxdeploy.runtime.engines.ort import OrtSession
from xxdeploy.verify import Comparison, compare_with, record_reference

SATURATING = network(saturating())
HARMLESS = network(harmless_overflow())


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    folder = tmp_path_factory.mktemp("colours")
    return draw(folder / "calibration", 32, 0), draw(folder / "selection", 64, 1)


class Judge:
    """Compares with the float model, and counts."""

    def __init__(self, model: OnnxModel, images: ImageSet) -> None:
        self._images = images
        self._kept = record_reference(OrtSession(model.to_bytes()), images.batches(PREPROCESS, 16))
        self.calls = 0

    def __call__(self, int8: OnnxModel) -> Comparison:
        self.calls += 1
        session = OrtSession(int8.to_bytes(), name="onnx-int8", exact=True)
        return compare_with(self._kept, session, self._images.batches(PREPROCESS, 16))


def few(judge: Callable[[OnnxModel], Comparison], images: ImageSet) -> Sample:
    return Sample(judge, lambda: images.batches(PREPROCESS, 16))


def made(
    sets: tuple[ImageSet, ImageSet],
    model: OnnxModel,
    cpu: str | None = None,
    recipe: QuantizationRecipe | None = None,
    pixels: int = 256,
) -> CpuFiles:
    quantizer, judge = Quantizer(model, inputs(sets[0]), lambda _: None), Judge(model, sets[1])
    recipe = recipe or QuantizationRecipe()
    return int8_variants(
        quantizer,
        recipe,
        quantizer.build(recipe),
        cpu=cpu,
        judges=Judges(judge, (few(judge, sets[1]),), pixels),
        tuning=Tuning(),
        report=lambda _: None,
    )


def agreement(comparison: Comparison) -> float:
    assert comparison.agreement is not None
    return comparison.agreement


def test_where_sums_overflow_x86_without_vnni_gets_a_file_of_its_own(sets: tuple[ImageSet, ImageSet]) -> None:
    cpu_files = made(sets, SATURATING)
    assert [(file.name, file.scheme, file.requires) for file in cpu_files.files] == [
        ("int8", "static-w8c-a8", ("vnni",)),
        ("int8-arm", "static-w8c-a8i", ("arm",)),
        ("int8-avx2", "static-w8c-a8", ()),  # last: it is right everywhere
    ]
    int8, arm, avx2 = cpu_files.files
    assert any(risky_layers(int8.model).values())
    assert not any(risky_layers(avx2.model).values())
    assert emulate_avx2(avx2.model) is avx2.model
    assert arm.answers is int8.answers
    judge = Judge(SATURATING, sets[1])
    before, saturated, after = (agreement(judge(model)) for model in (int8.model, emulate_avx2(int8.model), avx2.model))
    assert saturated < before - 0.2
    assert after > saturated + 0.2
    assert cpu_files.narrow is not None
    assert agreement(cpu_files.narrow) == after
    assert cpu_files.narrow.candidate == "onnx-int8-avx2"
    verdicts = {verdict.cpu: verdict for verdict in cpu_files.verdicts}
    assert [verdicts[cpu].exact for cpu in ("vnni", "avx2", "arm")] == [True, False, True]
    assert verdicts["avx2"].worst_layer == "wide/Conv"
    assert f"agreement {100 * before:.1f} -> {100 * saturated:.1f} %" in cpu_files.sentences[0]


def test_where_overflow_changes_nothing_one_file_serves_all_of_x86(sets: tuple[ImageSet, ImageSet]) -> None:
    cpu_files = made(sets, HARMLESS)
    assert risky_layers(from_x86_file(cpu_files.files[-1].model)) == {"stem/Conv": 0, "wide/Conv": 1, "raw/Gemm": 0}
    assert [(file.name, file.requires) for file in cpu_files.files] == [("int8-arm", ("arm",)), ("int8", ())]
    assert (
        cpu_files.sentences[0]
        == "int8, for x86: 16-bit sums could overflow without VNNI, and did not on any image seen"
    )


@pytest.mark.parametrize(
    ("cpu", "name", "scheme", "requires"),
    [
        ("vnni", "int8", "static-w8c-a8", ("vnni",)),
        ("avx2", "int8-avx2", "static-w8c-a8", ()),
        ("arm", "int8-arm", "static-w8c-a8i", ("arm",)),
    ],
)
def test_one_kind_of_processor_gets_one_file(
    sets: tuple[ImageSet, ImageSet], cpu: str, name: str, scheme: str, requires: tuple[str, ...]
) -> None:
    (built,) = made(sets, SATURATING, cpu).files
    assert (built.name, built.scheme, built.requires) == (name, scheme, requires)
    assert any(risky_layers(built.model).values()) is (cpu == "vnni" or cpu == "arm")


def test_seven_bits_need_no_second_file(sets: tuple[ImageSet, ImageSet]) -> None:
    cpu_files = made(sets, SATURATING, recipe=QuantizationRecipe(scheme="static-w7c-a8"))
    assert [(file.name, file.scheme, file.requires) for file in cpu_files.files] == [
        ("int8-arm", "static-w7c-a8i", ("arm",)),
        ("int8", "static-w7c-a8", ()),
    ]
    assert all(verdict.exact for verdict in cpu_files.verdicts)


def test_the_avx2_file_is_tuned_where_that_helps_and_never_worse(sets: tuple[ImageSet, ImageSet]) -> None:
    quantizer, judge = Quantizer(SATURATING, inputs(sets[0]), lambda _: None), Judge(SATURATING, sets[1])
    narrow = made(sets, SATURATING, "avx2").narrow
    plain = judge(quantizer.build(QuantizationRecipe(), narrow=frozenset({"all"})))
    assert narrow is not None
    assert narrow.kl_mean is not None
    assert plain.kl_mean is not None
    assert narrow.kl_mean <= plain.kl_mean


@pytest.mark.parametrize(
    ("agreement", "divergence", "tuning", "tries"),
    [
        (1.0, 0.0014, Tuning("thorough"), 1),
        (1.0, 0.0016, Tuning("thorough"), 4),
        (0.98, 0.0014, Tuning("thorough"), 4),
        (0.98, 0.0014, Tuning("normal"), 1),  # one of 64 images: what rounding may bring back is less
        (0.98, 0.0014, Tuning("normal", Goal(agreement=0.99)), 4),
        (0.90, 0.0014, Tuning("normal"), 2),  # six images: an analytic correction may bring 1.8 of them back
        (0.90, 0.0014, Tuning("quick"), 1),
    ],
)
def test_the_avx2_file_is_tuned_only_where_there_is_something_to_gain(
    sets: tuple[ImageSet, ImageSet], agreement: float, divergence: float, tuning: Tuning, tries: int
) -> None:
    """Beside a file for VNNI that diverges by 0.001 nats."""
    quantizer, judge = Quantizer(SATURATING, inputs(sets[0]), lambda _: None), Judge(SATURATING, sets[1])
    wide = quantizer.build(QuantizationRecipe())
    comparison = judge(wide)
    narrow: list[str] = []

    def say(model: OnnxModel) -> Comparison:
        if model.digest == wide.digest:
            return replace(comparison, agreeing=comparison.images, kl_mean=0.001)
        narrow.append(model.digest)
        return replace(comparison, agreeing=round(agreement * comparison.images), kl_mean=divergence)

    judges = Judges(say, (few(judge, sets[1]),), 64)
    int8_variants(
        quantizer, QuantizationRecipe(), wide, cpu="avx2", judges=judges, tuning=tuning, report=lambda _: None
    )
    assert len(set(narrow)) == tries


def test_more_pairs_than_can_be_emulated_get_the_file_that_cannot_overflow(sets: tuple[ImageSet, ImageSet]) -> None:
    cpu_files = made(sets, HARMLESS, pixels=10**12)
    assert [file.name for file in cpu_files.files] == ["int8", "int8-arm", "int8-avx2"]
    assert not any(risky_layers(from_x86_file(cpu_files.files[-1].model)).values())
    assert cpu_files.sentences[0] == (
        "int8, for x86 with VNNI: 16-bit sums can overflow without VNNI, in 1 layer (too many pairs of weights to "
        "emulate: 1)"
    )
    avx2 = next(verdict for verdict in cpu_files.verdicts if verdict.cpu == "avx2")
    assert avx2.saturating_layers == ("wide/Conv",)


@pytest.mark.parametrize(
    ("lost", "divergence", "asked", "own_file"),
    [
        ((1, 0), 0.0, 1, True),  # one of 8 images is more than half a point
        ((0, 1), 0.0, 2, False),  # one of 256 is less
        ((0, 0), 0.03, 1, True),
        ((0, 0), 0.01, 2, False),
    ],
)
def test_the_first_number_of_images_that_shows_a_loss_decides(
    sets: tuple[ImageSet, ImageSet], lost: tuple[int, int], divergence: float, asked: int, own_file: bool
) -> None:
    quantizer, judge = Quantizer(SATURATING, inputs(sets[0]), lambda _: None), Judge(SATURATING, sets[1])
    model = quantizer.build(QuantizationRecipe())
    known = replace(judge(model), kl_mean=0.0)
    seen: list[int] = []

    def sample(images: int, lost: int) -> Sample:
        def say(candidate: OnnxModel) -> Comparison:
            exact = candidate.digest == model.digest
            if not exact:
                seen.append(images)
            return replace(
                known,
                images=images,
                agreeing=images if exact else images - lost,
                kl_mean=0.001 if exact else 0.001 + divergence,
            )

        return few(say, sets[1])

    judges = Judges(judge, (sample(8, lost[0]), sample(256, lost[1])), 256)
    made = int8_variants(
        quantizer, QuantizationRecipe(), model, cpu="vnni", judges=judges, tuning=Tuning("quick"), report=lambda _: None
    )
    assert seen == [8, 256][:asked]
    assert made.files[0].requires == (("vnni",) if own_file else ())


def test_with_random_weights_nothing_is_run(sets: tuple[ImageSet, ImageSet]) -> None:
    quantizer = Quantizer(HARMLESS, inputs(sets[0]), lambda _: None)
    model = quantizer.build(QuantizationRecipe())
    seen: list[Progress] = []
    cpu_files = int8_variants(
        quantizer, QuantizationRecipe(), model, cpu=None, judges=None, tuning=Tuning(), report=seen.append
    )
    assert [file.name for file in cpu_files.files] == ["int8", "int8-arm", "int8-avx2"]
    assert not seen
    avx2 = next(verdict for verdict in cpu_files.verdicts if verdict.cpu == "avx2")
    assert set(avx2.saturating_layers) == {layer for layer, pairs in risky_layers(model).items() if pairs}
    assert cpu_files.narrow is None


def test_the_same_bytes_again(sets: tuple[ImageSet, ImageSet]) -> None:
    one, other = (made(sets, SATURATING) for _ in range(2))
    assert [file.model.to_bytes() for file in one.files] == [file.model.to_bytes() for file in other.files]
    assert one.sentences == other.sentences
    assert one.verdicts == other.verdicts
