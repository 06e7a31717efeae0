"""What the builder is doing, for the progress bar."""

from __future__ import annotations

import threading
from typing import Any

from xxdeploy.engine.library import Library
from xxdeploy.results import OnProgress, Progress


def progress_monitor(library: Library, report: OnProgress) -> Any:
    """Return an ``IProgressMonitor`` that hands the outermost phases of a build to ``report``.

    The builder calls it from several threads. A report that raises (Ctrl-C) ends the build: the monitor answers that
    it is to stop, and ``failure`` holds what was raised.
    """
    base = library.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            base.__init__(self)
            self.failure: BaseException | None = None
            self._lock = threading.Lock()
            self._phases: dict[str, tuple[int, bool]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = (max(num_steps, 1), parent_phase is None)
            self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(phase_name, step + 1)
            return self.failure is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(phase_name, None)

        def _tell(self, phase: str, done: int | None) -> None:
            with self._lock:
                total, outermost = self._phases.get(phase, (1, False))
                if not outermost or self.failure is not None:
                    return
                try:
                    # The end is told once, by phase_finish: a bar that is full is taken away.
                    report(Progress(f"engine: {phase}", total if done is None else min(done, total - 1), total))
                except BaseException as error:  # noqa: BLE001 - raised again by the builder's caller
                    self.failure = error

    return Monitor()
