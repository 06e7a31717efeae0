"""The preprocessing of a user's model: read from the model, or given; never guessed."""

from __future__ import annotations

from pathlib import Path

from xxdeploy.convert.user_model.own_model import OwnModel
from xxdeploy.datasets.preprocess_file import load_scaling
from xxdeploy.errors import UsageError
from xxdeploy.runtime.image.preprocess import CUSTOM, MODES, Preprocess


def own_preprocess(own: OwnModel, asked: str | None, *, resize: str = "squash") -> tuple[Preprocess, tuple[str, ...]]:
    """Return how pictures become input for ``own``, and notes for the user.

    Parameters
    ----------
    own : OwnModel
        From ``describe_own_model``.
    asked : str | None
        ``--preprocess``: tf, caffe, torch, none, or a file (``load_scaling``). None: the model must scale the pixels
        itself, and is given 0..255.
    resize : str
        ``squash`` or ``crop``.

    Raises
    ------
    UsageError
        ``preprocess-unknown``: nothing is asked for and nothing is inside; the hint names the likely answer.
        ``preprocess-invalid``, ``no-preprocess-file``, ``bad-preprocess-file``.
    """
    inside = ", ".join(own.scaling)
    if asked is None:
        if not own.scaling:
            raise _unknown(own)
        note = f"the model scales the pixels itself ({inside}): it is given 0..255"
        return Preprocess(own.height, own.width, own.channels, "none", resize), (note,)
    notes: tuple[str, ...] = ()
    if own.scaling and asked != "none":
        notes = (f"the model scales the pixels itself ({inside}), and --preprocess {asked} does so before it",)
    if asked in MODES:
        return Preprocess(own.height, own.width, own.channels, asked, resize), notes
    scaling = load_scaling(Path(asked), own.channels)
    return Preprocess(own.height, own.width, own.channels, CUSTOM, resize, scaling), notes


def _unknown(own: OwnModel) -> UsageError:
    likely = f"--preprocess {own.likely}" if own.likely else "--preprocess tf|caffe|torch|none|FILE"
    what = f": it looks like {own.family}, which was trained with {own.likely!r}" if own.family else ""
    return UsageError(
        f"nothing says how the pixels for {own.name} are scaled, and it has no layer for that",
        hint=f"{likely}{what}; as you trained it, whatever that was",
        code="preprocess-unknown",
    )
