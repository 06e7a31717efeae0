"""The readers that ``fuzz.py`` and ``fuzz_atheris.py`` test, and valid files as first inputs."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime.bundle.manifest import Manifest
from xxdeploy.runtime.image.preprocess import Preprocess
from xxdeploy.runtime.inputs import area_of, random_samples

ROOT = Path(__file__).resolve().parent.parent
FUZZED_PIXELS = 16_000_000
"""Pictures up to this size fit into the memory that the fuzzers allow."""
RECIPES = (
    b'folder = "images"\nsamples = 100\nseed = 3\nmethod = "minmax"\nresize = "crop"\n',
    b'scheme = "static-w8c-a8"\ncalibrator = "mse"\nfloat-layers = ["a"]\nequalization = true\n',
    b'scale = 0.0039\nmean = [0.5, 0.5, 0.5]\nstd = [0.2, 0.2, 0.2]\norder = "rgb"\n',
    b"TRT-8601-EntropyCalibration2\nimage: 3c010a14\nprobabilities: 3c010204\n",
)
ENGINE: dict[str, Any] = {
    "schema": 1, "plan": {"sha256": "a" * 64, "size": 3}, "model_sha256": "b" * 64, "version": "1",
    "target": "tensorrt-rtx", "options": {"strip": False}, "proof": {"shares": {"int8": 1.0}},
}  # fmt: skip


class Readers:
    """Each method reads one kind of file, and may raise an ``XXDeployError`` only."""

    def __init__(self, folder: Path, *, bundle: bool = True) -> None:
        self.folder, self.file = folder, folder / "input"
        self._signed: tuple[bytes, bytes] | None = None
        if not bundle:  # onnx, which makes it, is not there on a device, and would count as memory
            return
        sys.path.insert(0, str(ROOT / "tests" / "support"))
        import tiny_bundle

        self.bundle = tiny_bundle.make(folder / "bundle") if not (folder / "bundle").exists() else folder / "bundle"
        self.parts = {
            path.relative_to(self.bundle).as_posix(): path.read_bytes()
            for path in self.bundle.rglob("*")
            if path.is_file()
        }
        self.manifest = json.loads(self.parts["manifest.json"])

    def read_manifest(self, data: bytes) -> None:
        """Read a manifest, and write it again."""
        Manifest.from_json(data).to_json()

    def read_bundle(self, name: str, data: bytes) -> None:
        """Load and run a bundle in which one file is replaced and its hash corrected."""
        from xxdeploy.bundle.folder import check_bundle
        from xxdeploy.runtime import load

        spoiled = {**self.parts, name: data}
        if name != "manifest.json":
            manifest = copy.deepcopy(self.manifest)
            for entry in manifest["files"]:
                entry.update(
                    sha256=hashlib.sha256(spoiled[entry["path"]]).hexdigest(), size=len(spoiled[entry["path"]])
                )
            spoiled["manifest.json"] = json.dumps(manifest).encode()
        for path, content in spoiled.items():
            (self.bundle / path).write_bytes(content)
        with contextlib.suppress(XXDeployError):
            check_bundle(self.bundle)
        runtime = load(self.bundle, threads=1)
        form = runtime.manifest.form
        if area_of(form) <= 1 << 20:  # what a manifest asks for, up to the largest that it may, is no fault
            runtime.run(random_samples(form, 1)[0])
        runtime.selftest()

    def read_model(self, data: bytes) -> None:
        """Run an ONNX file."""
        from xxdeploy.runtime.engines.ort import OrtSession

        OrtSession(data, threads=1).run(np.zeros((1, 8, 8, 3), np.float32))

    def signed(self) -> tuple[bytes, bytes]:
        """Return a valid signature of the manifest, and its key."""
        if self._signed is None:
            from xxdeploy.bundle.sign import generate_key, sign

            if not (self.folder / "k.pub").exists():
                generate_key(self.folder / "k")
                sign(self.bundle, self.folder / "k.key", version=3)
            self._signed = (self.bundle / "manifest.sig").read_bytes(), (self.folder / "k.pub").read_bytes()
        return self._signed

    def read_signature(self, signature: bytes, public: bytes) -> None:
        """Check a signature; a signature or key other than the valid one must be refused."""
        from xxdeploy.runtime.bundle.signature import trust

        right, key = self.signed()
        before, asked = trust(key), trust(public)
        assert asked is not None
        assert before is not None
        asked.version_of(self.parts["manifest.json"], "manifest.json", signature)
        if not set(asked.keys) & set(before.keys) or signature != right:  # a key may well be in the file twice
            raise AssertionError("a spoiled signature or key was accepted")

    def read_picture(self, file: Path) -> None:
        """Decode a picture as a device does."""
        image = Preprocess(8, 8).image(file, max_pixels=FUZZED_PIXELS)
        assert image.shape == (8, 8, 3)

    def read_array(self, data: bytes) -> None:
        """Read golden inputs or outputs."""
        from xxdeploy.runtime.bundle.contents import array_from_npy

        array_from_npy(data, "a")

    def read_labels(self, file: Path) -> None:
        """Read labels of a user and of a bundle."""
        from xxdeploy.datasets.labels_file import load_labels
        from xxdeploy.runtime.bundle.contents import labels_from_text

        with contextlib.suppress(XXDeployError):
            load_labels(file)
        labels_from_text(file.read_bytes(), 10)

    def calibration(self) -> dict[str, Any]:
        """Return a valid calibration record."""
        from xxdeploy.results import Ranges

        ranges = Ranges("minmax", "a" * 64, "b" * 64, 3, {"x": (0.0, 1.5), "y": (-2.0, 2.0)})
        record: dict[str, Any] = json.loads(ranges.to_json())
        return record

    def read_calibration(self, data: bytes) -> None:
        """Read a file as a calibration record, as a sensitivity record and as a checkpoint of histograms."""
        from xxdeploy.quantize.calibration.histograms import Histograms
        from xxdeploy.results import Ranges, noise_from_json

        text = data.decode("utf-8", "replace")
        with contextlib.suppress(XXDeployError):
            noise_from_json(text)
        with contextlib.suppress(XXDeployError):
            Histograms.from_bytes(data)
        Ranges.from_json(text)

    def read_recipe(self, file: Path) -> None:
        """Read a file as a recipe of either kind, as TensorRT's calibration cache and as a scaling."""
        from xxdeploy.datasets.recipe import load_recipe
        from xxdeploy.datasets.scaling_file import load_scaling
        from xxdeploy.quantize.calibration.given_ranges import ranges_from_tensorrt_cache
        from xxdeploy.quantize.recipe import load_quantization_recipe

        for read in (load_recipe, load_quantization_recipe, ranges_from_tensorrt_cache):
            with contextlib.suppress(XXDeployError):
                read(file)
        load_scaling(file, 3)

    def read_engine(self, data: bytes) -> None:
        """Read the record of an engine."""
        from xxdeploy.runtime.engines.engine_file import record_from_json

        record_from_json(data)
