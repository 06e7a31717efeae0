import numpy as np
import pytest

from xxdeploy.convert.catalog.initialize import drawn_by_numpy
from xxdeploy.convert.keras_loader import load_keras


@pytest.mark.parametrize(
    ("initializer", "deviation"),
    [
        ("GlorotUniform", (2 / (300 + 500)) ** 0.5),
        ("GlorotNormal", (2 / (300 + 500)) ** 0.5),
        ("RandomUniform", 0.05 / 3**0.5),
        ("RandomNormal", 0.05),
        ("TruncatedNormal", 0.05 * 0.8796),
    ],
)
def test_the_distributions_are_those_of_keras(initializer: str, deviation: float) -> None:
    keras = load_keras()
    with drawn_by_numpy(0):
        values = np.asarray(getattr(keras.initializers, initializer)()((300, 500)))
    original = np.asarray(getattr(keras.initializers, initializer)(seed=1)((300, 500)))
    assert values.dtype == np.float32
    assert abs(values.mean()) < deviation / 50
    assert values.std() == pytest.approx(deviation, rel=0.02)
    assert original.std() == pytest.approx(deviation, rel=0.02)
    assert np.abs(values).max() == pytest.approx(np.abs(original).max(), rel=0.25)


def test_equal_seeds_draw_equal_numbers_and_none_gives_zeros() -> None:
    keras = load_keras()

    def kernel(seed: int | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        with drawn_by_numpy(seed):
            layer = keras.layers.Dense(4)
            layer.build((None, 3))
        return np.asarray(layer.kernel)

    assert np.array_equal(kernel(3), kernel(3))
    assert not np.array_equal(kernel(3), kernel(4))
    assert not kernel(None).any()


def test_keras_draws_itself_again_afterwards() -> None:
    keras = load_keras()
    with pytest.raises(RuntimeError, match="stop"), drawn_by_numpy(0):
        raise RuntimeError("stop")
    assert np.asarray(keras.initializers.RandomNormal(seed=0)((10,))).any()
