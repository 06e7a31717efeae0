"""``--preprocess FILE``: TOML or JSON, short forms, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.datasets.scaling_file import load_scaling
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.scaling import Scaling


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mean = 128\nstd = 64.0", Scaling(1.0, (128.0,) * 3, (64.0,) * 3)),
        ("scale = 0.5", Scaling(0.5, (0.0,) * 3, (1.0,) * 3)),
        ('order = "bgr"\nmean = [1, 2.5, 3]', Scaling(1.0, (1.0, 2.5, 3.0), (1.0,) * 3, "bgr")),
        ('\ufeff  {"std": [1, 2, 3], "order": "rgb"}', Scaling(1.0, (0.0,) * 3, (1.0, 2.0, 3.0))),
    ],
)
def test_what_it_says(tmp_path: Path, text: str, expected: Scaling) -> None:
    (tmp_path / "a").write_text(text, encoding="utf-8")
    assert load_scaling(tmp_path / "a", 3) == expected


def test_one_channel(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("mean = 0.5\nscale = 0.0039")
    assert load_scaling(tmp_path / "a.toml", 1) == Scaling(0.0039, (0.5,), (1.0,))


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "mean", "mean = true", "mean = [1, 2]", "std = 0", "std = true", "scale = nan", "other = 1", "{",
        "order = 'xyz'", '{"mean": null}', '{"mean": {"a": 1}}', "mean = 1" + "0" * 400, "# " + "x" * 1_000_000,
        "{" * 5000, "[1]",
    ],
)  # fmt: skip
def test_what_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        load_scaling(tmp_path / "a.toml", 3)
    assert caught.value.code == "bad-preprocess-file"
    assert str(tmp_path / "a.toml") in caught.value.message


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path, code in (
        (Path("imagenet"), "no-preprocess-file"),
        (tmp_path, "no-preprocess-file"),
        (Path("a\x00"), "no-preprocess-file"),
        (tmp_path / "bytes", "bad-preprocess-file"),
    ):
        with pytest.raises(UsageError) as caught:
            load_scaling(path, 3)
        assert caught.value.code == code
