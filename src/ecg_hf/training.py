"""Pretraining a pair: the step loop, one log row per step, checkpoints that survive anything."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor
from tqdm.auto import tqdm

from ecg_hf.arguments import PretrainingArguments
from ecg_hf.batch_norms import regather
from ecg_hf.checkpoints import newest_checkpoint, partial_folder, prune_checkpoints, seal
from ecg_hf.collapse import watch_for_collapse
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.files import read_json, write_json
from ecg_hf.interruption import Interruption
from ecg_hf.loader import EcgLoader, MixedCrops, StepBatches, tile_batches
from ecg_hf.optimization import LEARNING_RATE_SCALES, learning_rate_factor, parameter_groups
from ecg_hf.pretraining import Pair
from ecg_hf.progress import TrainingState
from ecg_hf.run_log import RunLog

NORM_BATCHES = 32  # that the final statistics of batch norms come from


class Pretrainer:
    """The loop that moves a pair's weights.

    Every random number is a function of (seed, step, rank), so a run continues from a checkpoint exactly as if it had
    never stopped.

    Args:
        arguments: What decides the run.
        pair: The model.
        train: Crops by position.
        validation: Records to validate on, and their labels if the objective wants them.
    """

    def __init__(
        self,
        arguments: PretrainingArguments,
        pair: Pair,
        train: MixedCrops,
        validation: MixedCrops,
    ):
        self.arguments = arguments
        self.folder = Path(arguments.output_dir)
        self.checkpoints, self.best = self.folder / "checkpoints", self.folder / "best"
        self.log = RunLog(self.folder)
        self.train, self.validation, self.num_samples = train, validation, train.num_samples
        self.accelerator = Accelerator(
            mixed_precision=arguments.mixed_precision,
            log_with=list(arguments.trackers) or None,
            project_dir=self.folder,
            dynamo_backend="inductor" if arguments.compile else None,
        )
        self.batch_size = arguments.batch_size * arguments.gradient_accumulation_steps * self.accelerator.num_processes
        groups = parameter_groups(
            pair,
            arguments.learning_rate,
            arguments.weight_decay,
            LEARNING_RATE_SCALES[arguments.learning_rate_scales],
        )
        optimizer = torch.optim.AdamW(groups)
        self.pair, self.optimizer = self.accelerator.prepare(pair, optimizer)
        self.state = TrainingState()
        self.interruption = Interruption()

    def fit(self) -> Pair:
        """Runs to the end, or to an interruption.

        Returns:
            The trained pair; with early stopping, that of the best validation.

        Raises:
            SystemExit: After SIGINT or SIGTERM, with a checkpoint written.
            FloatingPointError: If too many steps in a row have a gradient that is not finite.
            EcgCollapseError: If representations have collapsed and `arguments.on_collapse` is "stop".
        """
        self._start()
        arguments, main = self.arguments, self.accelerator.is_main_process
        with self.interruption, tqdm(total=arguments.max_steps, initial=self.state.step, disable=not main) as bar:
            for batches in self._batches():
                row = self._step(batches)
                last = self.state.step == arguments.max_steps
                if last or (arguments.validation_steps and self.state.step % arguments.validation_steps == 0):
                    row["validation_loss"] = self._validate()
                self._log(row)
                self.state.collapsed = watch_for_collapse(row, self.state.collapsed, arguments)
                bar.update()
                bar.set_postfix(loss=f"{row['loss']:.4g}")
                enough = 0 < arguments.early_stopping_patience <= self.state.waited
                if self._interrupted() or last or enough or self.state.step % arguments.checkpoint_steps == 0:
                    self._checkpoint()
                if self.interruption.number is not None:
                    raise SystemExit(128 + self.interruption.number)
                if enough:
                    break
        self.accelerator.wait_for_everyone()
        pair = type(self._unwrapped()).from_pretrained(self.best) if self.best.exists() else self._unwrapped()
        regather(pair.backbone, self._whole_batches(pair.device))
        return pair

    def _whole_batches(self, device: torch.device) -> Iterator[Tensor]:
        """The first batches of the run, the same for all ranks."""
        size = self.arguments.batch_size
        for number in range(min(NORM_BATCHES, self.state.step)):
            yield self.train.__getitems__(list(range(number * size, (number + 1) * size)))["signal"].to(device)

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.arguments.trackers:
            config = {name: str(value) for name, value in asdict(self.arguments).items()}
            self.accelerator.init_trackers("ecg_hf", config=config)
        checkpoint = newest_checkpoint(self.checkpoints) if self.arguments.resume else None
        if checkpoint is not None:
            self._load(checkpoint)
        elif self.accelerator.is_main_process and not self.arguments.resume and self.checkpoints.exists():
            raise EcgCheckpointError(
                f"{self.folder} already holds checkpoints of a run; continue it with resume=True, or choose another "
                "folder"
            )
        if self.accelerator.is_main_process:
            self.log.truncate(self.state.step)
            if checkpoint is None:
                # a run that was killed before its first checkpoint may have left its best weights
                shutil.rmtree(self.best, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    def _identity(self) -> dict[str, Any]:
        fingerprints = [split.fingerprint for split in self.train.splits]
        return self.arguments.identity() | {"world_size": self.accelerator.num_processes, "data": fingerprints}

    def _load(self, checkpoint: Path) -> None:
        saved = read_json(checkpoint / "state.json")
        own = self._identity()
        changed = [name for name in own if saved["arguments"].get(name) != own[name]]
        if changed:
            raise EcgCheckpointError(
                f"{checkpoint} belongs to a run with {changed[0]}={saved['arguments'].get(changed[0])!r}, got "
                f"{own[changed[0]]!r}; repeat the run's own arguments, or start in another folder"
            )
        self.accelerator.load_state(str(checkpoint))
        self.state = TrainingState(**saved["state"])

    def _batches(self) -> Iterator[list[dict[str, Tensor]]]:
        arguments = self.arguments
        accumulation = arguments.gradient_accumulation_steps
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        steps = range(self.state.step, arguments.max_steps)
        batches = StepBatches(steps, self.batch_size, rank, world, accumulation)
        loader = iter(EcgLoader(self.train, batches, arguments.num_workers))
        for _ in steps:
            yield [send_to_device(next(loader), self.accelerator.device) for _ in range(accumulation)]

    def _step(self, batches: list[dict[str, Tensor]]) -> dict[str, Any]:
        """Takes one optimizer step and gives its log row."""
        started = time.perf_counter()
        arguments, step = self.arguments, self.state.step
        words = np.random.SeedSequence([arguments.seed, step, self.accelerator.process_index]).generate_state(1)
        torch.manual_seed(int(words[0]))
        factor = learning_rate_factor(
            step, max_steps=arguments.max_steps, warmup_steps=arguments.warmup_steps, schedule=arguments.schedule
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        totals = self._backward(batches)
        norm = self.accelerator.clip_grad_norm_(self.pair.parameters(), arguments.max_grad_norm or float("inf"))
        finite = bool(torch.isfinite(norm))
        self._move(finite)
        self.state.step += 1
        elapsed = time.perf_counter() - started
        self.state.seconds += elapsed
        return {
            "step": self.state.step,
            **totals,
            "grad_norm": norm.item() if finite else None,
            "learning_rate": arguments.learning_rate * factor,
            "crops_per_second": self.batch_size / elapsed,
            "seconds": self.state.seconds,
        }

    def _backward(self, batches: list[dict[str, Tensor]]) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(batches, start=1):
            last = number == len(batches)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.pair):
                output = self.pair(**batch)
                self.accelerator.backward(output.loss / len(batches))
            for name, value in {"loss": output.loss.detach(), **(output.metrics or {})}.items():
                sums[name] = sums.get(name, 0) + value.float() / len(batches)
        return {name: float(self.accelerator.reduce(value, "mean")) for name, value in sums.items()}

    def _move(self, finite: bool) -> None:
        # fp16 finds its scale by overflowing; its scaler must see the step to lower the scale, and skips it itself.
        if finite or self.arguments.mixed_precision == "fp16":
            self.optimizer.step()
            self._unwrapped().after_step()
        self.optimizer.zero_grad()
        self.state.nonfinite = 0 if finite else self.state.nonfinite + 1
        self.state.skipped += not finite
        if self.state.nonfinite >= self.arguments.max_nonfinite_steps:
            raise FloatingPointError(
                f"the gradient was not finite for {self.state.nonfinite} steps in a row, up to step "
                f"{self.state.step + 1}; lower learning_rate, use bf16 or no mixed precision, and start again"
            )

    def _validate(self) -> float:
        """Computes the validation loss and notes whether it is the best so far."""
        loss = self._loss_on_validation()
        self.state.waited += 1
        if self.state.best_loss is None or loss < self.state.best_loss:
            self.state.best_loss, self.state.best_step, self.state.waited = loss, self.state.step, 0
            if self.arguments.early_stopping_patience and self.accelerator.is_main_process:
                partial = partial_folder(self.best)
                self._unwrapped().save_pretrained(partial)
                seal(partial, self.best)
        return loss

    @torch.no_grad()
    def _loss_on_validation(self) -> float:
        accelerator = self.accelerator
        pair = self._unwrapped().eval()
        batches = tile_batches(
            self.validation.splits,
            self.validation.targets,
            self.num_samples,
            self.arguments.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
        )
        sums = torch.zeros(2, dtype=torch.float64, device=accelerator.device)
        for batch in batches:
            with accelerator.autocast():
                loss = pair(**send_to_device(batch, accelerator.device)).loss
            size = len(batch["signal"])
            sums += torch.stack([loss.double() * size, torch.full_like(loss, size, dtype=torch.float64)])
        pair.train()
        total, count = accelerator.reduce(sums, "sum").tolist()
        return float(total / count)

    def _unwrapped(self) -> Pair:
        pair: Pair = self.accelerator.unwrap_model(self.pair, keep_torch_compile=False)
        return pair

    def _interrupted(self) -> bool:
        """Says whether any rank was interrupted; all ranks must agree, or one would wait for ever."""
        flag = torch.tensor(self.interruption.number or 0, device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            flag = self.accelerator.gather(flag).max()
        self.interruption.number = int(flag) or None
        return self.interruption.number is not None

    def _log(self, row: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self.log.append(row)
        numbers = {name: value for name, value in row.items() if name != "step" and value is not None}
        self.accelerator.log(numbers, step=row["step"])

    def _checkpoint(self) -> None:
        target = self.checkpoints / f"step-{self.state.step:08d}"
        partial = target.with_name(f".{target.name}.partial")
        main = self.accelerator.is_main_process
        weights = self._unwrapped().state_dict().items()
        broken = [name for name, value in weights if value.is_floating_point() and not value.isfinite().all()]
        if broken:
            raise EcgCheckpointError(
                f"{len(broken)} tensors such as {broken[0]} are not finite at step {self.state.step}, so no checkpoint "
                "is written; start again with a lower learning_rate"
            )
        if main:
            partial_folder(target)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        self.accelerator.wait_for_everyone()
        if main:
            write_json(partial / "state.json", {"state": asdict(self.state), "arguments": self._identity()})
            seal(partial, target)
            prune_checkpoints(self.checkpoints, self.arguments.num_checkpoints)
        self.accelerator.wait_for_everyone()
