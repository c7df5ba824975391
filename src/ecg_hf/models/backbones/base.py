"""The base classes of all backbones, their configs and outputs, and the base class of all models of the library."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput, can_return_tuple

from ecg_hf.models.config import EcgConfig


@strict
class BackboneConfig(EcgConfig):
    """Config fields that all backbones share.

    Args:
        num_leads: Leads of the input signal, L.
        hidden_size: Width of an output token, D.
        causal: Whether token n may depend only on tokens up to n.
        head: Head of the classifier built on this backbone: "linear" (mean over tokens, then a linear map) or
            "attention" (one learned query attends to the tokens).
        head_num_heads: Number of attention heads of the "attention" head.
    """

    num_leads: int = 12
    hidden_size: int = 512
    causal: bool = False
    head: str = "linear"
    head_num_heads: int = 16

    @property
    def embed_size(self) -> int:
        """Width of a token between stem and layers."""
        return self.hidden_size

    def validate_head(self) -> None:
        """Checks that the head exists and that its attention heads divide the width."""
        if self.head not in ("linear", "attention"):
            raise ValueError(f"head must be 'linear' or 'attention', got {self.head!r}")
        if self.head == "attention" and self.hidden_size % self.head_num_heads:
            raise ValueError(
                f"head_num_heads must divide hidden_size={self.hidden_size}, got {self.head_num_heads}; "
                "choose a divisor"
            )


@dataclass
class BackboneOutput(ModelOutput):
    """The output of a backbone.

    Args:
        last_hidden_state: Tokens, shape (B, N, D).
        pooler_output: Mean of the tokens over time, shape (B, D).
        hidden_states: Tokens before the first layer and after each layer; only on request.
        layer_outputs: Output of each layer's mixer alone, before dropout, residual and norm, shape (B, N, D) each; only
            on request, for objectives that regress inner layers. Layers whose tokens differ from the output in width or
            stride are left out, which leaves `Backbone.num_layer_outputs` of them.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    layer_outputs: tuple[Tensor, ...] | None = None


ALIGNMENT = 64  # bytes; alignment of torch's CPU allocations
# Attributes that transformers reads from the class of a model, and that its backbone decides.
_ABILITIES = ("_supports_sdpa", "_supports_flash_attn", "_supports_flex_attn", "_supports_attention_backend")


class Drawn(nn.Module):
    """A module that initialises tensors of its own, besides those of its linear maps and norms.

    If `undecayed` is set, weight decay skips these tensors, as pulling them to zero is no regularisation.
    """

    undecayed: ClassVar[bool] = False

    def reset(self) -> None:
        """Initialises the module's own tensors with `transformers.initialization`, which skips loaded tensors."""
        raise NotImplementedError


