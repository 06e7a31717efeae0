"""Class names in a bundle: UTF-8, one class a line."""

from __future__ import annotations

from collections.abc import Sequence

from xxdeploy.errors import BundleError
from xxdeploy.runtime.bundle.strict_json import CONTROL

MAX_LENGTH = 1000


def text_from_labels(names: Sequence[str]) -> bytes:
    """Serialize; line n is the name of class n. ``BundleError`` ``labels-invalid`` as in ``labels_from_text``."""
    text = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogatepass")
    labels_from_text(text, len(names))
    return text


def labels_from_text(data: bytes, classes: int) -> tuple[str, ...]:
    """Read the names of ``classes`` classes. Two classes may share a name: ImageNet has two cranes.

    Raises
    ------
    BundleError
        ``labels-invalid``: no UTF-8, another number of lines, an empty or overlong name, control
        characters (names end up on terminals).
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"it is not UTF-8: {error}") from error
    names = tuple(text.removesuffix("\n").split("\n")) if text else ()
    if len(names) != classes:
        raise _invalid(f"it has {len(names)} names for {classes} classes")
    for number, name in enumerate(names):
        if not name.strip() or len(name) > MAX_LENGTH or CONTROL.search(name):
            raise _invalid(f"the name of class {number} is empty, overlong or has control characters: {name[:80]!r}")
    return names


def _invalid(message: str) -> BundleError:
    return BundleError(
        f"the labels file is wrong: {message}", hint="export again with one class name a line", code="labels-invalid"
    )
