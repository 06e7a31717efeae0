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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conformance_bundles import GEOMETRIES, HEIGHT, IMAGE, LITERT, SAME, WIDTH, Planned, feeds_of, planned
from conformance_refusals import Fault, faults
from conformance_signatures import KEYS, SIGNED, refused_signatures, sign
from conformance_tasks import task_faults
from numpy.typing import NDArray
from PIL import Image

from xxdeploy.bundle.pack import golden_images, golden_inputs
from xxdeploy.errors import XXDeployError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.contents import array_from_npy, npy_from_array
from xxdeploy.runtime.engines.session import batch_for
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import parts_of
from xxdeploy.runtime.predictor import Runtime

FORMAT = 2
WITHOUT = {"schemas-1-to-4": "unknown-schema", "several-inputs": "not-one-picture"}
"""The code that a runtime tells for a good bundle which it does not read, by the word of ``needs``."""
SINE = 1e-3
"""Tolerance of inputs that Lanczos made: its weights come from the sine of the platform."""
SIZES = {"wide": (23, 37), "tall": (41, 19), "small": (2, 3), "exact": (HEIGHT, WIDTH), "large": (80, 96)}
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
    form = plan.picture
    if plan.name.startswith("background-"):
        yield "transparent", ("png",)
        return
    if form is None:
        yield "wide", ()
        return
    if form.channels == 1:
        yield "gray", ()
        yield "wide", ()
        if plan.name == "none-gray":
            yield "sixteen-bits", ("png",)
        return
    geometric = plan.labels is None and plan.name.split("-")[0] in (*GEOMETRIES, "uint8")
    for name in ("wide", "tall", "small", "exact") if geometric else ("wide", "exact"):
        yield name, ()
    if plan.name.startswith(("squash-", "uint8-")):
        yield "large", ()
    if plan.name in ("none-rgb", "mask-of-classes"):
        yield "gray", ()
    if plan.name == "none-rgb":
        for name in ("transparent", "turned", "palette"):
            yield name, ("png",)


