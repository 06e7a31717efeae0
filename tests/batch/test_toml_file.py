from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unusual_options import unusual_value

from xxdeploy.batch.toml_file import jobs_from_file
from xxdeploy.errors import UsageError
from xxdeploy.exporter.options import OPTIONS
from xxdeploy.files import MAX_TOML_BYTES

WHOLE = """
precisions = ["fp32", "int8"]
[options]
weights = "none"
calibration = "pictures"
seed = 5
[[network]]
model = "LeNet"
[[network]]
model = "mobilenetv2"
name = "small"
precisions = ["int8"]
options = { alpha = 0.35, weights = "my.weights.h5", samples = 64 }
[[network]]
model = "own.keras"
precisions = ["fp32"]
options = { preprocess = "tf" }
"""


def read(folder: Path, text: str | bytes, **given: object) -> list[tuple[str, str, dict[str, object]]]:
    path = folder / "batch.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    jobs = jobs_from_file(path, given, None)  # type: ignore[arg-type]
    return [(job.name, job.model, dict(job.options)) for job in jobs]


def test_a_whole_file(tmp_path: Path) -> None:
    pictures = str(tmp_path / "pictures")
    assert read(tmp_path, WHOLE) == [
        ("lenet-fp32", "lenet", {"weights": "none", "seed": 5}),
        ("lenet-int8", "lenet", {"weights": "none", "seed": 5, "calibration": pictures}),
        (
            "small-int8",
            "mobilenetv2",
            {
                "alpha": 0.35,
                "weights": str(tmp_path / "my.weights.h5"),
                "samples": 64,
                "seed": 5,
                "calibration": pictures,
            },
        ),
        ("own-fp32", str(tmp_path / "own.keras"), {"preprocess": "tf", "weights": "none", "seed": 5}),
    ]


@pytest.mark.parametrize("name", OPTIONS)
def test_each_option_is_read_or_refused_by_its_name(tmp_path: Path, name: str) -> None:
    option, value = OPTIONS[name], unusual_value(name)
    shown = json.dumps(list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value)
    text = f'precisions = ["int8"]\n[[network]]\nmodel = "lenet"\noptions = {{ {name} = {shown} }}'
    if not option.scope.in_file:
        with pytest.raises(UsageError, match=f"{name} is an option of the command line only"):
            read(tmp_path, text)
        return
    ((_, _, options),) = read(tmp_path, text)
    assert options == {name: str(tmp_path / str(value)) if option.names_file(value) else value}


def test_the_command_line_goes_before_the_options_of_all_and_a_network_before_both(tmp_path: Path) -> None:
    text = '[options]\nseed = 1\nsamples = 9\n[[network]]\nmodel = "lenet"\noptions = { samples = 3 }'
    path = tmp_path / "m.toml"
    path.write_text(text)
    (job,) = jobs_from_file(path, {"seed": 2, "samples": 5}, ("int8",))
    assert (job.name, dict(job.options)) == ("lenet-int8", {"seed": 2, "samples": 3})


def test_a_set_that_ships_is_no_path_unless_a_folder_has_its_name(tmp_path: Path) -> None:
    text = 'precisions = ["int8"]\n[[network]]\nmodel = "lenet"\noptions = { calibration = "photos" }'
    assert read(tmp_path, text)[0][2] == {"calibration": "photos"}
    (tmp_path / "photos").mkdir()
    assert read(tmp_path, text)[0][2] == {"calibration": str(tmp_path / "photos")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no [[network]]"),
        ("not toml", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        (b"#" * (MAX_TOML_BYTES + 1), "larger than"),
        ("network = 3", "no [[network]]"),
        ("network = [3]", "network 1 is no table"),
        ("[[network]]", "has no model"),
        ("[[network]]\nmodel = 3", "has no model"),
        ('[[network]]\nmodel = "a\\u0000b"', "has no model"),
        ('[[network]]\nmodel = "lenet"\nname = 3', "name must be a text"),
        ('[[network]]\nmodel = "lenet"\nname = "../../etc/x"', "cannot be called"),
        ('[[network]]\nmodel = "lenet"\ncommand = "rm"', "unknown keys: 'command'"),
        ('[[network]]\nmodel = "lenet"\nprecisions = "fp32"', "precisions must be a list"),
        ('[[network]]\nmodel = "lenet"\nprecisions = []', "precisions must be a list"),
        ('precisions = [1]\n[[network]]\nmodel = "lenet"', "precisions must be a list"),
        ('options = 3\n[[network]]\nmodel = "lenet"', "options must be a table"),
        ('[[network]]\nmodel = "lenet"\noptions = { out = "/etc" }', "unknown keys: 'out'"),
        (
            '[[network]]\nmodel = "lenet"\noptions = { unsafe-lambda = true }',
            "unsafe-lambda is an option of the command line only",
        ),
        ('[[network]]\nmodel = "lenet"\noptions = { custom-objects = "os:system" }', "of the command line only"),
        ('[[network]]\nmodel = "lenet"\noptions = { samples = "3" }', "samples must be int"),
        ('[[network]]\nmodel = "lenet"\noptions = { samples = true }', "samples must be int"),
        ('[[network]]\nmodel = "lenet"\noptions = { weights = "" }', "weights is empty"),
        ('[[network]]\nmodel = "lenet"\noptions = { seed = 2026-01-01 }', "seed must be int"),
        ("".join(f'[[network]]\nmodel = "lenet"\nname = "n{i}"\n' for i in range(1001)), "more than 1000"),
    ],
)
def test_a_hostile_file_is_told_where_it_is_wrong(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.code == "bad-matrix"
    assert says in caught.value.message
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[[network]]\nmodel = "lenett"', "unknown-model"),
        ('[[network]]\nmodel = "--int8"', "unknown-model"),
        ('[[network]]\nmodel = "lenet"\nprecisions = ["fp64"]', "unknown-precision"),
        ('[[network]]\nmodel = "lenet"\n[[network]]\nmodel = "LENET"', "repeated-cell"),
    ],
)
def test_what_is_wrong_beyond_the_file(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.code == code


@pytest.mark.parametrize("what", ["absent", "folder"])
def test_no_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / "absent.toml" if what == "absent" else tmp_path
    with pytest.raises(UsageError) as caught:
        jobs_from_file(path, {}, None)
    assert caught.value.code == "no-matrix"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Nothing but a `UsageError` comes out of it, and random bytes name no network."""
    with pytest.raises(UsageError) as caught:
        read(tmp_path_factory.mktemp("any"), content)
    assert caught.value.code == "bad-matrix"
