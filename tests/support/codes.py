"""The code of the error that a call raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xxdeploy.errors import XXDeployError


def code_of(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """Call, and return the code of the ``XXDeployError`` that it raises, which must have a hint."""
    with pytest.raises(XXDeployError) as caught:
        call(*arguments, **options)
    assert caught.value.hint
    return caught.value.code
