"""Run every check of the project, the fastest first, and return one exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("importlinter.cli", "lint-imports"),
    ("scripts/check_wheel.py",),
    ("mkdocs", "build", "--strict", "--quiet"),
    ("pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"),
)
# The theme announces another tool on each build.
ENVIRONMENT = os.environ | {"NO_MKDOCS_2_WARNING": "1"}


def main() -> int:
    """Run every check, also after one has failed; return 1 if any failed."""
    failed = []
    for module, *arguments in CHECKS:
        if module == "importlinter.cli":
            command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
        elif module.endswith(".py"):
            command = [sys.executable, module, *arguments]
        else:
            command = [sys.executable, "-m", module, *arguments]
        print(f"== {module} {' '.join(arguments)}", flush=True)
        if subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False).returncode:
            failed.append(module)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
