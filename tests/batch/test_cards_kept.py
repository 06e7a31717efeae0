"""A few networks are exported as the committed cards say, and give what the cards say."""

from __future__ import annotations

from pathlib import Path

import pytest

from xxdeploy.batch.cards import card_differences, read_card
from xxdeploy.batch.jobs import jobs_from
from xxdeploy.batch.run import default_resources, run_jobs
from xxdeploy.batch.toml_file import jobs_from_file

RESULTS = Path(__file__).resolve().parents[2] / "exports" / "results"


@pytest.mark.slow
def test_small_networks_give_what_their_cards_say(tmp_path: Path) -> None:
    """LeNet and a small MobileNetV2 with trained weights, two networks with random ones."""
    sample = jobs_from_file(RESULTS / "sample.toml", {}, None)
    jobs = (
        *(job for job in sample if job.name.startswith("lenet") or job.precision == "fp32"),
        *jobs_from(["densenet-bc-40-12", "mobilenetv2"], ("fp32",), {"weights": "none"}),
    )
    assert [job.name for job in jobs] == [
        "lenet-sample-fp32",
        "lenet-sample-int8",
        "mobilenetv2-sample-fp32",
        "densenet-bc-40-12-fp32",
        "mobilenetv2-fp32",
    ]
    for record in run_jobs(jobs, tmp_path, default_resources(timeout=600)):
        assert record.error is None, record.error
        card = read_card(tmp_path / "results" / f"{record.name}.json")
        assert card_differences(read_card(RESULTS / f"{record.name}.json"), card) == ()
