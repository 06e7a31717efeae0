from __future__ import annotations

import pytest

from xxdeploy.results import DomainRecord, LayerDomain

SAME = LayerDomain("conv1/Relu", (0.0004, 0.0006), (0.9, 0.92))
DARK = LayerDomain("image", (0.0, 0.121), (0.98, 0.49), "used range", 0.03)


def test_no_difference() -> None:
    record = DomainRecord(50, 64, 5, (3, 4), 0, 0.65, (SAME,))
    assert not record.warns
    assert record.sentence == (
        "in every layer, 64 evaluation and 50 held-back calibration images differ by no more than chance (p 0.65); the "
        "most clipped layer is conv1/Relu: 0.06 % of its values clipped, 0.04 % on held-back images"
    )


def test_a_warning_names_the_layers_and_their_shares() -> None:
    record = DomainRecord(64, 64, 5, (3, 4), 2, 0.00033, (DARK, SAME))
    assert record.warns
    assert record.sentence.startswith("WARNING: the evaluation images are of another kind than the calibration images")
    assert "2 of 5 layers differ by more than chance (p <= 0.001)" in record.sentence
    assert (
        "image (used range smaller in 97 % of image pairs; 12 % of its values clipped, 0 % on held-back images)"
        in record.sentence
    )


def test_where_nothing_was_compared_the_sentence_says_why() -> None:
    alone = LayerDomain("conv1/Relu", (0.0004, None), (0.9, None))
    assert DomainRecord(50, 0, 5, (3, 0), 0, None, (alone,)).sentence == (
        "calibration images were not compared with those that the device will see, since no --eval images are given; "
        "the most clipped layer is conv1/Relu: 0.04 % of its values clipped"
    )
    few = DomainRecord(0, 64, 5, (0, 0), 0, None, ())
    assert few.sentence.endswith("since too few images can be compared")
    assert not few.warns


def test_impossible_figures_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        LayerDomain("a", (1.5, None), (0.0, None))
    with pytest.raises(ValueError, match="belong together"):
        LayerDomain("a", (0.5, None), (0.0, None), "mean")
    with pytest.raises(ValueError, match="negative"):
        DomainRecord(-1, 0, 5, (0, 0), 0, None, ())
    with pytest.raises(ValueError, match="p-value"):
        DomainRecord(1, 0, 5, (0, 0), 0, 2.0, ())