def answers(root: Path, plan: Planned, held: dict[str, NDArray[np.uint8]]) -> Iterator[dict[str, Any]]:
    """Ask a bundle about its pictures, write what it read and answered, and yield the entries of ``expected.json``."""
    asked = Asked(root, plan, held)
    for variant in (SAME, LITERT) if plan.has_litert else (SAME,):
        engine = LITERT if variant == LITERT else "onnxruntime"
        with load(root / "bundles" / plan.name, threads=1, variant=variant, engine=engine) as runtime:
            for name, needs in asked_of(plan):
                yield asked.about(name, needs, runtime)


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the expected arrays of one bundle are written, and the pixels of the pictures that have some."""

    root: Path
    plan: Planned
    held: Mapping[str, NDArray[np.uint8]]

    def about(self, picture: str, needs: Sequence[str], runtime: Runtime) -> dict[str, Any]:
        """Write what a bundle read and answered for one picture; return its entry."""
        form, variant = self.plan.preprocess, runtime.variant.name
        ending = "" if variant == SAME else f".{variant}"
        stem = f"expected/{self.plan.name}.{picture}{ending}"
        inputs = list(self._inputs(stem, picture))
        given = {one["name"]: self._value(one) for one in inputs}
        sample: Any = given if len(given) > 1 else next(iter(given.values()))
        read = feeds_of(form, batch_for(runtime.session, form, form.pixels([sample])))
        wave = any(isinstance(part, Preprocess) and _is_wave(part, read[0]) for _, part in parts_of(form))
        written: dict[bytes, str] = {}  # most networks return their input
        for index, (one, array) in enumerate(zip(inputs, read, strict=True)):
            path = f"{stem}.input{f'.{index + 1}' if index else ''}.npy"
            one |= {"npy": self._write(path, array, written), "tolerance": SINE if wave else 0.0}
        outputs = [
            {
                "name": name,
                "npy": self._write(f"{stem}.output{f'.{index + 1}' if index else ''}.npy", output, written),
                "tolerance": SINE if wave else self.plan.tolerance,
            }
            for index, (name, output) in enumerate(runtime.run(sample).items())
        ]
        return {
            "name": f"{self.plan.name}/{picture}{'' if variant == SAME else f'/{variant}'}",
            "bundle": f"bundles/{self.plan.name}",
            "needs": [*_needs(self.plan, variant), *needs],
            "variant": variant,
            "inputs": inputs,
            "outputs": outputs,
            "top": _top(runtime, sample),
            "text": runtime.read(sample).text if runtime.manifest.task == "sequence" else None,
            "image": self._image(stem, runtime, sample, written),
        }

    def _inputs(self, stem: str, picture: str) -> Iterator[dict[str, Any]]:
        """Yield each input with what it is given: a picture, or numbers, which are written."""
        for index, (name, part) in enumerate(parts_of(self.plan.preprocess)):
            one = {"name": name or IMAGE, "picture": picture, "numbers": None}
            if not isinstance(part, Preprocess):
                path = f"{stem}.numbers{f'.{index + 1}' if index else ''}.npy"
                (self.root / path).write_bytes(npy_from_array(golden_inputs(index + 1, part)[-1]))
                one |= {"picture": None, "numbers": path}
            yield one

    def _value(self, one: Mapping[str, Any]) -> Any:
        if one["picture"] is None:
            return array_from_npy((self.root / one["numbers"]).read_bytes(), one["numbers"])
        return self.held.get(one["picture"], self.root / "pictures" / f"{one['picture']}.png")

    def _write(self, path: str, array: NDArray[Any], written: dict[bytes, str]) -> str:
        """Write an array, unless an equal one is written; return its path."""
        data = npy_from_array(array)
        if data not in written:
            (self.root / path).write_bytes(data)
        return written.setdefault(data, path)

    def _image(self, stem: str, runtime: Runtime, sample: Any, written: dict[bytes, str]) -> str | None:
        """Write the picture, or the classes of a mask, (height, width, channels) uint8."""
        if runtime.manifest.task != "image":
            return None
        pixels = np.asarray(runtime.image(sample))
        return self._write(f"{stem}.image.npy", pixels.reshape(*pixels.shape[:2], -1), written)


def _is_wave(form: Preprocess, read: NDArray[Any]) -> bool:
    return read.dtype == np.float32 and form.sizing.resample == "lanczos"


def _needs(plan: Planned, variant: str) -> list[str]:
    """Return what a runtime needs to read a bundle and run a variant."""
    several = [] if plan.picture is not None else ["several-inputs"]
    return ["litert" if variant == LITERT else "onnx", *(["schemas-1-to-4"] if plan.old else []), *several]


def _top(runtime: Runtime, sample: Any) -> list[dict[str, Any]] | None:
    if runtime.manifest.task != "classification":
        return None
    return [{"class": one.index, "label": one.label, "score": one.probability} for one in runtime.predict(sample)]


def refusals(root: Path, entries: list[Fault]) -> list[dict[str, Any]]:
    """Spoil a copy of a bundle for each fault, and return the entries of ``expected.json``."""
    made = []
    for fault in entries:
        folder = root / "hostile" / fault.name
        if fault.reads_files:
            shutil.copytree(root / "bundles" / fault.base, folder)
        else:
            folder.mkdir()
            shutil.copy(root / "bundles" / fault.base / "manifest.json", folder)
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
    engine = LITERT if LITERT in entry["needs"] else "onnxruntime"
    try:
        options = {"engine": engine, "threads": 1, "tuning": "off", "key": key, "min_version": entry["min_version"]}
        load(root / entry["bundle"], selftest=entry["when"] == "selftest", **options).close()
    except XXDeployError as error:
        return error.code
    return "accepted"


ABSENT: dict[str, Any] = {
    "name": "absent", "bundle": "hostile/absent", "when": "load", "needs": [], "key": None, "min_version": 0,
    "code": "bundle-not-found",
}  # fmt: skip
SIGNED_ENTRY: dict[str, Any] = {"key": "keys/a.pub", "version": 3, "needs": ["onnx", "signature"]}
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
    bundles = [
        {"path": f"bundles/{plan.name}", "variant": variant, "key": None, "version": None}
        | {"needs": _needs(plan, variant)}
        for plan in plans
        for variant in ((SAME, LITERT) if plan.has_litert else (SAME,))
    ]
    bundles.append({**SIGNED_ENTRY, "path": f"bundles/{SIGNED}", "variant": SAME})
    document = {
        "format": FORMAT,
        "without": WITHOUT,
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
        "refusals": [ABSENT, *refusals(root, [*faults(), *task_faults()]), *refused_signatures(root)],
    }
    (root / "expected.json").write_text(_lines(document), encoding="utf-8")
    shutil.copy(SCHEMA, root / "expected.schema.json")
    return document


def _lines(document: dict[str, Any]) -> str:
    """Return the document as JSON with a line for each entry."""
    parts = []
    for key, value in document.items():
        told = (
            [json.dumps(one, ensure_ascii=False, allow_nan=False) for one in value] if isinstance(value, list) else ()
        )
        parts.append(f'"{key}": ' + ("[\n" + ",\n".join(told) + "\n]" if told else json.dumps(value)))
    return "{\n" + ",\n".join(parts) + "\n}\n"


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
