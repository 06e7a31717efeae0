"""Every error that xxdeploy raises on purpose, and nothing else. Imports nothing.

The tree, with the exit status of the command line::

    XXDeployError                1
    ├── UsageError               2   a request that cannot be done: names, options, folders, images
    ├── MissingDependencyError   3   an extra is not installed, or installed and unusable
    ├── ConversionError          4   Keras -> ONNX, a graph pass, calibration or quantization failed
    ├── EngineError              5   an inference engine refused the model or the device
    ├── VerificationError        6   the result is not the same model: parity, accuracy, golden pairs
    └── BundleError              7   a bundle is damaged, incomplete, hostile or of another version

Each error has a ``code`` in kebab-case (``accuracy-drop``), unique to its cause and listed in
``docs/reference/errors.md``; a message that says what is wrong; and a ``hint`` that says what to do.
"""

from __future__ import annotations


class XXDeployError(Exception):
    """Root of the tree.

    ``message`` says what is wrong, ``hint`` what to do about it, ``code`` names the cause
    (kebab-case; each class has a default).
    """

    code = "error"
    exit_status = 1

    def __init__(self, message: str, *, hint: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        """Return the message, the hint and the code, as a traceback shows them."""
        return f"{self.message}\n hint: {self.hint} [{self.code}]"

    def render(self) -> str:
        """Return the two lines that a person sees."""
        return f"error[{self.code}]: {self.message}\n hint: {self.hint}"


class UsageError(XXDeployError):
    """The request cannot be done."""

    code = "usage"
    exit_status = 2


class MissingDependencyError(XXDeployError):
    """A library that this step needs is not installed, or cannot be used here."""

    code = "missing-dependency"
    exit_status = 3


class ConversionError(XXDeployError):
    """A model or graph could not be built, converted, calibrated or quantized."""

    code = "conversion"
    exit_status = 4


class EngineError(XXDeployError):
    """An inference engine refused the model or the device."""

    code = "engine"
    exit_status = 5


class VerificationError(XXDeployError):
    """A measured result is outside its stated tolerance."""

    code = "verification"
    exit_status = 6


class BundleError(XXDeployError):
    """A bundle cannot be trusted or read."""

    code = "bundle"
    exit_status = 7
