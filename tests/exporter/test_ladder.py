"""The rules of the climb, on made-up figures; real networks are in test_ladder_climbed.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from xxdeploy.exporter.ladder import CALIBRATORS, Bench, Climb, Goal, climb, loss, proposals
from xxdeploy.onnxmodel.model import OnnxModel
from xxdeploy.quantize.effort import Effort
from xxdeploy.quantize.recipe import QuantizationRecipe
from xxdeploy.results import Figure, OnProgress, Progress, Ranges
from xxdeploy.verify import Comparison
from xxdeploy.verify.statistics import change_from_counts

CORRECTED = QuantizationRecipe(bias_correction="empirical")
ANALYTIC = QuantizationRecipe(bias_correction="analytic")
ROUNDED = QuantizationRecipe(bias_correction="empirical", rounding="adaptive")


def found(agreeing: int | None = 100, kl: float | None = 0.1, *, lost: int = 0, gained: int = 0) -> Comparison:
    """A comparison on 100 images."""
    change = change_from_counts(gained, lost, 100)
    return Comparison("float", "int8", 100, 20.0, 0.9, agreeing, kl, (90, 90 + gained - lost), change)


class FakeQuantizer:
    """Makes a model of a recipe by writing the recipe down."""

    def __init__(self, given: Ranges | None = None, *, has_worst: bool = True) -> None:
        self.built: list[QuantizationRecipe] = []
        self.ranked: list[tuple[str, ...]] = []
        """The float layers of each recipe whose worst layers were asked for."""
        self.paced: list[tuple[str, QuantizationRecipe, float]] = []
        """The rungs that were estimated."""
        self.timed: list[OnnxModel] = []
        """The models that were timed."""
        self.given, self._has_worst = given, has_worst

    def build(self, recipe: QuantizationRecipe) -> OnnxModel:
        self.built.append(recipe)
        return OnnxModel(repr(recipe).encode())

    def seconds(self, rung: str, recipe: QuantizationRecipe, per_image: float) -> float:
        self.paced.append((rung, recipe, per_image))
        return 42.0

    def worst_layers(self, recipe: QuantizationRecipe) -> frozenset[str]:
        self.ranked.append(recipe.float_layers)
        return frozenset({f"layer{len(self.ranked)}", "again"} if self._has_worst else ())


def climbed(
    figures: Callable[[QuantizationRecipe], Comparison],
    goal: Goal = Goal(),  # noqa: B008 - frozen
    *,
    start: QuantizationRecipe = QuantizationRecipe(),  # noqa: B008
    pinned: bool = False,
    effort: Effort = "thorough",
    quantizer: FakeQuantizer | None = None,
    report: OnProgress = lambda _: None,
) -> tuple[Climb, FakeQuantizer]:
    """Climb where ``figures`` tells what each recipe gives."""
    quantizer = quantizer or FakeQuantizer()
    known: dict[bytes, QuantizationRecipe] = {}

    def judge(model: OnnxModel) -> Comparison:
        known[model.to_bytes()] = quantizer.built[-1]
        return figures(known[model.to_bytes()])

    def clock(model: OnnxModel) -> tuple[float, float]:
        quantizer.timed.append(model)
        return 2.0 + len(quantizer.timed), 3.0

    bench = Bench(judge, judge, clock)
    end = climb(quantizer, bench, goal, start=start, name="plain", pinned=pinned, effort=effort, report=report)
    assert end.best.model.to_bytes() == repr(end.best.recipe).encode()
    return end, quantizer


def taken(end: Climb) -> list[tuple[str, bool]]:
    return [(rung.name, rung.taken) for rung in end.rungs]


def test_the_first_rung_that_holds_is_kept_and_no_other_is_made() -> None:
    end, quantizer = climbed(lambda _: found(99))
    assert taken(end) == [("plain", True)]
    assert quantizer.built == [QuantizationRecipe()]
    assert end.holds
    rung = end.rungs[0]
    assert (rung.milliseconds, rung.float_milliseconds) == (3.0, 3.0)


def test_only_rungs_that_change_the_kernels_are_timed() -> None:
    end, quantizer = climbed(lambda recipe: found(80, 1 / (1 + len(recipe.float_layers))), Goal(agreement=0.9))
    times = {rung.name: rung.milliseconds for rung in end.rungs}
    assert times["plain"] == times["rounding"] == 3.0
    assert (times["float layers"] or 0.0) > 3.0
    assert len(quantizer.timed) == 1 + sum(rung.name == "float layers" for rung in end.rungs)


def test_it_stops_on_the_rung_that_holds() -> None:
    end, _ = climbed(lambda recipe: found(100 if recipe.bias_correction == "empirical" else 90, 0.1))
    assert taken(end) == [
        ("plain", True), ("calibrator", False), ("equalization", False), ("analytic correction", False),
        ("bias correction", True),
    ]  # fmt: skip
    assert end.best.recipe == CORRECTED


def test_a_rung_that_does_not_help_is_taken_back() -> None:
    figures = {"none": 0.2, "analytic": 0.15, "empirical": 0.1}
    end, quantizer = climbed(lambda recipe: found(90, figures[recipe.bias_correction] + 0.1 * recipe.equalization))
    assert taken(end) == [
        ("plain", True), ("calibrator", False), ("equalization", False), ("analytic correction", True),
        ("bias correction", True), ("rounding", False),
    ]  # fmt: skip
    assert end.best.recipe == CORRECTED
    assert not any(recipe.equalization for recipe in quantizer.built[-3:])


def test_the_best_calibrator_is_chosen_and_one_that_keeps_the_promise_goes_before_it() -> None:
    figures = {"mse": found(90, 0.01), "entropy": found(90, 0.02)}
    end, _ = climbed(lambda recipe: figures.get(recipe.calibrator, found(80, 0.5)))
    assert end.best.recipe.calibrator == "mse"
    figures["entropy"] = found(99, 0.02)
    end, _ = climbed(lambda recipe: figures.get(recipe.calibrator, found(80, 0.5)))
    assert end.best.recipe.calibrator == "entropy"
    assert taken(end) == [("plain", True), ("calibrator", True)]


def test_what_holds_is_kept_although_the_divergence_is_the_same() -> None:
    end, _ = climbed(lambda recipe: found(99 if recipe.equalization else 98, 0.1))
    assert taken(end)[-1] == ("equalization", True)


def test_a_class_more_is_chance_where_the_divergence_is_worse_unless_a_promise_hangs_on_it() -> None:
    def figures(recipe: QuantizationRecipe) -> Comparison:
        lucky = {"mse": found(99, 0.12), "entropy": found(98, 0.11)}
        return lucky.get(recipe.calibrator, found(98, 0.1 + 0.01 * (recipe != QuantizationRecipe())))

    free, _ = climbed(figures)
    assert [name for name, kept in taken(free) if kept] == ["plain"]
    assert free.rungs[1].comparison.kl_nats == 0.11  # not that of mse
    promised, _ = climbed(figures, Goal(agreement=0.985))
    assert taken(promised) == [("plain", True), ("calibrator", True)]
    assert promised.best.recipe.calibrator == "mse"


def test_no_rung_breaks_a_promise_that_was_kept_before() -> None:
    end, _ = climbed(lambda recipe: found(*((97, 0.05) if recipe.equalization else (98, 0.1))), Goal(agreement=0.98))
    assert ("equalization", False) in taken(end)
    assert end.holds


def test_a_pinned_recipe_is_only_measured() -> None:
    end, quantizer = climbed(lambda _: found(10, 5.0), Goal(agreement=0.9), start=ROUNDED, pinned=True)
    assert taken(end) == [("plain", True)]
    assert quantizer.built == [ROUNDED]
    assert not end.holds


def test_a_recipe_that_has_it_all_has_nothing_to_climb_but_equalization() -> None:
    end, quantizer = climbed(lambda _: found(90), start=ROUNDED)
    assert taken(end) == [("plain", True), ("equalization", False)]
    assert quantizer.built[1].calibrator == ROUNDED.calibrator  # its biases are right for no other


def test_layers_stay_in_float_only_for_a_promise() -> None:
    def figures(recipe: QuantizationRecipe) -> Comparison:
        count = len(recipe.float_layers)
        return found(80 + 5 * count if count < 4 else 96, 1 / (1 + count))

    end, quantizer = climbed(figures)
    assert not quantizer.ranked
    assert end.holds  # nothing was promised
    end, quantizer = climbed(figures, Goal(agreement=0.93))
    assert taken(end)[-2:] == [("float layers", True)] * 2
    assert end.best.recipe.float_layers == ("again", "layer1", "layer2")
    assert quantizer.ranked == [(), ("again", "layer1")]
    assert end.holds

    end, quantizer = climbed(figures, Goal(agreement=1.0))
    assert len(quantizer.ranked) == 4  # layers in float cost milliseconds for good: not without end
    assert not end.holds

    end, quantizer = climbed(lambda _: found(80, 1.0), Goal(agreement=0.93))
    assert taken(end)[-1] == ("float layers", False)
    assert (len(quantizer.ranked), end.holds, end.best.recipe.float_layers) == (1, False, ())

    end, _ = climbed(lambda _: found(80, 1.0), Goal(agreement=0.93), quantizer=FakeQuantizer(has_worst=False))
    assert taken(end)[-1][0] == "rounding"
    assert not end.holds


def test_progress_names_each_rung() -> None:
    seen: list[Progress] = []
    climbed(lambda _: found(99), report=seen.append)
    assert seen == [Progress("rung plain", 0, 1), Progress("rung plain", 1, 1)]
    seen.clear()
    climbed(lambda recipe: found(100 if recipe.rounding == "adaptive" else 80), start=CORRECTED, report=seen.append)
    assert [progress.step for progress in seen if progress.done][1:] == [
        "rung equalization: about 42 s, expected gain 1.0 points of agreement",
        "rung rounding: about 42 s, expected gain 3.3 points of agreement",
    ]


def test_normal_effort_passes_over_what_the_images_cannot_show() -> None:
    end, quantizer = climbed(lambda _: found(97), effort="normal")
    assert taken(end) == [("plain", True)]
    assert len(quantizer.built) == 1
    assert end.sentences == (
        "not tried, since fewer than one held-back image would show their gain (--effort thorough tries them): "
        "calibrator: about 42 s, expected gain 0.5 points of agreement; "
        "equalization: about 42 s, expected gain 0.2 points of agreement; "
        "analytic correction: about 42 s, expected gain 0.9 points of agreement; "
        "bias correction: about 42 s, expected gain 0.1 points of agreement; "
        "rounding: about 42 s, expected gain 0.5 points of agreement",
    )
    end, _ = climbed(lambda _: found(92), effort="normal")  # 8 of 100 images: rounding may bring 1.3 of them back
    assert [rung.name for rung in end.rungs] == ["plain", "calibrator", "analytic correction", "rounding"]
    end, _ = climbed(lambda _: found(92), effort="quick")
    assert taken(end) == [("plain", True)]
    assert "since --effort quick is given" in end.sentences[0]


@pytest.mark.parametrize("effort", ["quick", "normal"])
def test_any_effort_climbs_for_a_promise(effort: Effort) -> None:
    end, _ = climbed(lambda recipe: found(99 if recipe == ROUNDED else 97), Goal(agreement=0.98), effort=effort)
    assert taken(end)[-1] == ("rounding", True)
    assert not end.sentences


@pytest.mark.parametrize(("second", "calibrators"), [(0.0109, ["mse", "entropy"]), (0.0111, ["mse"])])
def test_normal_effort_judges_the_best_calibrators_of_a_few_images_only(second: float, calibrators: list[str]) -> None:
    """The second best too, if it is close: at most 10 % worse."""
    figures = {"mse": 0.01, "entropy": second}
    quantizer, judged = FakeQuantizer(), list[str]()

    def judge(_: OnnxModel) -> Comparison:
        judged.append(quantizer.built[-1].calibrator)
        return found(80, figures.get(quantizer.built[-1].calibrator, 0.5))

    def preview(_: OnnxModel) -> Comparison:
        return found(80, figures.get(quantizer.built[-1].calibrator, 0.5))

    bench = Bench(judge, preview, lambda _: (1.0, 1.0))
    end = climb(quantizer, bench, Goal(), start=QuantizationRecipe(), name="plain")
    assert judged[1 : 1 + len(calibrators)] == calibrators
    assert judged[1 + len(calibrators)] == "mse"  # with the next method
    assert end.best.recipe.calibrator == "mse"


@pytest.mark.parametrize(
    ("goal", "figures", "holds", "broken"),
    [
        (Goal(), found(99), True, False),
        (Goal(), found(98), False, False),
        (Goal(agreement=0.95), found(98), False, False),  # kept, but there may be better for nothing
        (Goal(agreement=0.95), found(94), False, True),
        (Goal(enough=0.0), found(50), True, False),  # a recipe that ships, checked on crops
        (Goal(agreement=0.95, enough=0.0), found(94), False, True),
        (Goal(agreement=1.0), found(99), False, True),
        (Goal(drop=0.01), found(99, lost=2), True, False),  # two of 100 images are within the error of 1 %
        (Goal(drop=0.01), found(99, lost=3), False, True),
        (Goal(drop=0.01), found(99, lost=9, gained=8), True, False),
        (Goal(drop=0.0), found(99, lost=1), False, True),
        (Goal(drop=0.0), found(99, gained=1), True, False),
        (Goal(drop=0.0), found(99, lost=1, gained=1), True, False),
    ],
)
def test_goals(goal: Goal, figures: Comparison, holds: bool, broken: bool) -> None:
    assert (goal.holds(figures), goal.is_broken(figures)) == (holds, broken)


def test_features_are_judged_by_their_noise() -> None:
    for sqnr, holds in ((None, False), (29.9, False), (30.0, True)):
        features = Comparison("float", "int8", 100, sqnr, 0.9, None, None, None, None)
        assert Goal(agreement=0.99, drop=0.0).holds(features) is holds
        assert not Goal(agreement=0.99, drop=0.0).is_broken(features)
    assert loss(features) == pytest.approx(0.001)


def of_figure(name: str, value: float, *, sqnr: float = 20.0, error: float = 0.1) -> Comparison:
    figures = (Figure(name, value),)
    return Comparison("float", "int8", 100, sqnr, 0.9, None, None, None, None, figures=figures, loss=error)


@pytest.mark.parametrize(
    ("goal", "comparison", "holds", "broken"),
    [
        (Goal(), of_figure("psnr", 40.0), True, False),
        (Goal(), of_figure("psnr", 39.9), False, False),
        (Goal(figures=(("min_psnr", 45.0),)), of_figure("psnr", 44.0), False, True),
        (Goal(figures=(("min_psnr", 35.0),)), of_figure("psnr", 36.0), False, False),
        (Goal(), of_figure("iou", 0.99), True, False),
        (Goal(figures=(("min_iou", 0.995),)), of_figure("iou", 0.99), False, True),
        (Goal(), of_figure("p95_error", 9.0, sqnr=30.0), True, False),
        (Goal(), of_figure("p95_error", 9.0, sqnr=29.0), False, False),
        (Goal(figures=(("max_error", 8.0),)), of_figure("p95_error", 9.0, sqnr=40.0), False, True),
    ],
)
def test_pictures_masks_and_values_are_judged_by_their_figure(
    goal: Goal, comparison: Comparison, holds: bool, broken: bool
) -> None:
    assert (goal.holds(comparison), goal.is_broken(comparison)) == (holds, broken)


def test_rungs_are_compared_by_the_error_of_the_task() -> None:
    """Not by the signal-to-noise ratio: it counts values outside the range of a picture, which are clipped."""
    before, after = of_figure("psnr", 30.0, error=0.1), of_figure("psnr", 30.0, sqnr=60.0, error=0.098)
    assert loss(before) == 0.1
    assert Goal().objection(after, before) == "the error is not 3 % lower"
    assert Goal().objection(of_figure("psnr", 31.0, sqnr=10.0, error=0.09), before) == ""


def test_proposals_leave_out_what_is_there() -> None:
    assert [recipe.calibrator for recipe in proposals("calibrator", QuantizationRecipe(calibrator="mse"))] == [
        name for name in CALIBRATORS if name != "mse"
    ]
    assert proposals("calibrator", CORRECTED) == []
    assert proposals("bias correction", CORRECTED) == []
    assert proposals("bias correction", ANALYTIC) == [CORRECTED]
    assert proposals("analytic correction", CORRECTED) == proposals("analytic correction", ROUNDED) == []
    assert proposals("rounding", QuantizationRecipe()) == [ROUNDED]
    assert proposals("rounding", ROUNDED) == []
    assert proposals("equalization", QuantizationRecipe(equalization=True)) == []
    assert {recipe.calibrator for recipe in proposals("equalization", QuantizationRecipe())} == set(CALIBRATORS)


def test_ranges_that_are_given_are_not_swept() -> None:
    """Other calibrators would be measured in vain, and equalization changes what the ranges are of."""
    given = Ranges("tensorrt-EntropyCalibration2", "0" * 64, "0" * 64, 0, {})
    end, _ = climbed(lambda _: found(90), quantizer=FakeQuantizer(given))
    assert [rung.name for rung in end.rungs] == ["plain", "analytic correction", "bias correction", "rounding"]
