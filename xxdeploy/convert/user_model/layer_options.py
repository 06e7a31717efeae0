"""Layer options that the installed Keras does not take: dropped if they change nothing, else refused by name.

Each version of Keras adds and removes options (``groups``, ``renorm``, ``synchronized``, ``value_range``,
``quantization_config``). A file of another version holds them with their defaults, and Keras then refuses the layer.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

from xxdeploy.convert.user_model.quarantine.known import AUGMENTATIONS, MODELS, NOISES
from xxdeploy.errors import UsageError

Config = dict[str, Any]

_IDENTITY_IN_INFERENCE = AUGMENTATIONS - {"RandomCrop"} | NOISES
_BASE = frozenset({"name", "trainable", "dtype", "batch_shape", "input_shape", "autocast", "activity_regularizer"})
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "groups": (1,),
    "renorm": (False,),
    "fused": (True, False, None),
    "synchronized": (True, False),  # statistics of several devices in training
    "data_format": ("channels_last", None),
    "sparse": (False,),
    "ragged": (False,),
    "interpolation": ("bilinear",),
    "antialias": (False,),
    "antialiasing": (False,),
    "use_gate": (False,),
    "flash_attention": (None, False),
    "seed": (None,),
}
_OTHER_IN_TRAINING = (
    NOISES | MODELS | {"BatchNormalization", "MultiHeadAttention", "SpectralNormalization", "StochasticDepth"}
)
"""Keras 3 writes ``training=True`` with every call of an augmentation or Resizing layer, whatever the model said."""
_TRAINING_ONLY = ("initializer", "regularizer", "constraint", "momentum", "_lr", "learning_rate")


def without_unknown_options(config: Config, keras: Any) -> tuple[str, ...]:
    """Drop options that the installed Keras does not take, in place; return a note if there were any.

    ``config`` is from ``upgrade_config``, and Keras could not build it. A layer that does nothing in inference becomes
    ``Identity`` where Keras cannot build it even so: Keras 3.15 fails on the options that it writes for RandomShear,
    and has no RandomHeight.

    Raises
    ------
    UsageError
        ``layer-option``: an option with a value that may change the result.
    """
    dropped: set[str] = set()
    for layer in _layers(config):
        kind, options = layer["class_name"], layer["config"]
        accepted = _accepted(getattr(keras.layers, kind, None))
        if (accepted is None and kind not in _IDENTITY_IN_INFERENCE) or _takes(keras, layer):
            continue
        for key in [key for key in options if key not in (accepted or _BASE)]:
            if not _changes_nothing(kind, key, options[key]):
                raise UsageError(
                    f"the layer {options.get('name')!r} ({kind}) has the option "
                    f"{key}={str(options[key])[:60]!r}, which Keras {keras.__version__} does not have",
                    hint="load the model where it was trained, build the layer without the option, and save it again",
                    code="layer-option",
                )
            del options[key]
            dropped.add(f"{kind}.{key}")
        if kind in _IDENTITY_IN_INFERENCE and not _takes(keras, layer):
            layer["class_name"] = layer["registered_name"] = "Identity"
            layer["config"] = {key: options[key] for key in ("name", "trainable", "dtype") if key in options}
            dropped |= {f"{kind}.{key}" for key in options.keys() - layer["config"].keys()}
    shown = sorted(dropped)
    return (f"options without effect in inference were dropped: {', '.join(shown)}",) if shown else ()


def _layers(value: Any) -> Iterator[Config]:
    """Yield every layer of Keras in a configuration."""
    if isinstance(value, dict):
        if value.get("module") == "keras.layers" and isinstance(value.get("config"), dict):
            yield value
        for item in value.values():
            yield from _layers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _layers(item)


def _takes(keras: Any, layer: Config) -> bool:
    """Tell whether Keras builds a layer as it is: some take options that their signature does not name."""
    try:
        keras.saving.deserialize_keras_object(copy.deepcopy(layer))
    except Exception:  # noqa: BLE001 - Keras raises errors of several classes
        return False
    return True


def _accepted(layer: Any) -> frozenset[str] | None:
    """Return the options that a class takes; None if it takes any, or is no class."""
    if not isinstance(layer, type):
        return None
    parameters = inspect.signature(layer).parameters.values()
    names = frozenset(each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD)
    return names | _BASE | {"config"}


def _changes_nothing(kind: str, option: str, value: Any) -> bool:
    if kind in _IDENTITY_IN_INFERENCE or value is None or option.endswith(_TRAINING_ONLY):
        return True
    return option in _DEFAULTS and value in _DEFAULTS[option]


def refuse_training_mode(config: Config) -> None:
    """Refuse layers that the model itself calls with ``training=True``.

    They compute with the statistics of the batch, or drop values at random, so no fixed graph equals them.

    Raises
    ------
    UsageError
        ``training-mode``.
    """
    for layer, call in _calls(config):
        name, kind = _name(layer), layer.get("class_name")
        if call.get("training") is True and kind in _OTHER_IN_TRAINING:
            raise UsageError(
                f"the model calls its layer {name!r} ({kind}) with training=True: it {_effect(kind)} in inference, too",
                hint="if that is not meant, build the model again without training=True, with the same weights; "
                "--inference-mode exports it as if training=False stood there",
                code="training-mode",
            )


def refuse_state(config: Config) -> None:
    """Refuse recurrent layers that keep their state between calls. ``UsageError`` ``unsupported-layer``."""
    for layer in _layers(config):
        if layer["config"].get("stateful"):
            raise keeps_state(_name(layer), str(layer.get("class_name")))


def keeps_state(name: str, kind: str) -> UsageError:
    """Return the error for a recurrent layer with ``stateful=True``; ``kind`` is its class."""
    return unsupported(name, kind, "keeps its state from one call to the next (stateful=True)")


def unsupported(name: str, kind: str, does: str) -> UsageError:
    """Return the error for a layer that remembers, or masks: no function of one picture does that."""
    return UsageError(
        f"the layer {name!r} ({kind}) {does}, and an exported model answers each picture by itself",
        hint="build the model again without that, give it the same weights with set_weights, and save it",
        code="unsupported-layer",
    )


def in_inference_mode(config: Config) -> tuple[str, ...]:
    """Take ``training=True`` out of every call, in place; return a note that names the layers."""
    names = {
        _name(layer)
        for layer, call in _calls(config)
        if layer.get("class_name") in _OTHER_IN_TRAINING and call.pop("training", None) is True
    }
    if not names:
        return ()
    return (f"--inference-mode: training=True was taken out of the calls of {', '.join(sorted(names))}",)


def _effect(kind: Any) -> str:
    if kind == "BatchNormalization":
        return "normalizes each batch by its own statistics"
    return "computes as in training" if kind in MODELS else "drops or draws values at random"


def _name(layer: Config) -> str:
    return str(layer.get("name") or layer["config"].get("name"))


def _calls(value: Any) -> Iterator[tuple[Config, Config]]:
    """Yield each layer and the keyword arguments of each of its calls."""
    if isinstance(value, dict):
        nodes = value.get("inbound_nodes")
        if isinstance(nodes, list) and isinstance(value.get("config"), dict):
            for node in nodes:
                if isinstance(node, dict) and isinstance(node.get("kwargs"), dict):
                    yield value, node["kwargs"]
        for item in value.values():
            yield from _calls(item)
    elif isinstance(value, list):
        for item in value:
            yield from _calls(item)