class EcgModel(PreTrainedModel):
    """The base class of all models of the library: a `PreTrainedModel` of signals, with torch's own initialisation."""

    config: "BackboneConfig"

    main_input_name = "signal"
    input_modalities = ["time"]  # noqa: RUF012
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    # The models average their loss themselves; otherwise Trainer would multiply it by the accumulation steps.
    accepts_loss_kwargs = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Copies the attention abilities of the backbone class; without them, a model falls back to eager attention."""
        super().__init_subclass__(**kwargs)
        if "backbone_class" in vars(cls):
            for ability in _ABILITIES:
                setattr(cls, ability, getattr(vars(cls)["backbone_class"], ability))

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Loads a model as transformers does, with weights aligned in memory like those of a new model.

        The weights of a file are mapped into memory from where the header of the file ends, and CPU matrix products
        round differently on unaligned memory: a loaded model would differ from the saved one in the last bit.

        Args:
            args: Positional arguments of `PreTrainedModel.from_pretrained`.
            kwargs: Keyword arguments of `PreTrainedModel.from_pretrained`.

        Returns:
            The model, or a tuple of the model and a loading report, as in `PreTrainedModel.from_pretrained`.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_cpu and tensor.data_ptr() % ALIGNMENT:
                tensor.data = tensor.data.clone()
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, Drawn):
            module.reset()
        else:
            super()._init_weights(module)


class Backbone(EcgModel):
    """A network that maps signals (B, L, T), prepared by the feature extractor of the model, to tokens (B, N, D).

    A subclass sets `config_class` and builds `stem` (from signals to tokens) and `layers` (each from tokens to tokens
    and the output of its mixer). If its layers change the width or the stride of tokens, it overrides the properties
    and methods that depend on them. All buffers are persistent. A backbone knows no objective, label or mask. `sizes`
    holds config fields by the name of the size, such as "20k".

    Example:
        >>> import torch
        >>> from ecg_hf.models.backbones.s4 import EcgS4Backbone, EcgS4Config
        >>> backbone = EcgS4Backbone(EcgS4Config(**EcgS4Backbone.sizes["20k"]))
        >>> backbone(torch.randn(2, 12, 600)).last_hidden_state.shape  # 2 samples per token, width 38
        torch.Size([2, 300, 38])
    """

    config_class: type[BackboneConfig]
    sizes: ClassVar[dict[str, dict[str, Any]]] = {}
    stem: nn.Module
    layers: nn.ModuleList
    # The checkpoint of a pair also holds an objective, that of a classifier a head; a backbone needs neither.
    _keys_to_ignore_on_load_unexpected = [r"^objective\.", r"^head\."]  # noqa: RUF012

    @property
    def embed_stride(self) -> int:
        """Samples per token between stem and layers."""
        raise NotImplementedError

    @property
    def stride(self) -> int:
        """Samples per output token, a multiple of `embed_stride`."""
        return self.embed_stride

    @property
    def num_layer_outputs(self) -> int:
        """Number of last layers whose tokens have the width and stride of the output."""
        return len(self.layers)

    def num_tokens(self, num_samples: int) -> int:
        """Computes the number of output tokens N of a signal with `num_samples` samples T."""
        return -(-num_samples // self.stride)

    def embed(self, signal: Tensor) -> Tensor:
        """Computes the stem's tokens of signals.

        Args:
            signal: Signals, prepared by the feature extractor of the model, shape (B, L, T).

        Returns:
            Tokens that only the stem has mixed, shape (B, ceil(T / embed_stride), embed_size).

        Raises:
            ValueError: If the signal does not have the shape (B, L, T).
            TypeError: If the samples are not floating-point numbers.
        """
        if signal.dim() != 3 or signal.shape[1] != self.config.num_leads:
            raise ValueError(
                f"signal must have the shape (B, {self.config.num_leads}, T), got {tuple(signal.shape)}; "
                "order the axes as batch, leads, time, or set config.num_leads"
            )
        if not signal.is_floating_point():
            raise TypeError(
                f"signal must be real numbers in the model's unit, got {signal.dtype}; convert ADC units first"
            )
        tokens: Tensor = self.stem(signal.to(self.dtype))
        return tokens

    def encode(
        self, tokens: Tensor, *, output_hidden_states: bool = False, output_layer_outputs: bool = False
    ) -> BackboneOutput:
        """Runs the layers over the stem's tokens.

        Args:
            tokens: Tokens of `embed`, some of which an objective may have hidden.
            output_hidden_states: Whether to return the tokens before the first layer and after each layer.
            output_layer_outputs: Whether to return the outputs of the mixers.

        Returns:
            Tokens, shape (B, N, D), their mean over time, shape (B, D), and the requested states and outputs.
        """
        states, outputs = [tokens], []
        for layer in self.layers:
            tokens, mixed = layer(tokens)
            # Kept only on request, since a list would hold the tokens of all layers in memory.
            states += [tokens] if output_hidden_states else []
            outputs += [mixed] if output_layer_outputs else []
        tokens = self.finish(tokens)
        return BackboneOutput(
            last_hidden_state=tokens,
            pooler_output=tokens.mean(dim=1),
            hidden_states=tuple(states) if output_hidden_states else None,
            layer_outputs=tuple(outputs) if output_layer_outputs else None,
        )

    def finish(self, tokens: Tensor) -> Tensor:
        """Computes the output from the last layer's tokens (B, N, D); a backbone with a last norm applies it here."""
        return tokens

    def forward_flops(self, num_samples: int) -> int:
        """Counts the multiplications and additions of one forward pass over a crop of `num_samples` samples T."""
        with torch.device("meta"):
            copy = type(self)(self.config).eval()
            signal = torch.empty(1, self.config.num_leads, num_samples)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy(signal)
        return int(counter.get_total_flops())

    def parameter_groups(self) -> dict[str, list[str]]:
        """Groups all parameter names into "stem" and "trunk" (everything else), for layer-wise learning rates."""
        groups: dict[str, list[str]] = {"stem": [], "trunk": []}
        for name, _ in self.named_parameters():
            groups["stem" if name.startswith("stem.") else "trunk"].append(name)
        return groups

    def adapter_modules(self) -> list[str]:
        """Lists the names of the linear maps and convolutions in the layers that LoRA and similar methods can adapt.

        Convolutions of a subclass, with padding of its own, cannot be adapted. Grouped convolutions are left out since
        their adapters could not be merged.
        """
        return [
            name
            for name, module in self.layers.named_modules(prefix="layers")
            if type(module) is nn.Linear or (type(module) is nn.Conv1d and module.groups == 1)
        ]

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(
        self, signal: Tensor, *, output_hidden_states: bool | None = None, output_layer_outputs: bool = False, **_: Any
    ) -> BackboneOutput:
        """Computes the output tokens of signals, and their mean.

        Args:
            signal: Signals, prepared by the feature extractor of the model, shape (B, L, T).
            output_hidden_states: Whether to return the tokens before the first layer and after each layer; the config
                decides if None.
            output_layer_outputs: Whether to return the outputs of the mixers.
            _: Other arguments that transformers passes to every model; they are ignored.

        Returns:
            Tokens, shape (B, N, D), their mean over time, shape (B, D), and the requested states and outputs.
        """
        tokens = self.embed(signal)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return self.encode(tokens, output_hidden_states=bool(wanted), output_layer_outputs=output_layer_outputs)
