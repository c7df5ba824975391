"""What every backbone promises: `embed`, then `encode`."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils.generic import ModelOutput

from ecg_hf.config import EcgConfig


@strict
class BackboneConfig(EcgConfig):
    """Fields that every backbone has.

    Args:
        num_leads: Leads of the input signal, L.
        hidden_size: Width of a token, D.
        num_layers: Layers between the stem and the output.
        causal: Whether token n may depend only on tokens up to n.
        head: Readout of the classifier built on this backbone: "linear" (mean over tokens, then a linear map) or
            "attention" (one learned query attends to the tokens).
        head_num_heads: Attention heads of the "attention" readout.
    """

    num_leads: int = 12
    hidden_size: int = 512
    num_layers: int = 4
    causal: bool = False
    head: str = "linear"
    head_num_heads: int = 16

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
        hidden_states: The tokens before the first layer and after each, (B, N, D) each; given on request.
        layer_outputs: What each layer's mixer alone gave, before dropout, residual and norm, (B, N, D) each; given
            on request, for objectives that regress inner layers.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    layer_outputs: tuple[Tensor, ...] | None = None


ALIGNMENT = 64  # bytes, of torch's CPU allocations


class EcgModel(PreTrainedModel):
    """The base of every model of the library: torch's own initialisation, and transformers' contract for a signal."""

    config: "BackboneConfig"

    main_input_name = "signal"
    input_modalities = ["time"]  # noqa: RUF012
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    # The models average their loss themselves; with this, Trainer does not multiply it by the accumulation steps.
    accepts_loss_kwargs = False

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
        else:
            super()._init_weights(module)


class Backbone(EcgModel):
    """Maps a signal in the unit of its input contract, (B, L, T), to tokens, (B, N, D).

    A subclass names its config, builds its layers and implements `embed` and `encode`. All its buffers are
    persistent; it knows no objective, label or mask. `sizes` is its one dial: config fields by name of the size.
    """

    config_class: type[BackboneConfig]
    sizes: ClassVar[dict[str, dict[str, Any]]] = {}
    # A pair's checkpoint also holds its objective, and a classifier's its head; neither is the backbone's business.
    _keys_to_ignore_on_load_unexpected = [r"^objective\.", r"^head\."]  # noqa: RUF012

    def embed(self, signal: Tensor) -> Tensor:
        """Turns a signal (B, L, T) into tokens (B, N, D), before any mixing over time beyond the stem's."""
        raise NotImplementedError

    def encode(
        self, tokens: Tensor, *, output_hidden_states: bool = False, output_layer_outputs: bool = False
    ) -> BackboneOutput:
        """Mixes tokens (B, N, D) over time."""
        raise NotImplementedError

    def num_tokens(self, num_samples: int) -> int:
        """Says how many tokens N a signal of `num_samples` samples T gives."""
        raise NotImplementedError

    def forward_flops(self, num_samples: int) -> int:
        """Counts multiplications and additions of one forward pass over a crop of `num_samples` samples T."""
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, list[str]]:
        """Names the parameters of the "stem" and of the "trunk", for layer-wise learning rates."""
        groups: dict[str, list[str]] = {"stem": [], "trunk": []}
        for name, _ in self.named_parameters():
            groups["stem" if name.startswith("stem.") else "trunk"].append(name)
        return groups

    def undecayed_parameters(self) -> list[str]:
        """Names the parameters with several dimensions that weight decay must spare, such as those of a state space."""
        return []

    def forward(
        self, signal: Tensor, *, output_hidden_states: bool | None = None, output_layer_outputs: bool = False, **_: Any
    ) -> BackboneOutput:
        """Embeds, encodes and pools; further keyword arguments are those transformers passes to every model."""
        tokens = self.embed(signal)
        return self.encode(
            tokens,
            output_hidden_states=bool(output_hidden_states),
            output_layer_outputs=output_layer_outputs,
        )
