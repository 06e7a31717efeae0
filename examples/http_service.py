"""A small HTTP service: POST an image, get its classes as JSON. Needs `pip install starlette uvicorn`.

    XXDEPLOY_BUNDLE=exports/mobilenetv2-int8 uvicorn examples.http_service:app
    curl --data-binary @cat.jpg http://localhost:8000/predict

All threads share one Runtime. Predictions run in Starlette's thread pool, so the event loop stays free.
"""

from __future__ import annotations

import io
import os
from functools import cache

from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from xxdeploy.errors import UsageError
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.image.picture import FORMATS

MAX_BYTES = 10_000_000


@cache
def runtime() -> Runtime:
    """Load the bundle once, with one thread inside each run: requests run in parallel."""
    return load(os.environ["XXDEPLOY_BUNDLE"], key=os.environ.get("XXDEPLOY_KEY"), threads=1)


def answer(data: bytes) -> JSONResponse:
    """Predict; a bad picture is the client's error."""
    try:
        best = runtime().predict(Image.open(io.BytesIO(data), formats=FORMATS), top=5)
    except UnidentifiedImageError:
        return JSONResponse({"error": "image-format"}, 400)
    except UsageError as error:
        return JSONResponse({"error": error.code}, 400)
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything on damaged headers
        return JSONResponse({"error": "image-damaged"}, 400)
    return JSONResponse(
        {"classes": [{"label": prediction.label, "probability": prediction.probability} for prediction in best]}
    )


async def predict(request: Request) -> JSONResponse:
    """Read at most ``MAX_BYTES``, whatever the header says, and predict in a thread."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            return JSONResponse({"error": "too-large"}, 413)
    return await run_in_threadpool(answer, bytes(data))


async def health(_: Request) -> JSONResponse:
    """Name the bundle."""
    bundle = runtime()
    return JSONResponse({"bundle": bundle.manifest.name, "variant": bundle.variant.name, "version": bundle.version})


app = Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])
