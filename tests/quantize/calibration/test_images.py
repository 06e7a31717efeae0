"""Many images at a time, as many as memory holds, in order."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from xxdeploy.quantize.calibration.images import map_images

IMAGES = [np.full((1, 2, 2, 3), value, np.float32) for value in range(7)]


class Watched:
    """An observer of one tensor of 48 bytes that counts who is in it at a time."""

    def __init__(self) -> None:
        self.lock, self.inside, self.most = threading.Lock(), 0, 0
        self.gate = threading.Event()

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.gate.wait(0.02)
        with self.lock:
            self.inside -= 1
        return {"x": image}


@pytest.mark.parametrize(("memory", "most"), [(0, 1), (48, 1), (3 * 48, 3)])
def test_as_many_at_a_time_as_fit(memory: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    observer: Any = Watched()
    answers = map_images(observer, IMAGES, lambda tensors: float(tensors["x"].max()), memory=memory)
    assert list(answers) == list(range(7))
    assert observer.most <= most
    if most > 1:
        assert observer.most > 1


def test_no_image_gives_nothing() -> None:
    observer: Any = Watched()
    assert list(map_images(observer, [], lambda _: 1)) == []
