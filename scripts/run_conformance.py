"""Judge the Python runtime by the conformance suite, and print the result as TAP (Test Anything Protocol).

    python scripts/run_conformance.py FOLDER [--engine litert]

FOLDER is one that make_conformance.py wrote. The exit status is 1 if an entry fails.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conformance_bundles import feeds_of
from numpy.typing import NDArray

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime import load
from xxdeploy.runtime.bundle.contents import array_from_npy
from xxdeploy.runtime.engines.session import batch_for

ABLE = {
    "onnxruntime": frozenset({"onnx", "png", "links", "signature", "schemas-1-to-4", "several-inputs"}),
    "litert": frozenset({"litert", "png", "links", "signature", "schemas-1-to-4", "several-inputs"}),
}
"""What the Python runtime can do with each engine, in the words of ``needs``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``problem`` is None where an entry passes; ``skipped`` is the word of ``needs`` for which it was not tried."""

    name: str
    problem: str | None = None
    skipped: str | None = None

    def line(self, number: int) -> str:
        """Return the line of TAP."""
        words = "ok" if self.problem is None else "not ok"
        note = f" # SKIP {self.skipped}" if self.skipped else "" if self.problem is None else f": {self.problem}"
        return f"{words} {number} - {self.name}{note}"


def judge(root: Path, engine: str = "onnxruntime", able: Collection[str] | None = None) -> Iterator[Verdict]:
    """Yield the verdict on each entry of the suite in ``root``."""
    document = json.loads((root / "expected.json").read_text(encoding="utf-8"))
    pictures = {picture["name"]: picture for picture in document["pictures"]}
    have = ABLE[engine] if able is None else able
    for kind, check in (("bundles", _bundle), ("answers", _answer), ("refusals", _refusal)):
        for entry in document[kind]:
            name = f"{kind}: {entry['name'] if 'name' in entry else _bundle_name(entry)}"
            lacking = next((word for word in entry["needs"] if word not in have), None)
            if lacking is not None and lacking not in document["without"]:
                yield Verdict(name, skipped=lacking)
                continue
            try:
                if lacking is None:
                    yield Verdict(name, check(root, entry, pictures, engine))
                else:
                    yield Verdict(name, _refusal(root, _as_refusal(entry, document["without"][lacking]), {}, engine))
            except XXDeployError as error:
                yield Verdict(name, f"{error.code}: {error.message}")


def _options(root: Path, entry: Mapping[str, Any], engine: str) -> dict[str, Any]:
    key = None if entry.get("key") is None else root / entry["key"]
    return {"engine": engine, "threads": 1, "key": key, "min_version": entry.get("min_version", 0)}


def _bundle_name(entry: Mapping[str, Any]) -> str:
    return f"{entry['path']} {entry['variant']}{' signed' if entry['version'] else ''}"


def _bundle(root: Path, entry: Mapping[str, Any], _: Mapping[str, Any], engine: str) -> str | None:
    options = _options(root, entry, engine)
    with load(root / entry["path"], selftest=True, variant=entry["variant"], **options) as runtime:
        same = runtime.version == entry["version"]
        return None if same else f"version {runtime.version}, expected {entry['version']}"


def _as_refusal(entry: Mapping[str, Any], code: str) -> dict[str, Any]:
    """Return the entry of a good bundle that a runtime does not read, as the refusal by ``code``."""
    return {"bundle": entry.get("bundle", entry.get("path")), "when": "load", "code": code}


def _answer(root: Path, entry: Mapping[str, Any], pictures: Mapping[str, Any], engine: str) -> str | None:
    given = {one["name"]: _given(root, one, pictures) for one in entry["inputs"]}
    source: Any = given if len(given) > 1 else next(iter(given.values()))
    with load(root / entry["bundle"], variant=entry["variant"], **_options(root, entry, engine)) as runtime:
        form = runtime.manifest.form
        read = feeds_of(form, batch_for(runtime.session, form, form.pixels([source])))
        for feed, one in zip(read, entry["inputs"], strict=True):
            if (problem := _differs(feed, _array(root, one["npy"]), one["tolerance"])) is not None:
                return f"input {one['name']}: {problem}"
        outputs = runtime.run(source)
        if list(outputs) != [output["name"] for output in entry["outputs"]]:
            return f"outputs {', '.join(outputs)}"
        for output in entry["outputs"]:
            problem = _differs(outputs[output["name"]], _array(root, output["npy"]), output["tolerance"])
            if problem is not None:
                return f"{output['name']}: {problem}"
        if entry["top"] is not None:
            best = [(one.index, one.label) for one in runtime.predict(source, top=5)]
            if best != [(one["class"], one["label"]) for one in entry["top"]]:
                return f"the best classes are {best}"
        if entry["text"] is not None and (text := runtime.read(source).text) != entry["text"]:
            return f"the text is {text!r}"
        if entry["image"] is not None:
            pixels = np.asarray(runtime.image(source))
            problem = _differs(pixels.reshape(*pixels.shape[:2], -1), _array(root, entry["image"]), 0)
            return None if problem is None else f"image: {problem}"
    return None


def _given(root: Path, one: Mapping[str, Any], pictures: Mapping[str, Any]) -> Any:
    """Return what an input is given: numbers, pixels, or the path of a PNG."""
    if one["picture"] is None:
        return _array(root, one["numbers"])
    files = pictures[one["picture"]]
    return root / files["png"] if files["npy"] is None else _array(root, files["npy"])


def _refusal(root: Path, entry: Mapping[str, Any], _: Mapping[str, Any], engine: str) -> str | None:
    try:
        load(root / entry["bundle"], selftest=entry["when"] == "selftest", **_options(root, entry, engine)).close()
    except XXDeployError as error:
        return None if error.code == entry["code"] else f"{error.code}, expected {entry['code']}"
    return f"accepted, expected {entry['code']}"


def _array(root: Path, path: str) -> NDArray[Any]:
    return array_from_npy((root / path).read_bytes(), path)


def _differs(have: NDArray[Any], expected: NDArray[Any], tolerance: float) -> str | None:
    """Say how two arrays differ, None if they do not."""
    if (have.shape, have.dtype) != (expected.shape, expected.dtype):
        return f"{have.shape} {have.dtype}, expected {expected.shape} {expected.dtype}"
    error = float(np.abs(have.astype(np.float64) - expected).max())
    return None if error <= tolerance else f"the largest difference is {error:.3g}, allowed is {tolerance:.3g}"


def main() -> int:
    """Print a line for each entry; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that make_conformance.py wrote")
    parser.add_argument("--engine", choices=sorted(ABLE), default="onnxruntime", help="default: onnxruntime")
    asked = parser.parse_args()
    verdicts = list(judge(asked.folder, asked.engine))
    print(f"TAP version 13\n1..{len(verdicts)}")
    for number, verdict in enumerate(verdicts, 1):
        print(verdict.line(number))
    return any(verdict.problem is not None for verdict in verdicts)


if __name__ == "__main__":
    raise SystemExit(main())
