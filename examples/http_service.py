"""An HTTP service: POST a picture, get its classes as JSON. Needs `pip install starlette uvicorn`.

    xxdeploy example http_service
    python http_service.py exports/mobilenetv2-int8 --port 8000
    curl --data-binary @cat.jpg http://localhost:8000/predict

The bundle is loaded, and its self-test passes, before the port is opened: a broken bundle ends the program. The answer
to a bad picture is 400 or 413, to a form 415, to a fault of the service 500, and to too many requests at once 503. All
threads share one Runtime; predictions run in one thread for each core, so the event loop stays free.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import os
import sys

import anyio
from anyio.to_thread import run_sync
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from xxdeploy.errors import UsageError, XXDeployError
from xxdeploy.runtime import Runtime, load
from xxdeploy.runtime.image.picture import FORMATS

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000  # decoded, a picture takes up to 4 bytes a pixel
UPLOAD_SECONDS = 30
MAX_REQUESTS = 64  # at once; uvicorn answers others with 503
BODY = "the body of the request is the picture's file itself, as curl --data-binary @cat.jpg sends it"
_log = logging.getLogger("http_service")


def create_app(bundle: str, *, key: str | None = None, min_version: int = 0) -> Starlette:
    """Load a bundle, run its self-test, and return the service. Errors as ``load``; ``UsageError`` ``wrong-task``."""
    # One thread inside each run: requests run in parallel.
    runtime = load(bundle, key=key, min_version=min_version, threads=1, max_pixels=MAX_PIXELS, selftest=True)
    if runtime.manifest.task != "classification":
        raise UsageError(
            f"{runtime.manifest.name} has the task {runtime.manifest.task}, and this example answers with classes",
            hint="give the bundle of a classifier, or change answer() in this example",
            code="wrong-task",
        )
    _ = runtime.manifest.picture  # UsageError: a model of several inputs
    cores = anyio.CapacityLimiter(max(1, os.cpu_count() or 1))

    async def predict(request: Request) -> JSONResponse:
        if request.headers.get("content-type", "").startswith("multipart/"):  # curl -F, a form of a page
            return JSONResponse({"error": "form-data", "hint": f"a form was sent; {BODY}"}, 415)
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                data = await body(request)
        except TimeoutError:
            return JSONResponse({"error": "upload-timeout"}, 408)
        except ClientDisconnect:
            return JSONResponse({"error": "disconnected"}, 400)  # nobody reads it
        if data is None:
            return JSONResponse({"error": "too-large", "max_bytes": MAX_BYTES}, 413)
        return await run_sync(answer, runtime, data, limiter=cores)

    async def health(_: Request) -> JSONResponse:
        about = {"bundle": runtime.manifest.name, "variant": runtime.variant.name, "version": runtime.version}
        return JSONResponse(about)

    return Starlette(routes=[Route("/predict", predict, methods=["POST"]), Route("/health", health)])


async def body(request: Request) -> bytes | None:
    """Return the picture's bytes; None for more than ``MAX_BYTES``, whatever the header says."""
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BYTES:
        return None
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BYTES:
            return None
    return bytes(data)


def answer(runtime: Runtime, data: bytes) -> JSONResponse:
    """Predict. A bad picture is the client's error, everything else the service's."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        return JSONResponse({"error": "image-too-large"}, 413)
    except Exception:  # noqa: BLE001 - Pillow raises nearly anything on damaged headers
        return JSONResponse({"error": "image-format", "hint": f"this is no picture; {BODY}"}, 400)
    try:
        best = runtime.predict(picture, top=5)
    except UsageError as error:
        if error.code.startswith("image-"):
            return JSONResponse({"error": error.code}, 413 if error.code == "image-too-large" else 400)
        return failure(error)
    except Exception as error:  # noqa: BLE001 - the service goes on with the next request
        return failure(error)
    classes = [{"label": prediction.label, "probability": prediction.probability} for prediction in best]
    return JSONResponse({"classes": classes})


def failure(error: Exception) -> JSONResponse:
    """Log a fault of the service, and answer 500 without its details."""
    _log.error("a prediction failed", exc_info=error)
    return JSONResponse({"error": error.code if isinstance(error, XXDeployError) else "internal"}, 500)


def main() -> int:
    """Read the arguments and serve until Ctrl-C; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 serves the network; put a proxy with TLS before it"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--key", help="public key: the bundle must carry its signature")
    parser.add_argument("--min-version", type=int, default=0, help="lowest signed version to accept")
    arguments = parser.parse_args()
    try:
        app = create_app(arguments.bundle, key=arguments.key, min_version=arguments.min_version)
    except XXDeployError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_status
    import uvicorn

    uvicorn.run(app, host=arguments.host, port=arguments.port, limit_concurrency=MAX_REQUESTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
