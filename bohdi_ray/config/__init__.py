"""Every setting of a fusion, with its rule and its default: `FusionConfig` and its sections, to be imported from here.

Read from YAML and overrides by loading.py; what is refused, in words, by errors.py.
"""

from bohdi_ray.config.fusion_config import FusionConfig
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
    NEEDS_TWO,
    NOT_ONES_OWN,
    SCORING,
    BanditConfig,
    DeadlineConfig,
    EnlightenmentConfig,
    HarvestConfig,
    JudgeConfig,
    JudgePolicy,
    MeditationConfig,
    ObserveConfig,
    ScheduleConfig,
    SproutConfig,
    StopConfig,
    TrainingConfig,
    TreeConfig,
    WeightsConfig,
)

__all__ = [
    "DEFAULT_STYLES",
    "NEEDS_TWO",
    "NOT_ONES_OWN",
    "ROLE_DEFAULTS",
    "SCORING",
    "BanditConfig",
    "DeadlineConfig",
    "EngineArgs",
    "EnlightenmentConfig",
    "FusionConfig",
    "HarvestConfig",
    "JudgeConfig",
    "JudgePolicy",
    "MeditationConfig",
    "ModelBase",
    "ObserveConfig",
    "OpenAIModel",
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
