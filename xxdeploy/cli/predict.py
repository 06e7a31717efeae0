"""``xxdeploy predict``: the answers of a bundle for images: classes, texts, pictures or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from xxdeploy.cli.output import AsJson, BundlePath, MinVersion, PublicKey, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime import Runtime
    from xxdeploy.runtime.bundle.manifest import Manifest
    from xxdeploy.runtime.image.preprocess import Preprocess
    from xxdeploy.runtime.inputs import ArrayInput

EXAMPLE = """Examples:

  xxdeploy predict exports/mobilenetv2-int8 cat.jpg dog.jpg --top 3
  xxdeploy predict exports/denoiser-int8 noisy.jpg --out clean.png
  xxdeploy predict exports/siamese-int8 left.png right.png
  xxdeploy predict exports/photo-and-age-int8 --input photo=cat.jpg --input age=3.5"""

Samples: TypeAlias = list[tuple[Path, Any]]
"""The name and the value of each sample."""
_FEW = 8
"""Numbers of an image that a table shows; --json has all."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How the bundle is opened.

    Parameters
    ----------
    engine
        onnxruntime, openvino, litert or a GPU's. By default the one of `xxdeploy tune`, else the first that reads the
        bundle's files.
    """

    engine: str | None = None
    key: PublicKey = None
    min_version: MinVersion = 0


_DEFAULT = Opening()


def command(
    bundle: BundlePath,
    images: tuple[Path, ...] = (),
    /,
    *,
    inputs: Annotated[tuple[str, ...], Parameter(name="--input")] = (),
    top: int = 5,
    out: Path | None = None,
    opening: Annotated[Opening, Parameter(name="*")] = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Name the classes of images, read their texts, or write the pictures or numbers that a bundle makes of them.

    Parameters
    ----------
    images
        One or more image files; for a model of several inputs, one value for each of them.
    inputs
        For a model of several inputs: NAME=VALUE, once for each. The value is a file (a picture, or .npy), or numbers
        with blanks between them.
    top
        Number of classes to show per image.
    out
        For a bundle that makes pictures or masks: the file to write (.png), or a folder for NAME-out.png of each image.
        By default the current folder.
    """
    if not images and not inputs:
        raise UsageError(
            "`xxdeploy predict` needs IMAGES",
            hint="`xxdeploy predict --help` shows how it is used",
            code="missing-argument",
        )
    with extra("edge"):
        from xxdeploy import runtime
        from xxdeploy.runtime.image.preprocess import MAX_PIXELS
    # The user chose these files, so they may be larger than images that arrive over the network.
    model = runtime.load(
        bundle, engine=opening.engine, key=opening.key, min_version=opening.min_version, max_pixels=MAX_PIXELS
    )
    task = model.manifest.task
    if out is not None and task != "image":
        raise UsageError(
            f"--out writes pictures, and {model.manifest.name} is a bundle for {task}",
            hint="leave --out out",
            code="wrong-task",
        )
    samples = samples_of(model.manifest, images, inputs)
    # One image at a time, so memory does not grow with their number.
    if task == "image":
        _pictures(model, bundle, samples, out, as_json=as_json)
    elif task == "sequence":
        _texts(model, bundle, samples, as_json=as_json)
    elif task == "values":
        _numbers(model, bundle, samples, as_json=as_json)
    else:
        _classes(model, bundle, samples, top, as_json=as_json)


def _classes(model: Runtime, bundle: Path, samples: Samples, top: int, *, as_json: bool) -> None:
    predicted = [(path, model.predict(sample, top=top)) for path, sample in samples]
    if as_json:
        print_json({"bundle": bundle, "images": [{"image": path, "top": classes} for path, classes in predicted]})
        return
    print_table(
        ("image", "class", "probability"),
        [
            (name if rank == 0 else "", prediction.label, f"{100 * prediction.probability:.1f} %")
            for name, (_, predictions) in zip(_names([path for path, _ in samples]), predicted, strict=True)
            for rank, prediction in enumerate(predictions)
        ],
        left=2,
    )


def _texts(model: Runtime, bundle: Path, samples: Samples, *, as_json: bool) -> None:
    read = [(path, model.read(sample)) for path, sample in samples]
    if as_json:
        rows = [{"image": path, "text": seen.text, "probability": seen.probability} for path, seen in read]
        print_json({"bundle": bundle, "images": rows})
        return
    table = [
        (name, seen.text, f"{100 * seen.probability:.1f} %")
        for name, (_, seen) in zip(_names([path for path, _ in samples]), read, strict=True)
    ]
    print_table(("image", "text", "probability"), table, left=2)


