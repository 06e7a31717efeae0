"""Write model files as Keras 1 and 2 did, with their right answers: ``python keras2_writer.py FOLDER``.

Runs in a process of its own, since it imports tf_keras, which is Keras 2 on today's TensorFlow. It writes
``NAME.SUFFIX`` and ``NAME.npz`` with the images ``x`` and Keras 2's answers ``y``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import h5py
import lambda_sources
import numpy as np

SEED = 3


def layers() -> Any:
    import tf_keras

    return tf_keras.layers


def sequential() -> Any:
    """Return a classifier of 12 x 12 images with three convolutions and two dense layers."""
    import tf_keras

    kinds, rng = layers(), np.random.default_rng(SEED)
    model = tf_keras.Sequential(
        [
            kinds.Conv2D(4, 3, input_shape=(12, 12, 3), activation="relu"),
            kinds.BatchNormalization(),
            kinds.Conv2D(4, 3),
            kinds.MaxPooling2D(),
            kinds.Conv2D(5, 1),
            kinds.Flatten(),
            kinds.Dropout(0.2),
            kinds.Dense(6, activation="tanh"),
            kinds.Dense(3, activation="softmax"),
        ]
    )
    model.set_weights(
        [rng.uniform(0.3, 2, w.shape) if "variance" in v.name else rng.normal(0, 0.3, w.shape) for v, w in pairs(model)]
    )
    return model


def pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    yield from zip(model.weights, model.get_weights(), strict=True)


def answers(model: Any, path: Path, size: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).uniform(-1, 1, (3, *size)).astype(np.float32)
    np.savez(path.with_suffix(".npz"), x=x, y=model.predict(x, verbose=0))


def edit(path: Path, version: str, change: Callable[[Any], Any]) -> None:
    """Change the configuration in an HDF5 file, and the version that wrote it."""
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = json.dumps(change(plain(json.loads(file.attrs["model_config"]))))
        file.attrs["keras_version"] = version


def plain(value: Any) -> Any:
    """Leave out keys that versions before 2.13 did not write."""
    if isinstance(value, dict):
        return {
            key: plain(item) for key, item in value.items() if key not in ("module", "registered_name", "build_config")
        }
    return [plain(item) for item in value] if isinstance(value, list) else value


def without_input_layer(config: Any) -> Any:
    config["config"]["layers"] = config["config"]["layers"][1:]
    return config


def as_list(config: Any) -> Any:
    return {"class_name": "Sequential", "config": config["config"]["layers"][1:]}


def in_keras_1(_: Any) -> Any:
    """Return the same network in the words of Keras 1.2."""
    none = dict.fromkeys(("W_regularizer", "b_regularizer", "activity_regularizer", "W_constraint", "b_constraint"))
    number = iter(range(1, 10))

    def conv(filters: int, kernel: int, activation: str, **first: Any) -> Any:
        own = {"nb_filter": filters, "nb_row": kernel, "nb_col": kernel, "border_mode": "valid", "subsample": [1, 1]}
        rest = {
            "dim_ordering": "tf",
            "activation": activation,
            "init": "glorot_uniform",
            "bias": True,
            "trainable": True,
        }
        config = {"name": f"convolution2d_{next(number)}", **own, **rest, **none, **first}
        return {"class_name": "Convolution2D", "config": config}

    def dense(units: int, activation: str) -> Any:
        own = {"output_dim": units, "input_dim": None, "init": "glorot_uniform", "activation": activation, "bias": True}
        return {"class_name": "Dense", "config": {"name": f"dense_{next(number)}", "trainable": True, **own, **none}}

    norm = {
        "mode": 0,
        "axis": -1,
        "epsilon": 0.001,
        "momentum": 0.99,
        "gamma_regularizer": None,
        "beta_regularizer": None,
    }
    pool = {"pool_size": [2, 2], "strides": [2, 2], "border_mode": "valid", "dim_ordering": "tf"}
    return {
        "class_name": "Sequential",
        "config": [
            conv(4, 3, "relu", batch_input_shape=[None, 12, 12, 3], input_dtype="float32"),
            {"class_name": "BatchNormalization", "config": {"name": "batchnormalization_1", "trainable": True, **norm}},
            conv(4, 3, "linear"),
            {"class_name": "MaxPooling2D", "config": {"name": "maxpooling2d_1", "trainable": True, **pool}},
            conv(5, 1, "linear"),
            {"class_name": "Flatten", "config": {"name": "flatten_1", "trainable": True}},
            {"class_name": "Dropout", "config": {"name": "dropout_1", "trainable": True, "p": 0.2}},
            dense(6, "tanh"),
            dense(3, "linear"),
            {
                "class_name": "Activation",
                "config": {"name": "activation_1", "trainable": True, "activation": "softmax"},
            },
        ],
    }


def renamed_archive(source: Path, target: Path, *, windows: bool) -> None:
    """Copy a ``.keras`` archive, with the names of weights as tf.keras 2.12 wrote them."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "model.weights.h5":
                content = renamed(content, target.parent, windows=windows)
            copy.writestr(name, content)


