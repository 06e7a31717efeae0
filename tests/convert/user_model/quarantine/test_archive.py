"""Damaged archives, and archives with bad intentions."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import pytest
from model_files import archive, model, refusal_code, refused


def test_a_changed_byte_in_the_archive_is_seen(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras")
    data = bytearray(path.read_bytes())
    data[data.index(b'"Flatten"') + 2] ^= 1
    path.write_bytes(data)
    assert refusal_code(path, tmp_path) == "damaged-model"


def test_a_huge_configuration(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", " " * (17 << 20), compression=zipfile.ZIP_DEFLATED)
    assert refusal_code(path, tmp_path) == "unsafe-model"


def test_a_bomb_by_its_claim_and_by_its_content(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.keras", data=bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 20
    assert refusal_code(bomb, tmp_path) == "unsafe-model"
    data = bytearray(bomb.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # where the size is written, twice
        place = data.rindex(signature, 0, data.rindex(b"model.weights.h5"))
        assert data[place + at : place + at + 4] == struct.pack("<I", 64 << 20)
        data[place + at : place + at + 4] = struct.pack("<I", 1000)
    bomb.write_bytes(data)
    (tmp_path / "unpacked").rmdir()
    assert refusal_code(bomb, tmp_path) == "damaged-model"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "assets/../../evil", "C:evil", "a\\..\\evil", "a\nb"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "a.keras", extra=((name, b"x"),))
    assert refusal_code(path, tmp_path) == "unsafe-model"
    assert not list(tmp_path.rglob("evil"))


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        path = archive(tmp_path / "a.keras", extra=(("config.json", b"{}"),))
    assert refusal_code(path, tmp_path) == "unsafe-model"


def test_links_and_encryption(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras")
    link = zipfile.ZipInfo("assets/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc/passwd")
    assert refusal_code(path, tmp_path) == "unsafe-model"
    path = archive(tmp_path / "b.keras")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    (tmp_path / "unpacked").rmdir()
    assert refusal_code(path, tmp_path) == "unsafe-model"


def test_a_million_entries_are_refused_by_the_index(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", extra=tuple((f"assets/{index}", b"") for index in range(2000)))
    assert refusal_code(path, tmp_path) == "unsafe-model"


def test_archives_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as file:
        file.writestr("archive/data.pkl", b"")
    error = refused(tmp_path / "a.keras", tmp_path)
    assert (error.code, "PyTorch" in error.message) == ("not-a-model", True)
    with zipfile.ZipFile(tmp_path / "b.keras", "w") as file:
        file.writestr("config.json", json.dumps(model()))
        file.writestr("model.weights.npz", b"")
    (tmp_path / "unpacked").rmdir()
    assert refusal_code(tmp_path / "b.keras", tmp_path) == "not-a-model"
