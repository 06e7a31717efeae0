"""One preprocessing everywhere: bit-exact with Keras' arithmetic and with Pillow's bilinear resize."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import MAX_PIXELS, Preprocess, Sizing
from xxdeploy.runtime.image.sizing import RESIZES


def picture(height: int = 37, width: int = 53, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def code_of(source: object, preprocess: Preprocess | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        (preprocess or Preprocess(8, 8)).image(source)  # type: ignore[arg-type]
    if isinstance(source, Path):
        assert str(source) in caught.value.message
    assert caught.value.hint
    return caught.value.code


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_arithmetic_is_keras_own_bit_for_bit(mode: str) -> None:
    from keras.applications.imagenet_utils import preprocess_input

    every = np.arange(256, dtype=np.uint8)
    images = np.stack([every, every[::-1], np.roll(every, 7)], -1)[None, :, None, :]
    ours = Preprocess(256, 1, mode=mode).normalize(images)
    theirs = preprocess_input(images.astype(np.float32), data_format="channels_last", mode=mode)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous
    assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


@pytest.mark.slow
def test_squash_is_keras_load_img_bit_for_bit(tmp_path: Path) -> None:
    from keras.utils import load_img

    Image.fromarray(picture(61, 90)).save(tmp_path / "a.jpg")
    theirs = np.asarray(load_img(tmp_path / "a.jpg", target_size=(32, 48), interpolation="bilinear"))
    assert np.array_equal(Preprocess(32, 48).image(tmp_path / "a.jpg"), theirs)


def test_mode_none_keeps_the_values_and_modes_differ() -> None:
    images = picture(4, 4)[None]
    assert np.array_equal(Preprocess(4, 4, mode="none").normalize(images), images.astype(np.float32))
    caffe = Preprocess(4, 4, mode="caffe").normalize(images)
    assert caffe[0, 0, 0, 0] == np.float32(images[0, 0, 0, 2]) - np.float32(103.939)


def test_squash_is_pillow_bilinear() -> None:
    image = Image.fromarray(picture())
    expected = np.asarray(image.resize((20, 10), Image.Resampling.BILINEAR))
    assert np.array_equal(Preprocess(10, 20).image(image), expected)


def test_crop_covers_then_takes_the_center() -> None:
    image = Image.fromarray(picture(300, 400))
    resized = image.resize((341, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((58, 16, 58 + 224, 16 + 224)))
    assert np.array_equal(Preprocess(224, 224, sizing=Sizing("crop")).image(image), expected)
    assert Preprocess(20, 50, sizing=Sizing("crop")).image(image).shape == (20, 50, 3)


def test_path_string_image_and_array_agree(tmp_path: Path) -> None:
    pixels = picture()
    file = tmp_path / "a.png"
    Image.fromarray(pixels).save(file)
    preprocess = Preprocess(16, 24)
    expected = preprocess.image(pixels)
    assert expected.shape == (16, 24, 3)
    for source in (file, str(file), Image.open(file), Image.fromarray(pixels)):
        assert np.array_equal(preprocess.image(source), expected)
    batch = preprocess.batch([file, pixels])
    assert batch.shape == (2, 16, 24, 3)
    assert np.array_equal(batch[0], batch[1])


def test_gray_network_and_gray_pictures() -> None:
    gray = picture(28, 28, 0)
    assert np.array_equal(Preprocess(28, 28, 1).image(gray)[..., 0], gray)
    assert np.array_equal(Preprocess(28, 28, 1).image(gray[..., None])[..., 0], gray)
    assert np.array_equal(Preprocess(28, 28, 3).image(gray), np.repeat(gray[..., None], 3, 2))
    color = picture(28, 28)
    luma = np.asarray(Image.fromarray(color).convert("L"))
    assert np.array_equal(Preprocess(28, 28, 1).image(color)[..., 0], luma)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_modes_convert_as_pillow_does(mode: str, channels: int) -> None:
    image = Image.fromarray(picture(12, 12, 4), "RGBA").convert("RGB").convert(mode)
    target = "L" if channels == 1 else "RGB"
    expected = np.asarray(image.convert(target)).reshape(12, 12, channels)
    assert np.array_equal(Preprocess(12, 12, channels).image(image), expected)


def test_alpha_is_dropped_as_keras_drops_it(tmp_path: Path) -> None:
    pixels = picture(9, 9, 4)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(Preprocess(9, 9).image(tmp_path / "a.png"), pixels[..., :3])


def test_palette_with_transparency_does_not_warn(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert np.array_equal(Preprocess(4, 4).image(tmp_path / "a.png")[0, 0], [40, 50, 60])


def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path) -> None:
    wide = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(wide).save(tmp_path / name)
        assert np.array_equal(Preprocess(16, 16, 1).image(tmp_path / name)[..., 0], wide >> 8)
        assert np.array_equal(Preprocess(16, 16).image(tmp_path / name)[..., 2], wide >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(20, 30)).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        expected = ImageOps.exif_transpose(opened).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(Preprocess(8, 8).image(tmp_path / "a.png"), np.asarray(expected))


def test_damaged_exif_counts_as_upright(tmp_path: Path) -> None:
    pixels = picture(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert np.array_equal(Preprocess(8, 8).image(tmp_path / "a.png"), pixels)


def test_hostile_files(tmp_path: Path) -> None:
    empty, text, cut, folder = (tmp_path / name for name in ("empty.jpg", "text.jpg", "cut.jpg", "folder"))
    empty.touch()
    text.write_text("this is no picture")
    buffer = io.BytesIO()
    Image.fromarray(picture(200, 200)).save(buffer, "JPEG")
    cut.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    folder.mkdir()
    assert code_of(empty) == "image-empty"
    assert code_of(text) == "image-format"
    assert code_of(cut) == "image-damaged"
    assert code_of(folder) == "image-not-a-file"
    assert code_of(tmp_path / "absent.jpg") == "image-not-found"
    assert code_of("nul\x00.jpg") == "image-not-found"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")
        assert code_of(tmp_path / "pipe.jpg") == "image-not-a-file"


def test_postscript_never_reaches_ghostscript(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with Image.open(file) as opened:
        assert opened.format == "EPS"  # Pillow would
    assert code_of(file) == "image-format"


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(9_500, 9_500), (60_000, 60_000), (MAX_PIXELS + 1, 1)])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, width: int, height: int) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(png_that_claims(width, height))
    assert code_of(file) == "image-too-large"


def test_the_limit_holds_where_warnings_are_silent(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(png_that_claims(9_500, 9_500))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert code_of(file) == "image-too-large"


def test_a_strip_does_not_grow_without_bound() -> None:
    strip = Image.new("RGB", (3_000_000, 1))
    assert code_of(strip, Preprocess(224, 224, sizing=Sizing("crop"))) == "image-too-large"
    assert Preprocess(8, 8).image(strip).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int64),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((4,), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}",
)
def test_wrong_arrays(array: np.ndarray) -> None:
    assert code_of(array) == "image-array"


def test_wrong_types_and_modes() -> None:
    assert code_of(b"bytes") == "image-type"
    assert code_of(None) == "image-type"
    assert code_of(Image.new("F", (4, 4))) == "image-mode"
    assert code_of(Image.new("RGB", (0, 4))) == "image-damaged"
    assert code_of(Image.new("LAB", (4, 4))) == "image-mode"


def test_empty_list_and_wrong_batch() -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess(4, 4).batch([])
    assert caught.value.code == "no-images"
    for batch in (np.zeros((1, 4, 5, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(UsageError) as caught:
            Preprocess(4, 4).normalize(batch)
        assert caught.value.code == "batch-shape"


@pytest.mark.parametrize(
    "change",
    [
        {"height": 0},
        {"width": 5000},
        {"height": 2.0},
        {"height": True},
        {"channels": 4},
        {"mode": "keras"},
        {"resize": "stretch"},
        {"resample": "cubic"},
        {"crop_fraction": "1"},
        {"crop_fraction": 2},
        {"pad_color": [0]},
        {"pad_color": 0},
        {"mode": None},
        {"channels": 1, "mode": "torch"},
        {"extra": 1},
    ],
    ids=str,
)
def test_json_is_strict(change: dict[str, object]) -> None:
    good = Preprocess(8, 9, 3, "caffe", Sizing("crop"))
    assert Preprocess.from_json(good.to_json()) == good
    with pytest.raises(UsageError) as caught:
        Preprocess.from_json({**good.to_json(), **change})
    assert caught.value.code == "preprocess-invalid"


@pytest.mark.parametrize("value", [None, [], "x", {"height": 1}])
def test_json_of_another_shape(value: object) -> None:
    with pytest.raises(UsageError):
        Preprocess.from_json(value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", RESIZES)
def test_an_array_of_the_right_size_gives_what_pillow_gives(channels: int, resize: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, (12, 10, channels), np.uint8)
    preprocess = Preprocess(12, 10, channels, sizing=Sizing(resize))
    found = preprocess.image(array)
    picture = Image.fromarray(array if channels == 3 else array[..., 0])
    np.testing.assert_array_equal(found, preprocess.image(picture))
    assert not np.shares_memory(found, array)
    np.testing.assert_array_equal(preprocess.pixels([array]), found[None])
    np.testing.assert_array_equal(preprocess.pixels([array, array]), np.stack([found, found]))


@pytest.mark.parametrize("brand", ["heic", "mif1"])
def test_a_photo_of_an_iphone_is_named(tmp_path: Path, brand: str) -> None:
    file = tmp_path / "a.jpg"  # as renamed by many programs
    file.write_bytes(struct.pack(">I4s4sI4s", 24, b"ftyp", brand.encode(), 0, b"heic") + bytes(64))
    with pytest.raises(UsageError) as caught:
        Preprocess(8, 8).image(file)
    assert caught.value.code == "image-heic"
    assert "pillow-heif" in caught.value.hint


@pytest.mark.parametrize("mode", ["tf", "caffe", "torch", "none"])
def test_fractions_reach_the_network_as_those_of_a_keras_loader_do(mode: str, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    (tmp_path / "a").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "a.png")
    how = {"label_mode": None, "image_size": (16, 24), "batch_size": None, "shuffle": False, "verbose": False}
    (loaded,) = keras.utils.image_dataset_from_directory(tmp_path, **how)
    scale = keras.applications.imagenet_utils.preprocess_input
    theirs = (
        loaded.numpy() if mode == "none" else scale(loaded.numpy()[None], data_format="channels_last", mode=mode)[0]
    )
    ours = Preprocess(16, 24, mode=mode, sizing=Sizing(resample="bilinear"))
    np.testing.assert_array_equal(ours.batch([tmp_path / "a" / "a.png"])[0], theirs)


def test_pictures_with_and_without_fractions_make_one_batch() -> None:
    ready, other = np.full((8, 8, 3), 9, np.uint8), np.full((5, 8, 3), 9, np.uint8)
    preprocess = Preprocess(8, 8, sizing=Sizing(resample="bilinear"))
    assert preprocess.pixels([ready]).dtype == np.uint8
    assert preprocess.pixels([ready, other]).dtype == np.float32
    assert preprocess.batch([ready, other]).shape == (2, 8, 8, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pictures_over_a_background(mode: str, channels: int, tmp_path: Path) -> None:
    alpha = np.repeat(np.array([[0, 128, 255, 255]], np.uint8), 4, 0)
    image = Image.fromarray(np.dstack([np.full((4, 4, 3), 100, np.uint8), alpha]), "RGBA")
    if mode in ("LA", "PA"):
        image = image.convert(mode)
    elif mode != "RGBA":  # a color that is marked as transparent
        value = 5 if mode == "P" else 100
        image = Image.new(mode, (4, 4), (value,) * 3 if mode == "RGB" else value)
        if mode == "P":
            image.putpalette([100] * 768)
        image.info["transparency"] = (value,) * 3 if mode == "RGB" else value
    for background, color in (("white", 255), ("black", 0), ("drop", 100)):
        pixels = Preprocess(4, 4, channels, background=background).image(image)
        assert (pixels[:, 0] == color).all()
        if mode in ("RGBA", "LA", "PA"):
            assert (pixels[:, 2:] == 100).all()
            assert abs(int(pixels[0, 1, 0]) - (color + 100) / 2) <= 1


@pytest.mark.parametrize("background", ["white", "black"])
def test_opaque_pictures_have_no_background(background: str, tmp_path: Path) -> None:
    pixels = picture(9, 9)
    assert np.array_equal(Preprocess(9, 9, background=background).image(Image.fromarray(pixels)), pixels)
    wide = Image.fromarray(np.full((4, 4), 0x8000, np.uint16))
    wide.save(tmp_path / "a.png", transparency=0)  # a key of 16 bits is not read
    assert (Preprocess(4, 4, 1, background=background).image(tmp_path / "a.png") == 0x80).all()


def test_a_background_needs_a_reader_that_knows_it() -> None:
    plain, white = Preprocess(4, 4), Preprocess(4, 4, background="white")
    assert "background" not in plain.to_json()
    assert white.to_json()["background"] == "white"
    assert Preprocess.from_json(white.to_json()) == white
    assert (plain.is_new, white.is_new) == (False, True)
    with pytest.raises(UsageError) as caught:
        Preprocess(4, 4, background="gray")
    assert caught.value.code == "preprocess-invalid"
