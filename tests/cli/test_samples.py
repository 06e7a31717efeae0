"""The samples of ``xxdeploy predict``: files, or values by name."""

from pathlib import Path

import numpy as np
import pytest

from xxdeploy.cli.predict import samples_of
from xxdeploy.errors import UsageError
from xxdeploy.runtime.bundle.manifest import FileEntry, GoldenSpec, Manifest, MoreInput, Variant
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import ArrayInput

A, B = Path("x/a.png"), Path("x/b.png")


def manifest(first: Preprocess | ArrayInput, *more: tuple[str, ArrayInput], schema: int = 4) -> Manifest:
    return Manifest(
        schema=schema,
        name="made",
        task="features",
        input_name="photo",
        output_name="features",
        preprocess=first,
        classes=0,
        labels=None,
        variants=(Variant("fp32", "model.onnx", "fp32", "float32", "golden/outputs.npy"),),
        golden=GoldenSpec("golden/inputs.npy", 1e-4),
        files=(FileEntry("model.onnx", "0" * 64, 3),),
        tools={},
        source={},
        evidence={},
        more_inputs=tuple(MoreInput(name, part, f"golden/{name}.npy") for name, part in more),
    )


ONE, BOTH = manifest(Preprocess(8, 8), schema=1), manifest(Preprocess(8, 8), ("age", ArrayInput((2,))))


def test_images_are_samples_of_one_picture() -> None:
    assert samples_of(ONE, (A, B), ()) == [(A, A), (B, B)]
    assert samples_of(ONE, (), ("photo=x/a.png",)) == [(Path("a.png"), A)]


@pytest.mark.parametrize(
    ("images", "inputs"),
    [
        ((A, Path("1 2")), ()),
        ((A,), ("age=1 2",)),
        ((), ("age=1;2", "photo=x/a.png")),
        ((Path("1 2"),), ("photo=x/a.png",)),
    ],
)
def test_values_by_name_or_in_order(images: tuple[Path, ...], inputs: tuple[str, ...]) -> None:
    ((name, sample),) = samples_of(BOTH, images, inputs)
    assert name.name.startswith("a.png + 1")
    assert sample[0] == A
    assert sample[1].tolist() == [1, 2]


def test_an_array_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.array([3, 4]))
    samples = samples_of(manifest(ArrayInput((2,))), (Path("1 2"), tmp_path / "v.npy"), ())
    assert [sample.tolist() for _, sample in samples] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("images", "inputs", "code"),
    [
        ((), (), "wrong-inputs"),
        ((A,), (), "wrong-inputs"),
        ((A, B, A), (), "wrong-inputs"),
        ((), ("photo=a.png", "photo=b.png"), "wrong-inputs"),
        ((A,), ("years=3",), "wrong-inputs"),
        ((A,), ("age",), "wrong-inputs"),
        ((A,), ("age=1",), "table-numbers"),
        ((A,), ("age=none.npy",), "table-array"),
    ],
)
def test_wrong_values_have_names(images: tuple[Path, ...], inputs: tuple[str, ...], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        samples_of(BOTH, images, inputs)
    assert caught.value.code == code
    if code == "wrong-inputs":
        assert "--input photo=... --input age=..." in caught.value.hint


def test_nothing_to_predict() -> None:
    with pytest.raises(UsageError, match="nothing to predict"):
        samples_of(ONE, (), ())
