"""One optimizer step, entirely on the device: the host reads its metrics while the next step runs."""

import contextlib
import math
import signal
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ecg_hf.models.pairs import Pair
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.optimization import LEARNING_RATE_SCALES, learning_rate_factor, parameter_groups

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StepReport:
    """The metrics of a step, on their way from the device to the host.

    Args:
        step: Number of the step, from 1.
        names: Names of the metrics.
        values: Metrics and then a flag for each of `SIGNALS`, averaged over the processes.
        learning_rate: Learning rate of the step.
    """

    def __init__(self, step: int, names: list[str], values: Tensor, learning_rate: float):
        self.step, self.names, self.learning_rate = step, names, learning_rate
        self.elapsed = self.waited = 0.0
        self._arrived: torch.cuda.Event | None = None
        self._values = values
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=True).copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> tuple[dict[str, float], int | None]:
        """Waits for the values.

        Returns:
            Metrics by name, and the signal that any process has received; None if there is no signal.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        *values, interrupted, terminated = self._values.tolist()
        number = SIGNALS[1] if terminated else SIGNALS[0] if interrupted else None
        return dict(zip(self.names, values, strict=True)), number


class TrainStep:
    """An optimizer step, which moves a pair's weights by one batch.

    Every random number of a step is a function of (seed, step, rank). A step whose gradient is not finite moves
    nothing: neither weights nor optimizer, teacher, codebooks or batch-norm statistics.

    Args:
        arguments: Arguments of the run.
        accelerator: Accelerator of the run.
        pair: Pair to train, not yet prepared by the Accelerator.
    """

    def __init__(self, arguments: PretrainingArguments, accelerator: Accelerator, pair: Pair):
        self.arguments, self.accelerator = arguments, accelerator
        scales = LEARNING_RATE_SCALES[arguments.learning_rate_scales]
        groups = parameter_groups(pair, arguments.learning_rate, arguments.weight_decay, scales)
        # Only the fused optimizer can skip a step without asking the host.
        self.model, self.optimizer = accelerator.prepare(pair, torch.optim.AdamW(groups, fused=True))
        # Unwrapped from DDP and torch.compile.
        self.pair: Pair = accelerator.unwrap_model(self.model, keep_torch_compile=False)
        self.adam: Any = self.optimizer.optimizer

    def run(self, step: int, batches: list[dict[str, Tensor]], interruption: int | None = None) -> StepReport:
        """Runs one step.

        Args:
            step: Number of steps that were run before.
            batches: Micro-batches of this process.
            interruption: Signal that this process has received, which the report passes on to all processes.

        Returns:
            The report of the step.
        """
        arguments = self.arguments
        words = np.random.SeedSequence([arguments.seed, step, self.accelerator.process_index]).generate_state(1)
        torch.manual_seed(int(words[0]))
        factor = learning_rate_factor(
            step, max_steps=arguments.max_steps, warmup_steps=arguments.warmup_steps, schedule=arguments.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        statistics = batch_norm_statistics(self.pair)
        before = [value.clone() for value in statistics]
        sums = self._backward(batches)
        norm = self._clip()
        self._move(norm.isfinite(), statistics, before)
        device = norm.device
        flags = [torch.full((), float(interruption == number), device=device) for number in SIGNALS]
        values = torch.stack([*sums.values(), norm.float(), *flags])
        values = self.accelerator.reduce(values, "mean")
        return StepReport(step + 1, [*sums, "grad_norm"], values, arguments.learning_rate * factor)

    def _backward(self, batches: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    output = self.model(**batch)
                self.accelerator.backward(output.loss / len(batches))
            for name, value in {"loss": output.loss.detach(), **(output.metrics or {})}.items():
                sums[name] = sums.get(name, 0) + value.float() / len(batches)
        return sums

    def _clip(self) -> Tensor:
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.arguments.max_grad_norm or math.inf)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _move(self, finite: Tensor, statistics: list[Tensor], before: list[Tensor]) -> None:
        if self.accelerator.scaler is None:  # a scaler finds out by itself, and lowers its scale
            self.adam.found_inf = (~finite).float()
        self.optimizer.step()
        self.pair.after_step(finite)
        for value, old in zip(statistics, before, strict=True):
            value.copy_(torch.where(finite, value, old))
        self._agree([value for value in statistics if value.is_floating_point()])
        self.optimizer.zero_grad()

    def _agree(self, statistics: list[Tensor]) -> None:
        """Averages statistics of each process' own crops over the processes, so that all hold the same model."""
        if statistics and self.accelerator.num_processes > 1:
            together = self.accelerator.reduce(torch.cat([value.flatten() for value in statistics]), "mean")
            for value, mean in zip(statistics, together.split([value.numel() for value in statistics]), strict=True):
                value.copy_(mean.view_as(value))


def batch_norm_statistics(model: nn.Module) -> list[Tensor]:
    """Lists the running statistics of a model's batch norms that a forward pass updates."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [value for norm in norms if norm.training for value in norm.buffers()]
