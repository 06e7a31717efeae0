"""``xxdeploy predict``: what is in the pictures. Needs what a device has, and this command line."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, print_json, print_table
from xxdeploy.optional import extra

NAME = "predict"
EXAMPLE = "Example:\n\n  xxdeploy predict exports/mobilenetv2-int8 cat.jpg dog.jpg --top 3"


def command(
    bundle: Path,
    images: list[Path],
    /,
    *,
    top: int = 5,
    key: Path | None = None,
    min_version: int = 0,
    as_json: AsJson = False,
) -> None:
    """Name what is in pictures, with a bundle.

    Parameters
    ----------
    bundle
        Folder that `xxdeploy export` wrote.
    images
        One picture or more.
    top
        How many classes to show for each picture.
    key
        Public key (.pub) with which the bundle must be signed.
    min_version
        Refuse a bundle that was signed as an older version.
    """
    with extra("edge"):
        from xxdeploy import runtime
        from xxdeploy.runtime.image.preprocess import MAX_PIXELS
    # Whoever names a file here has chosen it, and is at no camera.
    model = runtime.load(bundle, key=key, min_version=min_version, max_pixels=MAX_PIXELS)
    # One picture at a time: memory stays that of one, however many there are.
    found = [(path, model.predict(path, top=top)) for path in images]
    if as_json:
        print_json({"bundle": bundle, "images": [{"image": path, "top": classes} for path, classes in found]})
        return
    # Names alone are easier to read than paths, where they tell the pictures apart.
    names = [path.name for path in images] if len({path.name for path in images}) == len(images) else map(str, images)
    print_table(
        ("image", "class", "probability"),
        [
            (name if rank == 0 else "", prediction.label, f"{100 * prediction.probability:.1f} %")
            for name, (_, predictions) in zip(names, found, strict=True)
            for rank, prediction in enumerate(predictions)
        ],
        left=2,
    )
