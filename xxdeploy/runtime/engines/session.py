"""The narrow seam between the runtime and an inference engine."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class Session(Protocol):
    """What ``Runtime`` needs from an engine. A test passes a ten-line fake through ``load(session=...)``."""

    @property
    def name(self) -> str:
        """What the engine is called in tables and errors."""
        ...

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Map (n, height, width, channels) float32 to (n, classes) or features float32.

        An engine with a true attribute ``takes_pixels`` is given uint8 pictures, too.
        """
        ...


@runtime_checkable
class ManySession(Session, Protocol):
    """What ``Runtime`` needs, besides, for a bundle with several outputs."""

    def run_all(self, batch: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Map (n, height, width, channels) float32 to every output by its name."""
        ...
