"""Let the package `model-signing` check signatures of `xxdeploy sign --format oms`, in an environment of its own.

    python scripts/check_oms.py [--record]

pip downloads the package. A good bundle must pass, also with both kinds of signature and under another name; one with a
changed byte, a missing or an additional file, or another key must not. ``--record`` writes a signature that the package
itself makes to ``tests/bundle/oms_recorded.json``, which a test compares with ours.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import tiny_bundle  # noqa: E402

from xxdeploy.bundle.oms import UNSIGNED, sign_oms  # noqa: E402
from xxdeploy.bundle.sign import generate_key, sign  # noqa: E402

PACKAGES = ("model-signing==1.1.1", "pyopenssl")  # the first imports the second, and does not ask for it
RECORDED = ROOT / "tests" / "bundle" / "oms_recorded.json"
FILES = {"model.onnx": "abc", "golden/x.npy": "def", "golden.txt": "ghi", "manifest.json": "{}"}


def change(path: Path) -> None:
    """Change the last byte of a file."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


FAULTS: dict[str, Callable[[Path], object]] = {
    "a changed model": lambda folder: change(folder / "model.onnx"),
    "a changed manifest": lambda folder: change(folder / "manifest.json"),
    "a missing file": lambda folder: (folder / "labels.txt").unlink(),
    "an additional file": lambda folder: (folder / "more.txt").write_text("x"),
}


def record(program: Path, folder: Path) -> None:
    """Let the package sign a folder, and keep the signature."""
    model = folder / "model"
    for name, text in FILES.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(text)
    ignored = [word for name in ("model.sig", "manifest.sig") for word in ("--ignore-paths", str(model / name))]
    command = [program, "sign", "key", model, "--private_key", folder / "good.key", "--signature", model / "model.sig"]
    subprocess.run([*map(str, command), *ignored], check=True)
    content = {
        "made by": PACKAGES[0],
        "files": FILES,
        "public": (folder / "good.pub").read_text(),
        "signature": json.loads((model / "model.sig").read_text()),
    }
    RECORDED.write_text(json.dumps(content, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Sign, spoil and check; return 1 if the package judges one folder otherwise than it must."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        subprocess.run([folder / "env/bin/python", "-m", "pip", "install", "-q", *PACKAGES], check=True)
        program = folder / "env/bin/model_signing"
        for key in ("good", "other"):
            generate_key(folder / key, kind="oms")
        if "--record" in arguments:
            record(program, folder)

        def accepted(bundle: Path, key: str = "good") -> bool:
            words = ["--signature", bundle / "model.sig", "--public_key", folder / f"{key}.pub"]
            command = [str(word) for word in (program, "verify", "key", bundle, *words)]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        bundle = tiny_bundle.make(folder / "bundle")
        sign_oms(bundle, folder / "good.key")
        verdicts = {"a good bundle": accepted(bundle), "another key": not accepted(bundle, "other")}
        generate_key(folder / "own")
        sign(bundle, folder / "own.key", version=1)
        verdicts["both signatures"] = accepted(bundle)
        shutil.copytree(bundle, folder / "renamed")
        (folder / "renamed" / UNSIGNED[-1]).touch()
        verdicts["another name, in a repository"] = accepted(folder / "renamed")
        for fault, spoil in FAULTS.items():
            copy = Path(shutil.copytree(bundle, folder / fault.replace(" ", "-")))
            spoil(copy)
            verdicts[fault] = not accepted(copy)
    for case, right in verdicts.items():
        print(f"{'ok  ' if right else 'WRONG'} {case}")
    return 0 if all(verdicts.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
