"""Write the conformance suite: bundles, pictures, expected answers, and hostile inputs with the expected error code.

    python scripts/make_conformance.py FOLDER

Every runtime of xxdeploy's bundles must pass it; docs/reference/conformance.md says how it is judged. FOLDER must not
exist. The pictures have integer formulas and the keys of the signatures are fixed, so two runs write equal files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from conformance_bundles import EXACT, HEIGHT, SAME, WIDTH, Planned, planned
from conformance_refusals import Fault, faults
from conformance_signatures import KEYS, SIGNED, refused_signatures, sign
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.bundle.pack import golden_images
from xxdeploy.errors import XXDeployError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.contents import npy_from_array
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.predictor import Runtime

FORMAT = 1
SINE = 1e-3
"""Tolerance of inputs that Lanczos made: its weights come from the sine of the platform."""
SIZES = {"wide": (23, 37), "tall": (41, 19), "small": (2, 3), "exact": (HEIGHT, WIDTH), "large": (120, 160)}
"""(height, width) of the pictures of three channels."""
GRAY = (31, 29)


def pictures(folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Write each picture as .npy and .png; return those that are plain pixels."""
    made = {name: golden_images(1, *size, 3, seed=7 + index)[0] for index, (name, size) in enumerate(SIZES.items())}
    made["gray"] = golden_images(1, *GRAY, 1, seed=3)[0]
    for name, pixels in made.items():
        (folder / f"{name}.npy").write_bytes(npy_from_array(pixels))
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(folder / f"{name}.png")
    alpha = golden_images(1, 20, 26, 1, seed=5)[0]
    clear = np.concatenate([golden_images(1, 20, 26, 3, seed=4)[0], alpha], axis=2)
    Image.fromarray(clear).save(folder / "transparent.png")
    sixteen = golden_images(1, 20, 26, 1, seed=6)[0, ..., 0].astype(np.uint16) * 256 + 255
    Image.fromarray(sixteen).save(folder / "sixteen-bits.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(made["wide"]).save(folder / "turned.png", exif=turned)
    Image.fromarray(made["wide"]).quantize(16, method=Image.Quantize.MEDIANCUT).save(folder / "palette.png")
    return made


def asked_of(plan: Planned) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the pictures that a bundle is asked about, and the abilities that each needs."""
    if plan.name.startswith("background-"):
        yield "transparent", ("png",)
        return
    if plan.preprocess.channels == 1:
        yield "gray", ()
        yield "wide", ()
        if plan.name == "none-gray":
            yield "sixteen-bits", ("png",)
        return
    geometric = plan.labels is None and not plan.name.startswith(("custom", "caffe", "torch", "tf", "none"))
    for name in ("wide", "tall", "small", "exact") if geometric else ("wide", "exact"):
        yield name, ()
    if plan.name.startswith(("squash-", "uint8-")):
        yield "large", ()
    if plan.name == "none-rgb":
        yield "gray", ()
        for name in ("transparent", "turned", "palette"):
            yield name, ("png",)


def answers(root: Path, plan: Planned, held: dict[str, NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """Ask a bundle about its pictures, write what it read and answered, and return the entries of ``expected.json``."""
    entries = []
    with load(root / "bundles" / plan.name, threads=1, variant=SAME, tuning="off") as runtime:
        for name, needs in asked_of(plan):
            source = held.get(name, root / "pictures" / f"{name}.png")
            pixels = runtime.manifest.picture.pixels([source])
            batch = batch_for(runtime.session, runtime.manifest.form, pixels)
            stem = f"expected/{plan.name}.{name}"
            (root / f"{stem}.input.npy").write_bytes(npy_from_array(batch))
            wave = batch.dtype == np.float32 and plan.preprocess.sizing.resample == "lanczos"
            entries.append(
                {
                    "name": f"{plan.name}/{name}",
                    "bundle": f"bundles/{plan.name}",
                    "picture": name,
                    "needs": ["onnx", *needs],
                    "variant": SAME,
                    "input": {"npy": f"{stem}.input.npy", "tolerance": SINE if wave else 0.0},
                    "outputs": list(_outputs(root, runtime, source, stem, SINE if wave else EXACT)),
                    "top": _top(runtime, source),
                }
            )
    return entries


def _outputs(root: Path, runtime: Runtime, source: Any, stem: str, tolerance: float) -> Iterator[dict[str, Any]]:
    for index, (name, output) in enumerate(runtime.run(source).items()):
        data, path = npy_from_array(output), f"{stem}.input.npy"
        if data != (root / path).read_bytes():  # most networks return their input
            path = f"{stem}.output{f'.{index + 1}' if index else ''}.npy"
            (root / path).write_bytes(data)
        yield {"name": name, "npy": path, "tolerance": tolerance}


def _top(runtime: Runtime, source: Any) -> list[dict[str, Any]] | None:
    if runtime.manifest.task != "classification":
        return None
    return [{"class": one.index, "label": one.label, "score": one.probability} for one in runtime.predict(source)]


def refusals(root: Path, entries: list[Fault]) -> list[dict[str, Any]]:
    """Spoil a copy of a bundle for each fault, and return the entries of ``expected.json``."""
    made = []
    for fault in entries:
        folder = root / "hostile" / fault.name
        shutil.copytree(root / "bundles" / fault.base, folder)
        fault.edit(folder)
        path = f"hostile/{fault.name}"
        made.append(
            {"name": fault.name, "bundle": path, "when": fault.when, "needs": list(fault.needs), "code": fault.code}
            | {"key": None, "min_version": 0}
        )
    return made


def told(root: Path, entry: dict[str, Any]) -> str:
    """Return the code of the error that the Python runtime raises for a refusal, or ``accepted``."""
    key = None if entry["key"] is None else root / entry["key"]
    try:
        options = {"threads": 1, "tuning": "off", "key": key, "min_version": entry["min_version"]}
        load(root / entry["bundle"], selftest=entry["when"] == "selftest", **options).close()
    except XXDeployError as error:
        return error.code
    return "accepted"


ABSENT: dict[str, Any] = {
    "name": "absent", "bundle": "hostile/absent", "when": "load", "needs": [], "key": None, "min_version": 0,
    "code": "bundle-not-found",
}  # fmt: skip
SCHEMA = Path(__file__).with_name("conformance.schema.json")


def write(root: Path) -> dict[str, Any]:
    """Write the suite to the new folder ``root``; return the content of ``expected.json``."""
    for name in ("pictures", "expected", "bundles", "hostile", "keys"):
        (root / name).mkdir(parents=True)
    held = pictures(root / "pictures")
    plans = list(planned())
    for plan in plans:
        plan.write(root / "bundles" / plan.name)
    for name, public in KEYS.items():
        (root / "keys" / f"{name}.pub").write_bytes(public)
    sign(root / "bundles" / SIGNED, "a", version=3)
    bundles: list[dict[str, Any]] = [
        {"path": f"bundles/{plan.name}", "key": None, "version": None, "needs": ["onnx"]} for plan in plans
    ]
    bundles.append({"path": f"bundles/{SIGNED}", "key": "keys/a.pub", "version": 3, "needs": ["onnx", "signature"]})
    document = {
        "format": FORMAT,
        "pictures": [
            {
                "name": path.stem,
                "png": f"pictures/{path.name}",
                "npy": f"pictures/{path.stem}.npy" if path.stem in held else None,
            }
            for path in sorted((root / "pictures").glob("*.png"))
        ],
        "bundles": bundles,
        "answers": [entry for plan in plans for entry in answers(root, plan, held)],
        "refusals": [ABSENT, *refusals(root, list(faults())), *refused_signatures(root)],
    }
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (root / "expected.json").write_text(text + "\n", encoding="utf-8")
    shutil.copy(SCHEMA, root / "expected.schema.json")
    return document


def main() -> int:
    """Write the suite, and stop if the Python runtime does not refuse a hostile input by the code that is written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write, which must not exist")
    root = parser.parse_args().folder
    if root.exists():
        print(f"error: {root} exists\n hint: delete it, or name another folder", file=sys.stderr)
        return 2
    document = write(root)
    wrong = [(entry, found) for entry in document["refusals"] if (found := told(root, entry)) != entry["code"]]
    for entry, found in wrong:
        print(f"error: {entry['name']} should be {entry['code']}, the runtime says {found}", file=sys.stderr)
    counts = ", ".join(f"{len(document[key])} {key}" for key in ("bundles", "pictures", "answers", "refusals"))
    print(f"{root}: {counts}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
