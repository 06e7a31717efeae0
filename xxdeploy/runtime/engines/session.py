"""The seam between the runtime and an inference engine, and the checks that all engines share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from xxdeploy.errors import EngineError, UsageError
from xxdeploy.runtime.engines.forks import other_process, watch
from xxdeploy.runtime.engines.metadata import TOP_K, TopK
from xxdeploy.runtime.image.grid import METADATA as PIXELS
from xxdeploy.runtime.image.grid import grid_from
from xxdeploy.runtime.image.resample import Pixels, rounded
from xxdeploy.runtime.inputs import InputForm, unpack

MAX_THREADS = 1024


class SessionLike(Protocol):
    """The least that ``load(session=...)`` takes: two members of :class:`Session`."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]: ...  # noqa: D102


class Session:
    """A model in an inference engine.

    A fake for tests overrides ``name`` and ``run``, and leaves the rest as it is here; ``load(session=...)`` also takes
    an object that is no ``Session`` and has these two.

    Attributes
    ----------
    name
        What tables and errors call the session.
    input_name, input_names, output_name, output_names
        Names in the graph; ``input_name`` and ``output_name`` are the first of the others.
    takes_pixels
        True if the model reads uint8 pictures (n, height, width, channels) as they are.
    top_k
        How many classes the model itself returns; the others get equal shares of the rest of 1. None: all.
    model_again
        Returns the model's bytes for an engine that must start again, in a forked process. None: it cannot.
    """

    name: str = "session"
    input_name: str = ""
    input_names: tuple[str, ...] = ()
    output_name: str = ""
    output_names: tuple[str, ...] = ()
    takes_pixels: bool = False
    top_k: int | None = None
    model_again: Callable[[], bytes] | None = None

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Map a preprocessed batch (n, height, width, channels) float32 to the first output (n, ...) float32.

        The batch of a model that reads no picture, or several inputs, is as ``runtime.inputs`` makes it. With
        ``takes_pixels``, uint8 pictures are accepted; a scaled float32 batch is turned back into them.

        Raises
        ------
        EngineError
            ``engine-run``: shape or dtype do not fit, or the engine failed.
        UsageError
            ``closed``: after :meth:`close`.
        """
        raise NotImplementedError

    def run_all(self, batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Map a batch to every output by its name, the first one first. Errors as :meth:`run`."""
        return {self.output_name: self.run(batch)}

    def close(self) -> None:
        """Free the engine's memory. Nothing can be run afterwards."""


class TensorInfo(NamedTuple):  # a dataclass takes 1 ms more of every start
    """An input or output of an engine. ``dtype`` is NumPy's name, or else the engine's; a side of None is free."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class EngineSession(Session):
    """The checks that all engines share: of the model's signature when it is loaded, and each batch before it is run.

    A subclass calls ``__init__`` once its engine has loaded the model, and implements ``_infer`` and ``_release``, and
    ``_leave`` and ``_restart`` for forked processes. There, the engine starts again with the model that
    ``model_again`` returns; without it, a run is ``UsageError`` ``other-process``.

    ``inputs`` and ``outputs`` are as the engine reports them: one input, float32, or uint8 with a pixel grid in the
    metadata, or several of float32 whose sides are all known but the first; float32 outputs, or values (n, k) float32
    and classes (n, k) int64 of a model with top-k metadata
    (else ``EngineError`` ``engine-signature``). ``note`` returns the model's metadata under a key, or None.
    """

    remedy = "let the bundle's Preprocess make the batch"
    """Hint of ``engine-run``."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[TensorInfo],
        outputs: Sequence[TensorInfo],
        note: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        read, written = ([tensor.dtype for tensor in tensors] for tensors in (inputs, outputs))
        self._grid = grid_from(note(PIXELS)) if read == ["uint8"] else None
        widths = outputs[0].shape[1:] if written == ["float32", "int64"] else ()
        listed = widths[0] if len(widths) == 1 else None
        self._best = None if listed is None else TopK.parse(note(TOP_K))
        wanted = ["float32"] * len(outputs)
        if self._best is not None:
            wanted[-1] = "int64"
        self._shapes = [tensor.shape[1:] for tensor in inputs]
        known = len(inputs) == 1 or not any(None in shape for shape in self._shapes)
        right = read == (["float32"] * len(inputs) if self._grid is None else ["uint8"])
        if not (inputs and outputs and known and right and written == wanted):
            raise wrong_signature(name, inputs, outputs)
        self.name = name
        self.tensors = tuple(inputs), tuple(outputs)
        self.input_names = tuple(tensor.name for tensor in inputs)
        self.input_name = inputs[0].name
        self.output_name = outputs[0].name
        self.output_names = tuple(tensor.name for tensor in outputs[: 1 if self._best else None])
        self.takes_pixels = self._grid is not None
        self.top_k = listed if self._best else None
        self._dtype = np.dtype(read[0])
        # A row of several inputs holds all their numbers.
        self._image = self._shapes[0] if len(inputs) == 1 else (sum(map(_numbers, self._shapes)),)
        self._closed = self._forked = False
        watch(self)

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Run a batch, see :meth:`Session.run`."""
        return self._checked(batch, 1)[0]

    def run_all(self, batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run a batch, see :meth:`Session.run_all`."""
        return dict(zip(self.output_names, self._checked(batch, len(self.output_names)), strict=True))

    def close(self) -> None:
        """Free the engine's memory; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._release()

    def abandon(self) -> list[object]:
        """Leave the engine of the process that this one was forked from; the next run starts another."""
        if self._closed:
            return []
        self._forked, self._restarting = True, threading.Lock()
        return self._leave()

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, by ``UsageError`` ``other-process``."""
        raise other_process(self.name, "cannot be sent to another process")

    def _leave(self) -> list[object]:
        """Return the engine's objects, and hold none of them any more."""
        return []

    def _restart(self, model: bytes) -> None:
        """Start the engine again after ``_leave``."""
        raise NotImplementedError

    def _infer(self, feeds: Sequence[NDArray[Any]], count: int) -> list[NDArray[Any]]:
        """Return the first ``count`` outputs, as arrays of their own. Whatever it raises becomes ``engine-run``.

        ``feeds`` has (n, ...) of each input.
        """
        raise NotImplementedError

    def _release(self) -> None:
        """Let the engine go; ``_infer`` must then raise."""
        raise NotImplementedError

    def _checked(self, batch: NDArray[Any], count: int) -> list[NDArray[np.float32]]:
        if self._forked:
            self._revive()
        if self._grid is not None:
            batch = self._grid.pixels(batch)
        if not isinstance(batch, np.ndarray) or batch.dtype != self._dtype or not self._fits(batch.shape):
            sides = ", ".join("any" if side is None else str(side) for side in self._image)
            raise self._failed(batch, f"it takes (n, {sides}) {self._dtype}")
        feeds = (batch,) if len(self._shapes) == 1 else unpack(batch, self._shapes)  # type: ignore[arg-type]
        try:
            if self._best is None:
                return self._infer(feeds, count)
            values, classes = self._infer(feeds, 2)
            return [self._best.spread(values, classes)]
        except EngineError:
            raise
        except Exception as error:  # the classes of some engines derive from Exception only
            if self._closed:
                raise closed(self.name) from None
            raise self._failed(batch, reason(error)) from error

    def _revive(self) -> None:
        with self._restarting:
            if not self._forked:
                return
            if self.model_again is None:
                raise other_process(
                    self.name, "was loaded before this process was forked, and cannot start again in it"
                )
            self._restart(self.model_again())
            self._forked = False

    def _fits(self, shape: tuple[int, ...]) -> bool:
        if shape[1:] != self._image:
            sides = zip(self._image, shape[1:], strict=False)
            return len(shape) == len(self._image) + 1 and all(want in (None, have) for want, have in sides)
        return shape[:1] != (0,)

    def _failed(self, batch: object, why: str) -> EngineError:
        shape, dtype = getattr(batch, "shape", None), getattr(batch, "dtype", "")
        return EngineError(f"{self.name} failed on a batch {shape} {dtype}: {why}", hint=self.remedy, code="engine-run")


