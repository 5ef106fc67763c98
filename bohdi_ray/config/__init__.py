"""Every setting of a fusion, with its rule and its default: `FusionConfig` and its sections, to be imported from here.

Read from YAML and overrides by loading.py; what is refused, in words, by errors.py.
"""

from bohdi_ray.config.fusion_config import FusionConfig
from bohdi_ray.config.kinds.bandits import BANDITS, BanditSection
from bohdi_ray.config.kinds.judges import JUDGES, JudgeSection
from bohdi_ray.config.kinds.questions import QUESTIONS, QuestionsSection
from bohdi_ray.config.models import (
    ROLE_DEFAULTS,
    EngineArgs,
    ModelBase,
    OpenAIModel,
    ReplicaRange,
    ReplicaResources,
    RoleSampling,
    Sampling,
    SourceModel,
    VllmModel,
)
from bohdi_ray.config.section_base import Section
from bohdi_ray.config.sections import (
    DEFAULT_STYLES,
    DeadlineConfig,
    EnlightenmentConfig,
    EvaluateConfig,
    HarvestConfig,
    MeditationConfig,
    ObserveConfig,
    SproutConfig,
    StopConfig,
    TreeConfig,
    WeightsConfig,
)
from bohdi_ray.config.training import ScheduleConfig, TrainingConfig

__all__ = [
    "BANDITS",
    "DEFAULT_STYLES",
    "JUDGES",
    "QUESTIONS",
    "ROLE_DEFAULTS",
    "BanditSection",
    "DeadlineConfig",
    "EngineArgs",
    "EnlightenmentConfig",
    "EvaluateConfig",
    "FusionConfig",
    "HarvestConfig",
    "JudgeSection",
    "MeditationConfig",
    "ModelBase",
    "ObserveConfig",
    "OpenAIModel",
    "QuestionsSection",
    "ReplicaRange",
    "ReplicaResources",
    "RoleSampling",
    "Sampling",
    "ScheduleConfig",
    "Section",
    "SourceModel",
    "SproutConfig",
    "StopConfig",
    "TrainingConfig",
    "TreeConfig",
    "VllmModel",
    "WeightsConfig",
]
