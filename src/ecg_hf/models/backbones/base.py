"""What every backbone promises: `embed`, then `encode`."""

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
    """Fields that every backbone has.

    Args:
        num_leads: Leads of the input signal, L.
        hidden_size: Width of an output token, D.
        causal: Whether token n may depend only on tokens up to n.
        head: Readout of the classifier built on this backbone: "linear" (mean over tokens, then a linear map) or
            "attention" (one learned query attends to the tokens).
        head_num_heads: Attention heads of the "attention" readout.
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
        """Checks that the readout exists and that its heads divide the width."""
        if self.head not in ("linear", "attention"):
            raise ValueError(f"head must be 'linear' or 'attention', got {self.head!r}")
        if self.head == "attention" and self.hidden_size % self.head_num_heads:
            raise ValueError(
                f"head_num_heads must divide hidden_size={self.hidden_size}, got {self.head_num_heads}; "
                "choose a divisor"
            )


@dataclass
class BackboneOutput(ModelOutput):
    """What a backbone gives.

    Args:
        last_hidden_state: Tokens, (B, N, D).
        pooler_output: Their mean over time, (B, D).
        hidden_states: The tokens before the first layer and after each; given on request.
        layer_outputs: What each layer's mixer alone gave, before dropout, residual and norm, (B, N, D) each; given
            on request, for objectives that regress inner layers. Layers whose tokens have another width or stride
            than the output's are left out, so that there are as many as `Backbone.num_layer_outputs`.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    layer_outputs: tuple[Tensor, ...] | None = None


ALIGNMENT = 64  # bytes, of torch's CPU allocations
# What transformers asks of a model's class, and only the class of its backbone can answer.
_ABILITIES = ("_supports_sdpa", "_supports_flash_attn", "_supports_flex_attn", "_supports_attention_backend")


class Drawn(nn.Module):
    """A module that draws parameters of its own, which are neither a linear map's nor a norm's.

    Weight decay spares them if `undecayed` says that pulling them to zero is no regularisation.
    """

    undecayed: ClassVar[bool] = False

    def reset(self) -> None:
        """Draws them with `transformers.initialization`, which leaves alone what was loaded."""
        raise NotImplementedError


class EcgModel(PreTrainedModel):
    """The base of every model of the library: torch's own initialisation, and transformers' contract for a signal."""

    config: "BackboneConfig"

    main_input_name = "signal"
    input_modalities = ["time"]  # noqa: RUF012
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    # The models average their loss themselves; with this, Trainer does not multiply it by the accumulation steps.
    accepts_loss_kwargs = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lets a model that is built on a backbone attend as the backbone can; left alone, it would attend eagerly."""
        super().__init_subclass__(**kwargs)
        if "backbone_class" in vars(cls):
            for ability in _ABILITIES:
                setattr(cls, ability, getattr(vars(cls)["backbone_class"], ability))

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Loads a model as transformers does, with its weights in memory that is aligned as that of a fresh model.

        A weights file is mapped into memory wherever its header ends, and CPU matrix products round differently
        there: without this, a loaded model would differ from the saved one in the last bit.
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
    """Maps a signal in the unit of its input contract, (B, L, T), to tokens, (B, N, D).

    A subclass names its config and builds `stem` (signals to tokens) and `layers` (tokens to tokens and the mixer's
    output); one whose layers change the width or the stride of tokens overrides what follows from them. All its
    buffers are persistent; it knows no objective, label or mask. `sizes` is its one dial: config fields by name.
    """

    config_class: type[BackboneConfig]
    sizes: ClassVar[dict[str, dict[str, Any]]] = {}
    stem: nn.Module
    layers: nn.ModuleList
    # A pair's checkpoint also holds its objective, and a classifier's its head; neither is the backbone's business.
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
        """How many of the last layers give tokens of the output's width and stride."""
        return len(self.layers)

    def num_tokens(self, num_samples: int) -> int:
        """Says how many tokens N a signal of `num_samples` samples T gives."""
        return -(-num_samples // self.stride)

    def embed(self, signal: Tensor) -> Tensor:
        """Turns a signal (B, L, T) into tokens (B, T / embed_stride, embed_size), before any mixing but the stem's.

        Raises:
            ValueError: If the signal has not the shape (B, L, T).
            TypeError: If it does not hold real numbers.
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
        """Mixes the tokens that `embed` gives over time, to (B, N, D)."""
        states, outputs = [tokens], []
        for layer in self.layers:
            tokens, mixed = layer(tokens)
            # A list of what nobody asked for would keep it in memory.
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
        """Turns the last layer's tokens (B, N, D) into the output; a backbone with a last norm applies it here."""
        return tokens

    def forward_flops(self, num_samples: int) -> int:
        """Counts multiplications and additions of one forward pass over a crop of `num_samples` samples T."""
        with torch.device("meta"):
            copy = type(self)(self.config).eval()
            signal = torch.empty(1, self.config.num_leads, num_samples)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            copy(signal)
        return int(counter.get_total_flops())

    def parameter_groups(self) -> dict[str, list[str]]:
        """Names the parameters of the "stem" and of the "trunk", for layer-wise learning rates."""
        groups: dict[str, list[str]] = {"stem": [], "trunk": []}
        for name, _ in self.named_parameters():
            groups["stem" if name.startswith("stem.") else "trunk"].append(name)
        return groups

    def adapter_modules(self) -> list[str]:
        """Names the linear maps and convolutions of the layers that LoRA and its like can adapt.

        They can adapt neither a convolution that pads in a way of its own nor, if they are to be merged, a grouped one.
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
        """Embeds, encodes and pools; further keyword arguments are those transformers passes to every model."""
        tokens = self.embed(signal)
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return self.encode(tokens, output_hidden_states=bool(wanted), output_layer_outputs=output_layer_outputs)
