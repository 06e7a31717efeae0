"""A few networks are exported as the committed cards say, and give what the cards say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xxdeploy.batch.cards import card_differences, card_from_bundle, read_card, text_from_card
from xxdeploy.batch.jobs import Job, jobs_from
from xxdeploy.batch.toml_file import jobs_from_file
from xxdeploy.cli import main

RESULTS = Path(__file__).resolve().parents[2] / "exports" / "results"


def jobs() -> tuple[Job, ...]:
    """LeNet and a small MobileNetV2 with trained weights, two networks with random ones."""
    sample = jobs_from_file(RESULTS / "sample.toml", {}, None)
    return (
        *(job for job in sample if job.name.startswith("lenet") or job.precision == "fp32"),
        *jobs_from(["densenet-bc-40-12", "mobilenetv2"], ("fp32",), {"weights": "none"}),
    )


def test_the_jobs_are_those_that_are_meant() -> None:
    assert [job.name for job in jobs()] == [
        "lenet-sample-fp32",
        "lenet-sample-int8",
        "mobilenetv2-sample-fp32",
        "densenet-bc-40-12-fp32",
        "mobilenetv2-fp32",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("job", jobs(), ids=lambda job: job.name)
def test_small_networks_give_what_their_cards_say(job: Job, tmp_path: Path) -> None:
    """In this process: a batch runs the same command in one of its own (``test_run``)."""
    bundle = tmp_path / job.name
    assert main(job.arguments(bundle)) == 0
    card = json.loads(text_from_card(card_from_bundle(job, bundle)))
    assert card_differences(read_card(RESULTS / f"{job.name}.json"), card) == ()