class ClosedSession(Session):
    """Takes the place of a session that was closed: every run raises :func:`closed`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:  # noqa: ARG002
        """Raise ``UsageError`` ``closed``."""
        raise closed(self.name)


def _numbers(shape: Sequence[int | None]) -> int:
    return math.prod(side or 0 for side in shape)


def session_from(engine: SessionLike) -> Session:
    """Return ``engine``, or a ``Session`` with its members if it is an object of another class (a test's fake)."""
    if isinstance(engine, Session):
        return engine
    session = Session()
    for member in (
        "name",
        "input_name",
        "input_names",
        "output_name",
        "output_names",
        "takes_pixels",
        "top_k",
        "run",
        "run_all",
    ):
        if hasattr(engine, member):
            setattr(session, member, getattr(engine, member))
    return session


def batch_for(session: Session, preprocess: InputForm, pictures: Pixels) -> NDArray[Any]:
    """Return the batch that ``session`` reads for decoded samples: pictures as uint8, or normalized values."""
    return rounded(pictures) if session.takes_pixels else preprocess.normalize(pictures)


def check_threads(threads: int | None) -> None:
    """Raise ``UsageError`` ``threads-invalid`` for a number that no engine should be asked for."""
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(
            f"threads must be 1 to {MAX_THREADS}, not {threads}",
            hint="leave it out to use every core that this process may use",
            code="threads-invalid",
        )


def reason(error: Exception) -> str:
    """Return the first line of an engine's message that is not a place in its source, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception from ")), type(error).__name__)


def unloadable(engine: str, name: str, why: str, hint: str) -> EngineError:
    """Return the error ``engine-load``: ``engine`` (with its version) cannot load the model of ``name``."""
    return EngineError(f"{engine} cannot load the model of {name}: {why}", hint=hint, code="engine-load")


def wrong_signature(name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> EngineError:
    """Return the error ``engine-signature``."""
    told = [", ".join(f"{tensor.name} {tensor.dtype}" for tensor in tensors) for tensors in (inputs, outputs)]
    return EngineError(
        f"the model of {name} has the inputs [{told[0]}] and the outputs [{told[1]}]; "
        "it must have float32 inputs of known sizes (or one of pixels) and float32 outputs",
        hint="export it with xxdeploy",
        code="engine-signature",
    )


def closed(name: str) -> UsageError:
    """Return the error of a session, or a runtime, that is used after ``close()``."""
    return UsageError(f"{name} is closed", hint="load the bundle again", code="closed")
