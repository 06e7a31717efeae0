# syntax=docker/dockerfile:1
# Three images out of one file: docker build --target export|edge-cpu|edge-gpu .
# The install lines are what scripts/check_docker_stages.py runs in fresh virtual environments.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS source
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY calibration ./calibration
COPY examples ./examples
COPY xxdeploy ./xxdeploy

# The workstation: TensorFlow, tf2onnx, onnxruntime-gpu, TensorRT for RTX, which builds engines without a GPU.
# TensorRT itself comes from NVIDIA's own index and builds on a GPU only: --build-arg EXTRAS=export,tensorrt,tensorrt-rtx
FROM source AS export
ARG EXTRAS=export,tensorrt-rtx
RUN pip install --no-cache-dir ".[${EXTRAS}]"
WORKDIR /work
ENTRYPOINT ["xxdeploy"]

# A small device: numpy, pillow, onnxruntime, and the xxdeploy command.
FROM source AS edge-cpu-install
RUN pip install --no-cache-dir --no-compile --prefix /device ".[edge]"

FROM python:${PYTHON}-slim AS edge-cpu
COPY --from=edge-cpu-install /device /usr/local
RUN useradd --create-home device
USER device
WORKDIR /home/device

# A device with an NVIDIA GPU: docker run --gpus all. The driver comes from the host; engines are built here.
FROM source AS edge-gpu
RUN pip install --no-cache-dir ".[gpu,tensorrt-rtx]"
RUN useradd --create-home device
USER device
WORKDIR /home/device
ENTRYPOINT ["xxdeploy"]
