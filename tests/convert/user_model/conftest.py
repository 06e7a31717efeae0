"""For the tests of user models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of the user's own layers in the working folder, which writes NAME.imported when it is imported."""
    from user_nets import MODULE

    from xxdeploy.convert.keras_loader import load_keras

    name = f"own_layers_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    registered = load_keras().saving.get_custom_objects()
    before = dict(registered)
    yield name
    sys.modules.pop(name, None)
    registered.clear()
    registered.update(before)
