"""Compare the files of `export --card` with the libraries that read them, in an environment of its own.

    python scripts/check_hub.py [--js]

pip downloads transformers (without PyTorch), huggingface_hub and Pillow. For every preprocessing that
``preprocessor_config.json`` can say, transformers must make the numbers of our runtime from seven odd pictures: equal
ones where the model file takes uint8, else within 1e-6 of the range. huggingface_hub must read a card with its results.
With ``--js``, npm downloads transformers.js, which must do the same for a picture of the input's size: it resizes with
the browser's filter, or with another library in Node.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
JS_PACKAGE = "@huggingface/transformers@4.3.2"
HEIGHT, WIDTH = 24, 16
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


_JS = """
import fs from "fs";
import { AutoImageProcessor, RawImage, env } from "@huggingface/transformers";
const [root, height, width] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = root + "/";
const pixels = Uint8ClampedArray.from(JSON.parse(fs.readFileSync(root + "/pixels.json")));
const made = {};
for (const name of fs.readdirSync(root).filter((name) => !name.endsWith(".json"))) {
  const processor = await AutoImageProcessor.from_pretrained(name);
  const { pixel_values } = await processor(new RawImage(pixels.slice(), Number(width), Number(height), 3));
  made[name] = [pixel_values.dims, Array.from(pixel_values.data)];
}
console.log(JSON.stringify(made));
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


def differs(name: str, theirs: NDArray[Any], ours: NDArray[Any]) -> bool:
    """Print and return whether two arrays differ: at all for uint8, else by more than the tolerance."""
    error = float(np.abs(theirs - ours).max() / max(1.0, float(np.abs(ours).max())))
    if wrong := theirs.shape != ours.shape or error > (0.0 if name.endswith("uint8") else TOLERANCE):
        print(f"WRONG {name}: {error:.1e}")
    return wrong


def form_of(case: str) -> Preprocess:
    """Return the preprocessing of a case, by its name."""
    resample, number, _ = case.rsplit("-", 2)
    mode, scaling = SCALINGS[int(number)]
    return Preprocess(HEIGHT, WIDTH, 3, mode, Sizing("squash", resample), scaling)


def js_differences(root: Path) -> int:
    """Let transformers.js read the cases for one picture of the input's size; return how many differ."""
    pixels = np.random.default_rng(1).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    (root / "cases" / "pixels.json").write_text(json.dumps(pixels.ravel().tolist()))
    (root / "read.mjs").write_text(_JS)
    (root / "package.json").write_text("{}")
    # Scripts of packages would download programs; none is needed to read pixels.
    subprocess.run(["npm", "install", "--silent", "--ignore-scripts", JS_PACKAGE], cwd=root, check=True)
    command = ["node", "read.mjs", str(root / "cases"), str(HEIGHT), str(WIDTH)]
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    made = json.loads(done.stdout)
    wrong = 0
    for name, (shape, values) in made.items():
        theirs = np.array(values, np.float32).reshape(shape).transpose(0, 2, 3, 1)
        ours = pixels.astype(np.float32) if name.endswith("uint8") else form_of(name).normalize(pixels)
        wrong += differs(name, theirs, ours)
    print(f"{JS_PACKAGE}: {len(made) - wrong} of {len(made)} agree")
    return wrong


def main() -> int:
    """Write the cases, let the libraries read them, and compare; return 1 if one differs."""
    _, manifest = tiny_bundle.parts_and_manifest()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        sources = pictures(root / "pictures")
        ours = {}
        for resample, number, dtype in itertools.product(FILTERS, range(len(SCALINGS)), ("uint8", "float32")):
            folder = root / "cases" / f"{resample}-{number}-{dtype}"
            folder.mkdir(parents=True)
            form = form_of(folder.name)
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
            wrong += differs(folder.name, np.load(folder / "theirs.npy"), expected)
        if "--js" in sys.argv:
            wrong += js_differences(root)
    print(f"{len(ours) - wrong} of {len(ours)} preprocessings agree; the card says: {done.stdout.strip()}")
    return int(wrong > 0 or done.stdout.split() != ["image-classification", manifest.name, "accuracy", "0.75"])


if __name__ == "__main__":
    raise SystemExit(main())
