"""The base class of all model configs, which refuses unknown keys."""

from typing import Any

from transformers import PreTrainedConfig

_BASE_FIELDS = frozenset(PreTrainedConfig.__dataclass_fields__)
_BASE_KEYS = _BASE_FIELDS | {
    "name_or_path",
    "num_labels",
    "torch_dtype",
    "output_attentions",
    "attn_implementation",
    "experts_implementation",
    "model_type",
    "auto_map",
    "use_cache",  # Trainer writes it into every config
}


class EcgConfig(PreTrainedConfig):
    """A config that raises TypeError for keys it does not declare, so that a typo is an error."""

    def __post_init__(self, **kwargs: Any) -> None:
        unknown = sorted(key for key in kwargs if key not in _BASE_KEYS and not key.startswith("_"))
        if unknown:
            own = sorted(set(self.__dataclass_fields__) - _BASE_FIELDS)
            raise TypeError(f"{type(self).__name__} has no field {unknown[0]!r}; its fields are {own}")
        super().__post_init__(**kwargs)
