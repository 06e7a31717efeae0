"""``xxdeploy predict``: classify images with a bundle."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.cli.output import AsJson, BundlePath, MinVersion, PublicKey, print_json, print_table
from xxdeploy.optional import extra

EXAMPLE = "Example:\n\n  xxdeploy predict exports/mobilenetv2-int8 cat.jpg dog.jpg --top 3"


def command(
    bundle: BundlePath,
    images: list[Path],
    /,
    *,
    top: int = 5,
    key: PublicKey = None,
    min_version: MinVersion = 0,
    as_json: AsJson = False,
) -> None:
    """Classify images with a bundle.

    Parameters
    ----------
    images
        One or more image files.
    top
        Number of classes to show per image.
    """
    with extra("edge"):
        from xxdeploy import runtime
        from xxdeploy.runtime.image.preprocess import MAX_PIXELS
    # The user chose these files, so they may be larger than images that arrive over the network.
    model = runtime.load(bundle, key=key, min_version=min_version, max_pixels=MAX_PIXELS)
    # One image at a time, so memory does not grow with their number.
    predicted = [(path, model.predict(path, top=top)) for path in images]
    if as_json:
        print_json({"bundle": bundle, "images": [{"image": path, "top": classes} for path, classes in predicted]})
        return
    # File names are easier to read than paths, if they are unique.
    names = [path.name for path in images] if len({path.name for path in images}) == len(images) else map(str, images)
    print_table(
        ("image", "class", "probability"),
        [
            (name if rank == 0 else "", prediction.label, f"{100 * prediction.probability:.1f} %")
            for name, (_, predictions) in zip(names, predicted, strict=True)
            for rank, prediction in enumerate(predictions)
        ],
        left=2,
    )