def _pictures(model: Runtime, bundle: Path, samples: Samples, out: Path | None, *, as_json: bool) -> None:
    """Write a picture for each image. ``UsageError``: those of :func:`_targets`; ``out-unwritable``."""
    targets, written = _targets([path for path, _ in samples], out), []
    for (path, sample), target in zip(samples, targets, strict=True):
        picture = model.image(sample)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target)
        except (OSError, ValueError) as error:  # ValueError: a suffix that is of no format
            raise UsageError(
                f"{target} cannot be written: {error}", hint="give a .png file: --out NAME.png", code="out-unwritable"
            ) from error
        shares: dict[str, float] = {}
        if model.manifest.classes:
            counts = picture.histogram()
            pixels = picture.width * picture.height
            shares = {label: counts[index] / pixels for index, label in enumerate(model.labels) if counts[index]}
        written.append({"image": path, "out": target, "size": picture.size, "mode": picture.mode, "classes": shares})
    if as_json:
        print_json({"bundle": bundle, "images": written})
        return
    for entry in written:
        ranked = sorted(entry["classes"].items(), key=lambda item: -item[1])[:_FEW]  # type: ignore[attr-defined]
        named = ", ".join(f"{label} {100 * part:.1f} %" for label, part in ranked)
        print_line(f"wrote {entry['out']}" + (f": {named} of the pixels" if named else ""), hang=2)


def _targets(images: Sequence[Path], out: Path | None) -> list[Path]:
    """Return the file to write for each image. ``UsageError`` ``out-collides``: two have one, or it is an image."""
    folder = Path() if out is None else out
    if out is not None and len(images) == 1 and out.suffix:
        targets = [out]
    else:
        targets = [folder / f"{path.stem}-out.png" for path in images]
    known = {path.resolve() for path in images}
    if len({target.resolve() for target in targets}) < len(targets) or any(t.resolve() in known for t in targets):
        raise UsageError(
            "two of the pictures would have one file, or a picture would replace its image",
            hint="give images of different names, and --out a folder of its own",
            code="out-collides",
        )
    return targets


def _numbers(model: Runtime, bundle: Path, samples: Samples, *, as_json: bool) -> None:
    images = [path for path, _ in samples]
    answers = [model.values(sample)[0] for _, sample in samples]
    if as_json:
        rows = [{"image": path, "values": answer.tolist()} for path, answer in zip(images, answers, strict=True)]
        print_json({"bundle": bundle, "images": rows})
        return
    for name, answer in zip(_names(images), answers, strict=True):
        shown = " ".join(f"{value:.6g}" for value in answer.reshape(-1)[:_FEW])
        more = f" ... ({answer.size} numbers of shape {answer.shape}; --json prints all)" if answer.size > _FEW else ""
        print_line(f"{name}: {shown}{more}", hang=2)


def _names(images: Sequence[Path]) -> list[str]:
    """Return the names of the files, which are easier to read than paths, if they are unique."""
    names = [path.name for path in images]
    return names if len(set(names)) == len(names) else [str(path) for path in images]


def samples_of(manifest: Manifest, images: Sequence[Path], inputs: Sequence[str]) -> Samples:
    """Return the name and the value of each sample: of each image, or the only one of several inputs.

    ``UsageError``: ``wrong-inputs``; those of ``value_from``.
    """
    from xxdeploy.datasets.table import value_from
    from xxdeploy.runtime.inputs import parts_of

    parts = dict(zip(manifest.input_names, (part for _, part in parts_of(manifest.form)), strict=True))
    if not manifest.more_inputs and not inputs:
        if not images:
            raise _wrong_inputs(parts, "there is nothing to predict")
        ((name, part),) = parts.items()
        return [(path, value_from(str(path), part, f"the input {name}")) for path in images]
    given: dict[str, str] = {}
    for word in inputs:
        name, equals, value = word.partition("=")
        if not equals or name not in parts or name in given:
            raise _wrong_inputs(parts, f"--input {word} names no input of the model, or one twice")
        given[name] = value
    free = [name for name in parts if name not in given]
    if len(free) != len(images):
        raise _wrong_inputs(parts, f"{len(given) + len(images)} values are given")
    given |= {name: str(path) for name, path in zip(free, images, strict=True)}
    sample = tuple(value_from(given[name], part, f"the input {name}") for name, part in parts.items())
    label = Path(" + ".join(Path(given[name]).name for name in parts))
    return [(label, sample if manifest.more_inputs else sample[0])]


def _wrong_inputs(parts: dict[str, Preprocess | ArrayInput], problem: str) -> UsageError:
    from xxdeploy.runtime.inputs import described

    told = "; ".join(f"{name} ({described(part)})" for name, part in parts.items())
    return UsageError(
        f"{problem}, and the model reads {told}",
        hint=" ".join(f"--input {name}=..." for name in parts),
        code="wrong-inputs",
    )