def renamed(content: bytes, folder: Path, *, windows: bool) -> bytes:
    before, after = folder / "before.h5", folder / "after.h5"
    before.write_bytes(content)
    with h5py.File(before) as file, h5py.File(after, "w") as copy:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in names:
            parts = name.split("/")
            base, _, number = parts[1].rpartition("_")
            parts[0] = "_layer_checkpoint_dependencies"
            parts[1] = f"{base}_{2 * int(number)}" if number.isdigit() else parts[1]
            copy["\\".join(parts[:-2]) + "/vars/" + parts[-1] if windows else "/".join(parts)] = file[name][()]
    made = after.read_bytes()
    before.unlink()
    after.unlink()
    return made


def write_sequential(folder: Path) -> None:
    model = sequential()
    answers(model, folder / "sequential", (12, 12, 3))
    forms: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "tf-2.1": ("2.2.4-tf", without_input_layer),
        "keras-2.2.2": ("2.2.2", as_list),
        "keras-1.2": ("1.2.2", in_keras_1),
    }
    for name, (version, change) in forms.items():
        model.save(folder / f"{name}.h5")
        edit(folder / f"{name}.h5", version, change)
    shutil.copy(folder / "tf-2.1.h5", folder / "hdf5.keras")
    shutil.copy(folder / "tf-2.1.h5", folder / "hdf5.model")
    model.save(folder / "tf-2.15.keras")
    renamed_archive(folder / "tf-2.15.keras", folder / "tf-2.12.keras", windows=False)
    renamed_archive(folder / "tf-2.15.keras", folder / "tf-2.12-windows.keras", windows=True)
    (folder / "architecture.json").write_text(model.to_json(), encoding="utf-8")
    model.save_weights(folder / "architecture-weights.h5")


def operations() -> dict[str, Callable[[Any], Any]]:
    """Return calls of TensorFlow that image models of Keras 2 contain, as functions of a tensor (n, 8, 8, 3)."""
    import tensorflow as tf

    pads = [[0, 0], [1, 1], [2, 2], [0, 0]]
    return {
        "depth_to_space": lambda x: tf.nn.depth_to_space(tf.concat([x, x, x, x], -1), 2),
        "space_to_depth": lambda x: tf.nn.space_to_depth(x, 2),
        "resize": lambda x: tf.image.resize(x, (5, 7)),
        "resize_nearest": lambda x: tf.image.resize(x, [5, 7], method="nearest"),
        "resize_bicubic": lambda x: tf.image.resize(x, [5, 7], method="bicubic", antialias=True),
        "l2_normalize": lambda x: tf.math.l2_normalize(x, axis=-1),
        "relu6": tf.nn.relu6,
        "leaky_relu": lambda x: tf.nn.leaky_relu(x, 0.3),
        "leaky_relu_default": tf.nn.leaky_relu,
        "gelu": tf.nn.gelu,
        "selu": tf.nn.selu,
        "softsign": tf.nn.softsign,
        "pad": lambda x: tf.pad(x, pads),
        "pad_reflect": lambda x: tf.pad(x, pads, mode="REFLECT"),
        "reverse": lambda x: tf.reverse(x, [-1]),
        "flip": tf.image.flip_left_right,
        "gray": tf.image.rgb_to_grayscale,
        "log": lambda x: tf.math.log(x + 9.0),
        "log1p": lambda x: tf.math.log1p(tf.abs(x)),
        "rsqrt": lambda x: tf.math.rsqrt(x * x + 1.0),
        "min": lambda x: tf.reduce_min(x, axis=[1, 2], keepdims=True) + x,
        "variance": lambda x: tf.math.reduce_variance(x, axis=-1, keepdims=True) + x,
        "std": lambda x: tf.math.reduce_std(x, [1, 2], keepdims=True) + x,
        "max_pool": lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"),
        "avg_pool": lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"),
        "tile": lambda x: tf.tile(x, [1, 1, 2, 1]),
        "repeat": lambda x: tf.repeat(x, 2, axis=1),
        "floor": lambda x: tf.floor(x * 3) + x,
        "round": lambda x: tf.round(x * 3) + x,
        "where": lambda x: tf.where(x > 0.0, x, x * 0.1),
        "split": lambda x: tf.split(x, 3, axis=-1)[1],
        "unstack": lambda x: tf.unstack(x, axis=-1)[0],
        "ones_like": lambda x: x + tf.ones_like(x),
        "identity": tf.identity,
        "matmul": lambda x: tf.matmul(tf.reshape(x, [-1, 8, 24]), tf.reshape(x, [-1, 8, 24]), transpose_b=True),
        "add_n": lambda x: tf.add_n([x, x]),
    }


