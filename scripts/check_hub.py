"""Compare the files of `export --card` with the libraries that read them, in an environment of its own.

    python scripts/check_hub.py

pip downloads transformers (without PyTorch), huggingface_hub and Pillow. For every preprocessing that
``preprocessor_config.json`` can say, transformers must make the numbers of our runtime from seven odd pictures: equal
ones where the model file takes uint8, else within 1e-6 of the range. huggingface_hub must read a card with its results.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import tiny_bundle  # noqa: E402
from described import with_input  # noqa: E402

from xxdeploy.report.card import model_card  # noqa: E402
from xxdeploy.report.preprocessor import FILTERS, preprocessor_config  # noqa: E402
from xxdeploy.results import AccuracyRecord, Evidence, RunnerAccuracy  # noqa: E402
from xxdeploy.runtime.bundle.manifest import Manifest  # noqa: E402
from xxdeploy.runtime.image.preprocess import Preprocess, Sizing  # noqa: E402
from xxdeploy.runtime.image.scaling import Scaling  # noqa: E402

PACKAGES = ("transformers==5.24.0", "pillow", "numpy")
TOLERANCE = 1e-6
SCALINGS = (
    ("tf", None),
    ("torch", None),
    ("none", None),
    ("custom", Scaling(1 / 255, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3))),
    ("custom", Scaling(1 / 255, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
)
_CHILD = """
import sys
from pathlib import Path
import numpy as np
from huggingface_hub import ModelCard
from PIL import Image
from transformers import ViTImageProcessor
root = Path(sys.argv[1])
pictures = [Image.open(path) for path in sorted((root / "pictures").iterdir())]
for folder in sorted((root / "cases").iterdir()):
    made = ViTImageProcessor.from_pretrained(folder)(pictures, return_tensors="np")["pixel_values"]
    np.save(folder / "theirs.npy", made.transpose(0, 2, 3, 1))
data = ModelCard.load(root / "README.md").data
(one,) = data.eval_results
print(data.pipeline_tag, data.model_name, one.metric_type, one.metric_value)
"""


def pictures(folder: Path) -> list[Path]:
    """Write pictures of odd sizes and modes. None is transparent: versions of transformers differ about those."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(((8, 8), (9, 7), (200, 3), (31, 64), (640, 480))):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{number}.png")
    gray = Image.fromarray(random.integers(0, 256, (20, 30), np.uint8))
    gray.save(folder / "gray.png")
    gray.convert("P").save(folder / "palette.png")
    return sorted(folder.iterdir())


def card(manifest: Manifest) -> str:
    """Return the card of an export with a measured accuracy."""
    runner = RunnerAccuracy(f"onnx-{manifest.variants[0].name}", 1.0, 0.75)
    return model_card(manifest, Evidence(accuracy=AccuracyRecord(400, "0" * 64, (runner,))), {})


def main() -> int:
    """Write the cases, let the libraries read them, and compare; return 1 if one differs."""
    _, manifest = tiny_bundle.parts_and_manifest()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sources = pictures(root / "pictures")
        ours = {}
        cases = itertools.product(FILTERS, enumerate(SCALINGS), ("uint8", "float32"))
        for resample, (number, (mode, scaling)), dtype in cases:
            form = Preprocess(24, 16, 3, mode, Sizing("squash", resample), scaling)
            folder = root / "cases" / f"{resample}-{number}-{dtype}"
            folder.mkdir(parents=True)
            config = preprocessor_config(with_input(form, dtype))
            (folder / "preprocessor_config.json").write_text(json.dumps(config))
            pixels = form.pixels(sources)
            ours[folder] = pixels.astype(np.float32) if dtype == "uint8" else form.normalize(pixels)
        (root / "README.md").write_text(card(manifest))
        venv.create(root / "env", with_pip=True)
        python = root / "env" / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        done = subprocess.run([python, "-c", _CHILD, root], check=True, stdout=subprocess.PIPE, text=True)
        for folder, expected in ours.items():
            theirs = np.load(folder / "theirs.npy").astype(np.float32)
            error = float(np.abs(theirs - expected).max() / max(1.0, float(np.abs(expected).max())))
            limit = 0.0 if folder.name.endswith("uint8") else TOLERANCE
            if theirs.shape != expected.shape or error > limit:
                print(f"WRONG {folder.name}: {error:.1e}")
                wrong += 1
    print(f"{len(ours) - wrong} of {len(ours)} preprocessings agree; the card says: {done.stdout.strip()}")
    return int(wrong > 0 or done.stdout.split() != ["image-classification", manifest.name, "accuracy", "0.75"])


if __name__ == "__main__":
    raise SystemExit(main())
