"""Classify every image of a folder in batches, and write a CSV. A bad file does not end the run.

python examples/batch_files.py exports/mobilenetv2-int8 images/ > answers.csv
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from xxdeploy.errors import XXDeployError
from xxdeploy.runtime import load

BATCH = 32


def main(bundle: str, folder: str) -> None:
    """Write a line for each image: file, class, probability, and the code of the error if there is no result."""
    runtime = load(bundle)
    table = csv.writer(sys.stdout)
    table.writerow(("file", "class", "probability", "error"))
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        try:
            answers = [(path, best[0], "") for path, best in zip(batch, runtime.predict(batch, top=1), strict=True)]
        except XXDeployError:  # one picture is bad: run them one by one to find it
            answers = []
            for path in batch:
                try:
                    answers.append((path, runtime.predict(path, top=1)[0], ""))
                except XXDeployError as error:
                    table.writerow((path.relative_to(folder), "", "", error.code))
        for path, best, code in answers:
            table.writerow((path.relative_to(folder), best.label, f"{best.probability:.4f}", code))


if __name__ == "__main__":
    main(*sys.argv[1:3])