def write_operations(folder: Path) -> None:
    import tf_keras

    for name, function in operations().items():
        image = layers().Input((8, 8, 3))
        model = tf_keras.Model(image, function(layers().Conv2D(3, 1, name="mix")(image)))
        answers(model, folder / f"op-{name}", (8, 8, 3))
        model.save(folder / f"op-{name}.h5")


def write_lambdas(folder: Path) -> None:
    """Write a model with one output for each function of ``lambda_sources``, as ``.h5`` and as ``.keras``."""
    import tensorflow as tf
    import tf_keras

    image = layers().Input((8, 8, 4))
    one = layers().Conv2D(4, 1, name="one")(image)
    two = layers().Conv2D(4, 1, name="two")(image)
    outputs = []
    for texts, given in ((lambda_sources.SOURCES, one), (lambda_sources.PAIRS, [one, two])):
        for text in texts.values():
            called = lambda_sources.function(text, tf, tf_keras.backend)
            outputs.append(layers().Flatten()(layers().Lambda(called)(given)))
    model = tf_keras.Model(image, layers().Concatenate()(outputs))
    answers(model, folder / "lambdas", (8, 8, 4))
    model.save(folder / "lambdas.h5")
    model.save(folder / "lambdas.keras")


def write_recurrent(folder: Path) -> None:
    """Write a model with every recurrent layer as ``.h5`` and ``.keras``, and one as before ``reset_after``."""
    import tf_keras

    kinds, image = layers(), layers().Input((4, 6, 1))
    x = kinds.Reshape((6, 16))(kinds.Permute((2, 1, 3))(kinds.Conv2D(4, 3, padding="same")(image)))
    x = kinds.TimeDistributed(kinds.Dense(5))(x)
    x = kinds.Bidirectional(kinds.LSTM(4, recurrent_activation="hard_sigmoid", return_sequences=True))(x)
    x = kinds.Bidirectional(kinds.GRU(4, return_sequences=True), merge_mode="sum")(x)
    back = kinds.LSTM(3, return_sequences=True, go_backwards=True)
    x = kinds.Bidirectional(kinds.SimpleRNN(3, return_sequences=True), backward_layer=back)(x)
    x = kinds.RNN([kinds.LSTMCell(4), kinds.GRUCell(5)], return_sequences=True)(x)
    x = kinds.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True, go_backwards=True)(
        x
    )
    model = tf_keras.Model(image, kinds.Dense(6, activation="softmax")(x))
    rng = np.random.default_rng(SEED)
    model.set_weights([rng.normal(0, 0.5, array.shape) for array in model.get_weights()])
    answers(model, folder / "recurrent", (4, 6, 1))
    model.save(folder / "recurrent.h5")
    model.save(folder / "recurrent.keras")
    old = tf_keras.Model(image, kinds.GRU(3, reset_after=False)(kinds.Reshape((6, 4))(image)))
    answers(old, folder / "old-gru", (4, 6, 1))
    old.save(folder / "old-gru.h5")
    edit(folder / "old-gru.h5", "2.0.8", lambda config: without(config, "reset_after"))


