"""What a report shows beside the manifest: things that an export saw once, and that are not the same the next time."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Timing:
    """A stage: its file's size (None: it has none), and milliseconds of single images, in turn with the others'."""

    runner: str
    size_bytes: int | None
    milliseconds: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LadderRung:
    """One rung of the ladder; shares 0..1, None where it was not measured."""

    name: str
    taken: bool
    agreement: float | None
    drop: float | None
    kl_nats: float | None
    sqnr_db: float | None
    of_float: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Changed:
    """An evaluation image that Keras and the exported file give different classes.

    ``truth`` is its label; ``picture`` a small JPEG as a data URI, empty without pictures.
    """

    name: str
    before: str
    after: str
    truth: str
    picture: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """``changed`` may be the first of many: ``changes`` is how many there are, of ``candidate`` beside Keras.

    ``steps`` are names and seconds; ``confused`` holds (before, after, how often), the most frequent first; ``sheet``
    calibration pictures as data URIs; ``sentences`` and ``processors`` what the export said; ``command`` what would
    make it again.
    """

    timings: tuple[Timing, ...] = ()
    steps: tuple[tuple[str, float], ...] = ()
    rungs: tuple[LadderRung, ...] = ()
    candidate: str = ""
    changes: int = 0
    changed: tuple[Changed, ...] = ()
    confused: tuple[tuple[str, str, int], ...] = ()
    sheet: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    command: str = ""
