"""What an engine reads of pictures: their bytes, or scaled images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xxdeploy.runtime.engines.session import Session
from xxdeploy.runtime.image.preprocess import Preprocess


def batch_for(session: Session, preprocess: Preprocess, pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """Return what ``session`` reads of (n, h, w, c) uint8 pictures: these, or scaled ones.

    Engines and fakes without an attribute ``takes_pixels`` read scaled ones.
    """
    return pictures if getattr(session, "takes_pixels", False) else preprocess.normalize(pictures)