def write_cudnn(folder: Path) -> None:
    """Write a model with layers of cuDNN; Keras 2 answers with the same weights in ``LSTM`` and ``GRU``."""
    import tf_keras
    from tf_keras.src.layers.rnn.cudnn_gru import CuDNNGRU
    from tf_keras.src.layers.rnn.cudnn_lstm import CuDNNLSTM

    kinds = layers()

    def model(lstm: Any, gru: Any) -> Any:
        image = kinds.Input((4, 6, 1))
        x = kinds.Reshape((6, 4))(kinds.Permute((2, 1, 3))(image))
        x = kinds.Bidirectional(lstm(4, return_sequences=True, name="one"), name="both")(x)
        x = kinds.Add()([gru(5, return_sequences=True, go_backwards=back, name=f"gru{back:d}")(x) for back in (0, 1)])
        inner = tf_keras.Sequential([kinds.Input((6, 5)), lstm(3, return_sequences=True, name="two")], name="inner")
        return tf_keras.Model(image, gru(4, name="last")(inner(x)))

    given, judge = model(CuDNNLSTM, CuDNNGRU), model(kinds.LSTM, kinds.GRU)
    rng = np.random.default_rng(SEED)
    given.set_weights([rng.normal(0, 0.5, array.shape) for array in given.get_weights()])
    given.save(folder / "cudnn.h5")
    given.save(folder / "cudnn.keras")
    given.save_weights(folder / "cudnn-weights.h5")
    judge.load_weights(folder / "cudnn-weights.h5")
    answers(judge, folder / "cudnn", (4, 6, 1))
    (folder / "lstm.json").write_text(judge.to_json(), encoding="utf-8")


def write_recurrent_of_keras_1(folder: Path) -> None:
    """Write an LSTM and a GRU with one array for each gate, which Keras 2 itself joins to those of the judge."""
    import tf_keras
    from tf_keras.src.saving.legacy.hdf5_format import preprocess_weights_for_loading

    kinds, hard, image = layers(), {"recurrent_activation": "hard_sigmoid"}, layers().Input((6, 4))
    x = kinds.Bidirectional(kinds.LSTM(3, return_sequences=True, **hard))(image)
    judge = tf_keras.Model(image, kinds.GRU(5, reset_after=False, go_backwards=True, **hard)(x))
    shapes, rng = {"W": (0, 1), "U": (1, 1), "b": (1,)}, np.random.default_rng(SEED)
    common: dict[str, Any] = {
        "init": "glorot_uniform",
        "inner_init": "orthogonal",
        "activation": "tanh",
        "consume_less": "cpu",
    }
    common |= {"inner_activation": "hard_sigmoid", "dropout_W": 0.0, "dropout_U": 0.1, "unroll": False}
    common |= {"W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 1e-4}, "U_regularizer": None}

    def gates(layer: str, names: str, inputs: int, units: int) -> dict[str, Any]:
        size = (inputs, units)
        return {
            f"{layer}_{kind}_{gate}:0": rng.normal(0, 0.5, [size[axis] for axis in axes]).astype("float32")
            for gate in names
            for kind, axes in shapes.items()
        }

    lstms = gates("forward_lstm_1", "icfo", 4, 3) | gates("backward_lstm_1", "icfo", 4, 3)
    arrays = {"bidirectional_1": lstms, "gru_1": gates("gru_1", "zrh", 6, 5)}
    joined = [
        preprocess_weights_for_loading(layer, list(stored.values()), "1", "tensorflow")
        for layer, stored in zip(judge.layers[1:], arrays.values(), strict=True)
    ]
    judge.set_weights([array for stored in joined for array in stored])
    answers(judge, folder / "keras-1-recurrent", (6, 4))
    lstm = {**common, "name": "lstm_1", "output_dim": 3, "return_sequences": True, "forget_bias_init": "one"}
    wrapped = {"class_name": "LSTM", "config": {**lstm, "go_backwards": False, "stateful": False, "input_dim": 4}}
    both = {"name": "bidirectional_1", "layer": wrapped, "merge_mode": "concat", "batch_input_shape": [None, 6, 4]}
    gru = {**common, "name": "gru_1", "output_dim": 5, "go_backwards": True, "return_sequences": False}
    config = [{"class_name": "Bidirectional", "config": both}, {"class_name": "GRU", "config": gru}]
    with h5py.File(folder / "keras-1-recurrent.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        file.attrs["keras_version"] = "1.2.2"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in arrays]
        for layer, stored in arrays.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in stored]
            for name, array in stored.items():
                group[name] = array


def without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {name: without(item, key) for name, item in value.items() if name != key}
    return [without(item, key) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    from keras2_captcha import write_image_ocr

    place = Path(sys.argv[1])
    write_sequential(place)
    write_operations(place)
    write_lambdas(place)
    write_recurrent(place)
    write_cudnn(place)
    write_recurrent_of_keras_1(place)
    write_image_ocr(place)
