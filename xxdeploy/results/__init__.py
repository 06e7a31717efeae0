"""The values that flow between the steps. All frozen; each refuses an impossible state at birth."""

from xxdeploy.results.domain import DomainRecord, LayerDomain
from xxdeploy.results.evidence import (
    CPUS,
    AccuracyRecord,
    CalibrationRecord,
    ComparisonRecord,
    EngineRecord,
    Evidence,
    Fp16Record,
    Parity,
    ProcessorVerdict,
    Rung,
    RunnerAccuracy,
    worst_parities,
)
from xxdeploy.results.figures import KINDS, Figure, figure_named, rounded_figures
from xxdeploy.results.noise import CEILING_DB, LayerNoise, decibels, noise_from_json, noise_to_json
from xxdeploy.results.scores import MatchingThreshold, ScoreShift
from xxdeploy.results.values import (
    Accuracy,
    ManyRunner,
    ModelFile,
    ModelOutput,
    OnProgress,
    Progress,
    Ranges,
    Runner,
    StepRecord,
)

__all__ = [
    "CEILING_DB",
    "CPUS",
    "KINDS",
    "Accuracy",
    "AccuracyRecord",
    "CalibrationRecord",
    "ComparisonRecord",
    "DomainRecord",
    "EngineRecord",
    "Evidence",
    "Figure",
    "Fp16Record",
    "LayerDomain",
    "LayerNoise",
    "ManyRunner",
    "MatchingThreshold",
    "ModelFile",
    "ModelOutput",
    "OnProgress",
    "Parity",
    "ProcessorVerdict",
    "Progress",
    "Ranges",
    "Rung",
    "Runner",
    "RunnerAccuracy",
    "ScoreShift",
    "StepRecord",
    "decibels",
    "figure_named",
    "noise_from_json",
    "noise_to_json",
    "rounded_figures",
    "worst_parities",
]
