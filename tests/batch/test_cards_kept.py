"""A few networks are exported as the committed cards say, and give what the cards say."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.batch.cards import card_differences, read_card
from xxdeploy.batch.jobs import cells_from
from xxdeploy.batch.run import default_limits, run_matrix
from xxdeploy.batch.toml_file import cells_from_file

RESULTS = Path(__file__).resolve().parents[2] / "exports" / "results"


@pytest.mark.slow
def test_small_networks_give_what_their_cards_say(tmp_path: Path) -> None:
    """LeNet and a small MobileNetV2 with trained weights, two networks with random ones."""
    sample = cells_from_file(RESULTS / "sample.toml", {}, None)
    cells = (
        *(cell for cell in sample if cell.name.startswith("lenet") or cell.precision == "fp32"),
        *cells_from(["densenet-bc-40-12", "mobilenetv2"], ("fp32",), {"weights": "none"}),
    )
    assert [cell.name for cell in cells] == [
        "lenet-sample-fp32",
        "lenet-sample-int8",
        "mobilenetv2-sample-fp32",
        "densenet-bc-40-12-fp32",
        "mobilenetv2-fp32",
    ]
    for record in run_matrix(cells, tmp_path, default_limits(timeout=600)):
        assert record.error is None, record.error
        found = read_card(tmp_path / "results" / f"{record.name}.json")
        assert card_differences(read_card(RESULTS / f"{record.name}.json"), found) == ()
