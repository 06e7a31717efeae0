"""The domain check: how the values inside a network differ between calibration images and those that it will see."""

from __future__ import annotations

from dataclasses import dataclass

SIGNIFICANT = 0.001
"""The chance of a warning where both sets are of one kind."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class LayerDomain:
    """The values of one layer, on held-back calibration images and on the evaluation images, in this order.

    ``clipped`` is the share (0..1) of its values outside its INT8 range, ``used`` the mean share of that range that one
    image uses (more than 1 if its values exceed it). The second is None without evaluation images, the first without
    held-back ones. Where the two differ by more than chance, ``figure`` is the one that differs most (``mean``), and
    ``larger`` the share (0..1) of pairs of images, one of each set, in which it is larger on the evaluation image. The
    image's colors, which no range holds, have neither share.
    """

    layer: str
    clipped: tuple[float | None, float | None]
    used: tuple[float | None, float | None]
    figure: str | None = None
    larger: float | None = None

    def __post_init__(self) -> None:
        if any(share is not None and not 0 <= share <= 1 for share in (*self.clipped, self.larger)):
            raise ValueError(f"a share must be 0 to 1: {self.clipped}, {self.larger}")
        if (self.figure is None) != (self.larger is None):
            raise ValueError("figure and larger belong together")

    @property
    def difference(self) -> str:
        """Return the figure that differs: ``mean larger in 97 % of image pairs``; empty where none does."""
        if self.figure is None or self.larger is None:
            return ""
        word, share = ("larger", self.larger) if self.larger >= 0.5 else ("smaller", 1 - self.larger)
        return f"{self.figure} {word} in {100 * share:.0f} % of image pairs"

    @property
    def clipping(self) -> str:
        """Return the clipped shares: ``0.8 % of its values clipped, 0.01 % on held-back images``; empty for colors."""
        before, after = self.clipped
        if before is None or after is None:
            one = before if after is None else after
            return "" if one is None else f"{percent(one)} of its values clipped"
        return f"{percent(after)} of its values clipped, {percent(before)} on held-back images"

    @property
    def sentence(self) -> str:
        """Return the layer with its difference and its clipped shares."""
        return f"{self.layer} ({'; '.join(filter(None, (self.difference, self.clipping)))})"


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """The calibration images compared with the images that the network will see.

    ``held_back`` calibration images, which no range was measured on, are compared with ``images`` evaluation images;
    either may be 0. Of ``layers`` (the quantized tensors, and the image's colors) ``exceeded`` have values outside
    their INT8 range on (held-back, evaluation) images, and ``differing`` differ by more than chance. ``p_value`` is the
    chance of such a difference between two sets of one kind, None where nothing could be compared. ``worst`` holds the
    layers that differ most, or without a difference those that clip most.
    """

    held_back: int
    images: int
    layers: int
    exceeded: tuple[int, int]
    differing: int
    p_value: float | None
    worst: tuple[LayerDomain, ...]

    def __post_init__(self) -> None:
        if min(self.held_back, self.images, *self.exceeded, self.differing) < 0 or self.layers < 1:
            raise ValueError("counts of a domain check cannot be negative, and it needs a layer")
        if self.p_value is not None and not 0 <= self.p_value <= 1:
            raise ValueError(f"a p-value must be 0 to 1, not {self.p_value}")

    @property
    def warns(self) -> bool:
        """Tell whether the evaluation images are of another kind than the calibration images."""
        return self.p_value is not None and self.p_value <= SIGNIFICANT

    @property
    def sentence(self) -> str:
        """Return the result on one line; it begins with ``WARNING:`` if the two sets are of different kinds."""
        most = f"; the most clipped layer is {self.worst[0].layer}: {self.worst[0].clipping}" if self.worst else ""
        if self.p_value is None:
            why = "too few images can be compared" if self.images else "no --eval images are given"
            return f"calibration images were not compared with those that the device will see, since {why}{most}"
        compared = f"{self.images} evaluation and {self.held_back} held-back calibration images"
        if not self.warns:
            return f"in every layer, {compared} differ by no more than chance (p {self.p_value:.2g}){most}"
        layers = "; ".join(layer.sentence for layer in self.worst[:_NAMED])
        return (
            f"WARNING: the evaluation images are of another kind than the calibration images, so the ranges may not "
            f"fit: on {compared}, {self.differing} of {self.layers} layers differ by more than chance (p <= 0.001), "
            f"most of all {layers}. Calibrate on images like those that the device will see"
        )


def percent(share: float | None) -> str:
    """Return a share (0..1) in percent with two digits, ``0.035 %``; ``-`` for None."""
    if share is None:
        return "-"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
