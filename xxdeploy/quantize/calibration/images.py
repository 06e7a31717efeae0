"""Run many images through a graph, one by one or several at a time, and return the answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xxdeploy.cores import cores
from xxdeploy.errors import UsageError
from xxdeploy.onnxmodel.run import Observer, Tensors

S = TypeVar("S")
T = TypeVar("T")

Batches = Callable[[], Iterable[NDArray[np.float32]]]
"""Returns preprocessed batches (n, h, w, c) float32, each of any n, from the first image on at every call."""

MEMORY = 1 << 30
"""Bytes of tensors in memory at a time: those of one image of NASNetLarge are two thirds of it."""


def single_images(batches: Batches) -> Iterator[NDArray[np.float32]]:
    """Yield each image as a batch (1, h, w, c).

    Raises ``UsageError`` (``no-calibration-images``: at the end, if there was none).
    """
    seen = False
    for batch in batches():
        for index in range(len(batch)):
            seen = True
            yield batch[index : index + 1]
    if not seen:
        raise UsageError(
            "there is not one calibration image",
            hint="give a folder with a few hundred images of the kind that the model will see",
            code="no-calibration-images",
        )


def map_images(
    observer: Observer,
    images: Iterable[NDArray[np.float32]],
    look: Callable[[Tensors], T],
    *,
    memory: int = MEMORY,
) -> Iterator[T]:
    """Yield ``look(tensors)`` of each image (1, h, w, c), in order.

    Several images run at a time: one per core, as long as their tensors fit into ``memory`` bytes. Make the observer
    with ``threads=1``. Raises ``ConversionError`` (``calibration-run``, and whatever ``look`` raises).
    """

    def work(image: NDArray[np.float32]) -> T:
        return look(observer.run(image))

    images = iter(images)
    first = next(images, None)
    if first is None:
        return
    tensors = observer.run(first)
    size = sum(tensor.nbytes for tensor in tensors.values())
    answer = look(tensors)
    del tensors
    yield answer
    yield from map_ordered(work, images, max(1, min(cores(), memory // max(1, size))))


def map_ordered(work: Callable[[S], T], items: Iterable[S], workers: int) -> Iterator[T]:
    """Yield ``work(item)`` of each item, in order; so many ``workers`` run at a time, and a few answers wait."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers, "observe") as pool:
        try:
            for item in items:
                if len(waiting) > workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
