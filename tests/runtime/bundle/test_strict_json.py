"""What counts as a control character; the rest of ``strict_json`` is tested through the manifest."""

from __future__ import annotations

import sys
import unicodedata

from xxdeploy.runtime.bundle.strict_json import CONTROL


def test_control_characters_are_unicodes() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    known = [letter for letter in everything if unicodedata.category(letter) in ("Cc", "Cs")]
    assert CONTROL.findall(everything) == known
    assert len(known) == 65 + 2048
