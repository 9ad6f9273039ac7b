"""The settings of every stage: one frozen dataclass each, checked on construction, to and from JSON."""

from p2d.config.base import Config, DatasetName, of_each, option, refuse_other_settings, settings_hash
from p2d.config.exporting import ExportConfig
from p2d.config.generate import DenoiseConfig, SampleConfig
from p2d.config.importing import ImportConfig
from p2d.config.learn import (
    Activation,
    DiscoverConfig,
    EvaluateConfig,
    FlowConfig,
    FlowSource,
    ModelConfig,
    ScoreConfig,
    Source,
    TrainSource,
    check_alpha,
)
from p2d.config.plan import PlanConfig
from p2d.config.report import ReportConfig
from p2d.config.rollout import RolloutConfig, RolloutSource
from p2d.config.run import RunConfig
from p2d.config.simulate import SimulateConfig
from p2d.config.sweep import SweepConfig

__all__ = [
    "Activation",
    "Config",
    "DatasetName",
    "DenoiseConfig",
    "DiscoverConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FlowConfig",
    "FlowSource",
    "ImportConfig",
    "ModelConfig",
    "PlanConfig",
    "ReportConfig",
    "RolloutConfig",
    "RolloutSource",
    "RunConfig",
    "SampleConfig",
    "ScoreConfig",
    "SimulateConfig",
    "Source",
    "SweepConfig",
    "TrainSource",
    "check_alpha",
    "of_each",
    "option",
    "refuse_other_settings",
    "settings_hash",
]
