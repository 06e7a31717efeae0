"""The tasks of a bundle: the one table that the manifest, the runtime, the exporter and the measures read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xxdeploy.runtime.bundle.strict_json import wrong_value

SCHEMA_WITH_TASKS = 4
MAX_CLASSES = 1_000_000
MASK_CLASSES = 256
"""A mask is a picture of one byte a pixel."""
BINARY = 2
"""A mask of two classes may have one channel: the probability of the second class."""
PICTURE_CHANNELS = (1, 3)

Measure = Literal["classes", "signal", "pictures", "values", "strings"]


@dataclass(frozen=True, slots=True)
class Task:
    """The answer that a bundle gives for a picture, and how it is checked.

    Attributes
    ----------
    name : str
        Its name in the manifest and of ``--task``.
    schema : int
        The lowest schema of a manifest that may name it.
    has_classes : bool or None
        Whether the last axis of the output holds a score for each class; labels may name them. None: if the manifest
        counts classes, as a picture (no classes) or a mask (classes).
    classes : tuple[int, int]
        The smallest and the largest number of classes, where there are any.
    axes : int or None
        Axes of the output after the batch; None: any number.
    method : str
        The method of ``Runtime`` that gives this answer.
    instead : str
        The same for a hint: the method or methods to call.
    measure : str
        What a file is compared with the float model by: ``classes`` (agreement, KL, top-1), ``signal`` (SQNR, cosine),
        ``pictures`` (PSNR and SSIM, or for masks agreement of pixels and IoU), ``values`` (errors in the unit of the
        output), ``strings`` (whole strings, edit distance).
    """

    name: str
    schema: int
    has_classes: bool | None
    classes: tuple[int, int]
    axes: int | None
    method: str
    instead: str
    measure: Measure

    def allows(self, classes: int) -> bool:
        """Return whether an output of this task may have so many classes; 0 means none."""
        if classes == 0:
            return not self.has_classes
        return self.has_classes is not False and self.classes[0] <= classes <= self.classes[1]

    def fits(self, shape: Sequence[int], classes: int) -> bool:
        """Return whether ``shape``, without the batch axis, can be the output for so many ``classes``."""
        if len(shape) != self.axes if self.axes is not None else not shape:
            return False
        if self.name == "image":
            channels = (classes, 1) if classes == BINARY else (classes,) if classes else PICTURE_CHANNELS
            return shape[-1] in channels
        return not classes or shape[-1] == classes


_NONE, _ANY = (0, 0), (1, MAX_CLASSES)
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("classification", 1, True, _ANY, 1, "probabilities", "predict() or probabilities()", "classes"),
        Task("features", 1, False, _NONE, None, "features", "features()", "signal"),
        Task("image", SCHEMA_WITH_TASKS, None, (BINARY, MASK_CLASSES), 3, "image", "image()", "pictures"),
        Task("values", SCHEMA_WITH_TASKS, False, _NONE, None, "values", "values()", "values"),
        Task("sequence", SCHEMA_WITH_TASKS, True, (2, MAX_CLASSES), 2, "read", "read()", "strings"),
    )
}


def check_task(task: str, classes: int) -> None:
    """Raise ``BundleError`` ``manifest-value`` unless there is such a task, and its output may have the ``classes``."""
    if task not in TASKS:
        raise wrong_value(f"task must be one of {', '.join(TASKS)}, not {task!r}")
    known = TASKS[task]
    if not known.allows(classes):
        numbers = [f"0 for {task}"] if not known.has_classes else []
        numbers += [f"{known.classes[0]} to {known.classes[1]}"] if known.has_classes is not False else []
        raise wrong_value(f"classes must be {' or '.join(numbers)}, not {classes}")


def check_blank(task: str, classes: int, blank: int | None, labels: str | None) -> None:
    """Raise ``BundleError`` ``manifest-value`` unless sequences, and only they, have a blank, and names of classes."""
    if (task == "sequence") != (blank is not None):
        raise wrong_value(f"blank is a class of a sequence, and this is {blank} with the task {task}")
    if blank is not None and not 0 <= blank < classes:
        raise wrong_value(f"blank must be one of the {classes} classes, counted from 0, not {blank}")
    if blank is not None and labels is None:
        raise wrong_value("a sequence needs labels: the text of each class")


def check_output_range(task: str, classes: int, output_range: tuple[float, float] | None) -> None:
    """Raise ``BundleError`` ``manifest-value`` unless pictures, and only they, have a range of pixel values."""
    if (task == "image" and not classes) != (output_range is not None):
        raise wrong_value(f"output_range is for pictures: {output_range} with the task {task} and {classes} classes")
    if output_range is not None:
        low, high = output_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise wrong_value(f"output_range must be two finite numbers, the smaller first, not {low} and {high}")
