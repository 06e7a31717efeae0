"""``xxdeploy predict``: the answers of a bundle for images: classes, pictures or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xxdeploy.cli.output import AsJson, BundlePath, MinVersion, PublicKey, print_json, print_line, print_table
from xxdeploy.errors import UsageError
from xxdeploy.optional import extra

if TYPE_CHECKING:
    from xxdeploy.runtime import Runtime

EXAMPLE = """Examples:

  xxdeploy predict exports/mobilenetv2-int8 cat.jpg dog.jpg --top 3
  xxdeploy predict exports/denoiser-int8 noisy.jpg --out clean.png"""

_FEW = 8
"""Numbers of an image that a table shows; --json has all."""


def command(
    bundle: BundlePath,
    images: list[Path],
    /,
    *,
    top: int = 5,
    out: Path | None = None,
    key: PublicKey = None,
    min_version: MinVersion = 0,
    as_json: AsJson = False,
) -> None:
    """Name the classes of images, or write the pictures or numbers that a bundle makes of them.

    Parameters
    ----------
    images
        One or more image files.
    top
        Number of classes to show per image.
    out
        For a bundle that makes pictures or masks: the file to write (.png), or a folder for NAME-out.png of each image.
        By default the current folder.
    """
    with extra("edge"):
        from xxdeploy import runtime
        from xxdeploy.runtime.image.preprocess import MAX_PIXELS
    # The user chose these files, so they may be larger than images that arrive over the network.
    model = runtime.load(bundle, key=key, min_version=min_version, max_pixels=MAX_PIXELS)
    task = model.manifest.task
    if out is not None and task != "image":
        raise UsageError(
            f"--out writes pictures, and {model.manifest.name} is a bundle for {task}",
            hint="leave --out out",
            code="wrong-task",
        )
    # One image at a time, so memory does not grow with their number.
    if task == "image":
        _pictures(model, bundle, images, out, as_json=as_json)
    elif task == "values":
        _numbers(model, bundle, images, as_json=as_json)
    else:
        _classes(model, bundle, images, top, as_json=as_json)


def _classes(model: Runtime, bundle: Path, images: Sequence[Path], top: int, *, as_json: bool) -> None:
    predicted = [(path, model.predict(path, top=top)) for path in images]
    if as_json:
        print_json({"bundle": bundle, "images": [{"image": path, "top": classes} for path, classes in predicted]})
        return
    print_table(
        ("image", "class", "probability"),
        [
            (name if rank == 0 else "", prediction.label, f"{100 * prediction.probability:.1f} %")
            for name, (_, predictions) in zip(_names(images), predicted, strict=True)
            for rank, prediction in enumerate(predictions)
        ],
        left=2,
    )


def _pictures(model: Runtime, bundle: Path, images: Sequence[Path], out: Path | None, *, as_json: bool) -> None:
    """Write a picture for each image. ``UsageError``: those of :func:`_targets`; ``out-unwritable``."""
    targets, written = _targets(images, out), []
    for path, target in zip(images, targets, strict=True):
        picture = model.image(path)
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


def _numbers(model: Runtime, bundle: Path, images: Sequence[Path], *, as_json: bool) -> None:
    answers = [model.values(path)[0] for path in images]
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
