"""``load`` and ``Runtime``: the public face on the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.bundle.pack import golden_images, pack
from xxdeploy.cpu import cpu_features
from xxdeploy.errors import BundleError, EngineError, UsageError, VerificationError, XXDeployError
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.answers import Reading
from xxdeploy.runtime.bundle.contents import text_from_labels
from xxdeploy.runtime.bundle.manifest import Variant
from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.selftest import MAX_BATCH

IMAGES = golden_images(MAX_BATCH * 2 + 3, 8, 8, 3, seed=1)


class Fake:
    """The seam: ten lines stand in for an engine."""

    name = "fake"

    def __init__(self, output: float = 0.1, classes: int = 10) -> None:
        self.output, self.classes = output, classes
        self.batches: list[tuple[int, ...]] = []

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(batch.shape)
        return np.full((len(batch), self.classes), self.output, np.float32)


def test_every_kind_of_image_and_the_shape_of_the_answer(bundle: Path, tmp_path: Path) -> None:
    runtime = load(str(bundle), threads=1)
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    one = runtime.predict(IMAGES[0], top=3)
    assert [type(p.label) for p in one] == [str] * 3
    assert one[0].label == f"class {one[0].index}"
    assert one[0].probability >= one[1].probability >= one[2].probability
    for same in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(IMAGES[0])):
        assert runtime.predict(same, top=3) == one
    assert runtime.predict([IMAGES[0]], top=3) == (one,)
    assert runtime.predict((tmp_path / "a.png", IMAGES[1]), top=3)[0] == one
    assert len(runtime.predict(IMAGES[0])) == 5


def test_probabilities_are_the_engines_and_lists_go_in_chunks(bundle: Path) -> None:
    rows = load(bundle).probabilities(list(IMAGES))
    assert rows.shape == (len(IMAGES), 10)
    assert np.allclose(rows, tiny_bundle.expected(IMAGES, tiny_bundle.model_bytes()), atol=1e-6)
    assert load(bundle).probabilities(IMAGES[0]).shape == (1, 10)
    fake = Fake()
    load(bundle, session=fake).probabilities(list(IMAGES))
    assert [shape[0] for shape in fake.batches] == [MAX_BATCH, MAX_BATCH, 3]


def test_an_engine_that_takes_pixels_gets_the_pictures_bytes(bundle: Path) -> None:
    class OnPixels(Fake):
        takes_pixels = True

        def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            np.testing.assert_array_equal(batch, IMAGES[:2])
            assert batch.dtype == np.uint8
            return super().run(batch)

    engine = OnPixels()
    load(bundle, session=engine).probabilities(list(IMAGES[:2]))
    assert engine.batches == [(2, 8, 8, 3)]


def test_features(tmp_path: Path) -> None:
    runtime = load(tiny_bundle.make(tmp_path / "f", features=True), selftest=True)
    assert runtime.features(list(IMAGES)).shape == (len(IMAGES), 3)
    assert runtime.selftest().agreement is None
    with pytest.raises(UsageError) as caught:
        runtime.predict(IMAGES[0])
    assert caught.value.code == "wrong-task"
    assert "features()" in caught.value.hint


def of_task(out: Path, task: str, **changes: Any) -> Path:
    """Return a bundle of another task; its network has three numbers as output."""
    parts, manifest = tiny_bundle.parts_and_manifest(features=True)
    return pack(dataclasses.replace(manifest, schema=4, task=task, **changes), parts, out)


def test_values(tmp_path: Path) -> None:
    bundle = of_task(tmp_path / "v", "values")
    runtime = load(bundle, selftest=True)
    assert np.array_equal(runtime.values(IMAGES[0]), load(bundle).run(IMAGES[0])["features"])
    with pytest.raises(UsageError, match="bundle for values, not for image") as caught:
        runtime.image(IMAGES[0])
    assert (caught.value.code, caught.value.hint) == ("wrong-task", "call values()")


class Painter(Fake):
    """Answers each picture with one of its own values, as (n, 8, 8, channels)."""

    def __init__(self, output: float, channels: int) -> None:
        super().__init__(output)
        self.channels = channels

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((len(batch), 8, 8, self.channels), self.output, np.float32)


@pytest.mark.parametrize(("channels", "mode", "pixel"), [(3, "RGB", (191, 191, 191)), (1, "L", 191)])
def test_a_picture_for_a_picture(tmp_path: Path, channels: int, mode: str, pixel: object) -> None:
    bundle = of_task(tmp_path / "b", "image", output_range=(-1.0, 1.0))
    runtime = load(bundle, session=Painter(0.5, channels))
    one = runtime.image(IMAGES[0])
    assert (one.mode, one.size, one.getpixel((0, 0))) == (mode, (8, 8), pixel)
    assert [picture.mode for picture in runtime.image(list(IMAGES[:2]))] == [mode] * 2


def test_a_mask_has_a_class_for_each_pixel(tmp_path: Path) -> None:
    runtime = load(of_task(tmp_path / "b", "image", classes=2), session=Painter(0.75, 1))
    mask = runtime.image(IMAGES[0])
    assert mask.mode == "P"
    assert np.array_equal(np.asarray(mask), np.ones((8, 8)))
    assert runtime.labels == ("0", "1")


@pytest.mark.parametrize("channels", [2, 4])
def test_a_picture_with_another_number_of_channels_is_nonsense(tmp_path: Path, channels: int) -> None:
    runtime = load(of_task(tmp_path / "b", "image", output_range=(0.0, 1.0)), session=Painter(0.5, channels))
    with pytest.raises(EngineError) as caught:
        runtime.image(IMAGES[0])
    assert caught.value.code == "engine-output"


class Reader(Fake):
    """Answers each picture with a b b -, of the classes a, b and a blank."""

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.repeat(np.eye(3, dtype=np.float32)[None, [0, 1, 1, 2]], len(batch), axis=0)


def test_a_text_is_read(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    parts["labels.txt"] = text_from_labels(("a", " ", "<blank>"), characters=True)
    changed = dataclasses.replace(manifest, schema=4, task="sequence", classes=3, blank=2)
    runtime = load(pack(changed, parts, tmp_path / "b"), session=Reader(0.0))
    assert runtime.read(IMAGES[0]) == Reading("a ", 1.0)
    assert runtime.read(list(IMAGES[:2])) == (Reading("a ", 1.0),) * 2
    with pytest.raises(UsageError) as caught:
        runtime.predict(IMAGES[0])
    assert (caught.value.code, caught.value.hint) == ("wrong-task", "call read()")


def test_labels_may_be_absent(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    del parts["labels.txt"]
    runtime = load(pack(dataclasses.replace(manifest, labels=None), parts, tmp_path / "b"))
    assert runtime.predict(IMAGES[0], top=1)[0].label == str(runtime.predict(IMAGES[0], top=1)[0].index)


@pytest.mark.parametrize(
    ("images", "code"),
    [([], "no-images"), ((), "no-images"), (b"bytes", "image-type"), (3, "image-type"), (IMAGES, "image-array")],
)
def test_what_is_no_image(bundle: Path, images: object, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(bundle).predict(images)  # type: ignore[call-overload]
    assert caught.value.code == code


def test_features_of_a_classifier(bundle: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(bundle).features(IMAGES[0])
    assert caught.value.code == "wrong-task"


@pytest.mark.parametrize("fake", [Fake(float("nan")), Fake(classes=9)])
def test_an_engine_that_gives_nonsense(bundle: Path, fake: Fake) -> None:
    with pytest.raises(EngineError) as caught:
        load(bundle, session=fake).predict(IMAGES[0])
    assert caught.value.code == "engine-output"


@pytest.mark.parametrize("fake", [Fake(float("nan")), Fake(0.1), Fake(classes=9)])
def test_selftest_catches_another_network(bundle: Path, fake: Fake) -> None:
    with pytest.raises(VerificationError) as caught:
        load(bundle, session=fake, selftest=True)
    assert caught.value.code == "golden-mismatch"


def test_selftest_reports_what_it_measured(bundle: Path) -> None:
    selftest = load(bundle).selftest()
    assert (selftest.variant, selftest.images, selftest.agreement) == ("portable", 4, 1.0)
    assert 0 <= selftest.max_abs <= selftest.tolerance == 1e-5


NOWHERE = ("arm", "avx2")
"""Features that no processor has together."""


def two_variants(out: Path, requires: tuple[str, ...]) -> Path:
    parts, manifest = tiny_bundle.parts_and_manifest()
    parts["vnni.onnx"] = parts["model.onnx"]
    vnni = Variant("vnni", "vnni.onnx", "int8", "static-w8c-a8", "golden/portable.npy", requires)
    return pack(dataclasses.replace(manifest, variants=(vnni, *manifest.variants)), parts, out)


def test_the_variant_follows_the_processor(tmp_path: Path) -> None:
    fitting = two_variants(tmp_path / "fitting", tuple(cpu_features()))
    assert load(fitting).variant.name == "vnni"
    bundle = two_variants(tmp_path / "b", NOWHERE)
    assert load(bundle).variant.name == "portable"
    assert load(bundle, variant="vnni").session.name == "onnx-int8"
    with pytest.raises(UsageError) as caught:
        load(bundle, variant="vnnl")
    assert caught.value.code == "unknown-variant"
    assert "vnni" in caught.value.hint


def test_no_variant_for_this_processor(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    only = dataclasses.replace(manifest.variants[0], requires=NOWHERE)
    bundle = pack(dataclasses.replace(manifest, variants=(only,)), parts, tmp_path / "b")
    with pytest.raises(BundleError) as caught:
        load(bundle)
    assert caught.value.code == "no-variant"


def test_names_in_the_manifest_must_be_the_models(tmp_path: Path) -> None:
    parts, manifest = tiny_bundle.parts_and_manifest()
    bundle = pack(dataclasses.replace(manifest, output_name="logits"), parts, tmp_path / "b")
    with pytest.raises(BundleError) as caught:
        load(bundle)
    assert caught.value.code == "bundle-signature"


def test_nothing_is_parsed_before_everything_is_hashed(tmp_path: Path) -> None:
    """Every file is nonsense with the right hash, and one of them has changed: a parser would give another error."""
    parts, manifest = tiny_bundle.parts_and_manifest()
    bundle = pack(manifest, dict.fromkeys(parts, b"\xffnonsense"), tmp_path / "b")
    with pytest.raises(XXDeployError) as caught:
        load(bundle)
    assert caught.value.code != "file-hash"
    for name in ("golden/inputs.npy", "golden/portable.npy", "labels.txt", "model.onnx"):
        file = bundle / name
        good = file.read_bytes()
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(BundleError) as caught:
            load(bundle)
        assert caught.value.code == "file-hash"
        file.write_bytes(good)


def test_check_false_leaves_out_hashes_but_golden_pairs_are_always_hashed(bundle: Path) -> None:
    file = bundle / "golden/inputs.npy"
    good = file.read_bytes()
    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    runtime = load(bundle, check=False)
    assert isinstance(runtime, Runtime)
    with pytest.raises(BundleError) as caught:
        runtime.selftest()
    assert caught.value.code == "file-hash"


def test_a_runtime_may_be_used_by_several_threads(bundle: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    runtime = load(bundle, threads=1)
    alone = runtime.probabilities(IMAGES[0])
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(runtime.probabilities, [IMAGES[0]] * 16):
            assert np.array_equal(rows, alone)


def test_large_pictures_are_refused_before_they_are_decoded(bundle: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    assert load(bundle, max_pixels=1200).predict(tmp_path / "a.png")
    for picture in (tmp_path / "a.png", Image.new("RGB", (40, 30)), np.zeros((30, 40, 3), np.uint8)):
        with pytest.raises(UsageError) as caught:
            load(bundle, max_pixels=1199).predict(picture)
        assert caught.value.code == "image-too-large"


def test_a_closed_runtime_says_so(bundle: Path) -> None:
    fake = Fake()
    for options in ({}, {"session": fake}):
        with load(bundle, **options) as runtime:  # type: ignore[arg-type]
            assert runtime.probabilities(IMAGES[0]).shape == (1, 10)
        for use in (lambda: runtime.predict(IMAGES[0]), lambda: runtime.run(IMAGES[0]), runtime.selftest):
            with pytest.raises(UsageError, match="is closed") as caught:
                use()
            assert caught.value.code == "closed"
        runtime.close()  # a second time does nothing


def test_a_runtime_closes_its_session_when_an_error_leaves_the_block(bundle: Path) -> None:
    class Closable(Session):
        name, calls = "closable", 0

        def close(self) -> None:
            self.calls += 1

    session = Closable()
    with pytest.raises(ZeroDivisionError), load(bundle, session=session):
        raise ZeroDivisionError
    assert session.calls == 1
