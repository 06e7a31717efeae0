"""Activations that Keras 3 computes otherwise than Keras 2 did under the same name."""

from __future__ import annotations

from typing import Any

OLD_ACTIVATIONS = {"hard_sigmoid": "hard_sigmoid_of_keras2"}
"""What a name in a file of Keras 2 stands for."""


def hard_sigmoid_of_keras2(x: Any) -> Any:
    """``clip(0.2 x + 0.5, 0, 1)``; since Keras 3 it is ``relu6(x + 3) / 6``."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def old_activation(name: str) -> dict[str, Any]:
    """Return the reference to ``name`` as Keras 3 writes a function that is not its own."""
    ours = OLD_ACTIVATIONS[name]
    return {"module": __name__, "class_name": "function", "config": ours, "registered_name": ours}
