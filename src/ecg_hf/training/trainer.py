"""The pretraining loop: optimizer steps, one log row for each, validations, checkpoints and resumption."""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import send_to_device
from torch import Tensor

from ecg_hf.data.batches import EcgLoader, MixedCrops, StepBatches
from ecg_hf.errors import EcgCheckpointError
from ecg_hf.models.pairs import Pair
from ecg_hf.output.console import Progress
from ecg_hf.output.files import read_json, sha256_of
from ecg_hf.training.arguments import PretrainingArguments
from ecg_hf.training.batch_norms import NUM_BATCHES, regather
from ecg_hf.training.checkpoints.folder import MANIFEST, BestWeights, newest_checkpoint, remove_partial
from ecg_hf.training.checkpoints.snapshot import Snapshot, require_finite, whole
from ecg_hf.training.checkpoints.writer import CheckpointWriter
from ecg_hf.training.collapse import watch_for_collapse
from ecg_hf.training.processes import Interruption, explain_failure, make_accelerator, require_same
from ecg_hf.training.run_log import RunLog, plot_run
from ecg_hf.training.state import TrainingState
from ecg_hf.training.step import StepReport, TrainStep
from ecg_hf.training.validation import validation_loss

PLOT_SECONDS = 60  # least time between two plots of a run
logger = logging.getLogger(__name__)


class Pretrainer:
    """The training loop of a pair.

    The host reads the metrics of a step while the next step runs, so their consequences (a log row, a warning, the
    end of the run) come one step later; validations and checkpoints wait for the metrics.

    Args:
        arguments: Arguments of the run.
        pair: Pair to train.
        train: Training crops, by position.
        validation: Validation records, with their labels if the objective uses labels.
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
        self.best = BestWeights(self.folder)
        self.log = RunLog(self.folder)
        self.train, self.validation, self.num_samples = train, validation, train.num_samples
        self.accelerator = make_accelerator(arguments)
        self.main = self.accelerator.is_main_process
        self.batch_size = arguments.batch_size * arguments.gradient_accumulation_steps * self.accelerator.num_processes
        self.config, self.pair_class = pair.config, type(pair)
        self.step = TrainStep(arguments, self.accelerator, pair)
        self.snapshot = Snapshot(self.step.pair, self.step.adam)
        self.writer = CheckpointWriter(self.folder / "checkpoints", arguments.num_checkpoints)
        self.state = TrainingState()
        self.interruption = Interruption()
        self.bar: Any = None
        self.stop: int | None = None  # the signal that a process has received, once all know it
        self._pending: StepReport | None = None
        self._plotted = -math.inf
        self._saved_best: int | None = None

    def fit(self) -> Pair:
        """Trains the pair to the end of the run, or to an interruption.

        Returns:
            The trained pair; with early stopping, the pair at its best validation.

        Raises:
            SystemExit: After SIGINT or SIGTERM, with a checkpoint written.
            FloatingPointError: If too many steps in a row have a gradient that is not finite.
            EcgCollapseError: If representations have collapsed and `arguments.on_collapse` is "stop".
            EcgCheckpointError: If a checkpoint cannot be read or written.
            EcgProcessError: If another process of the run is gone or does not answer.
        """
        with explain_failure(self.accelerator.num_processes, self.arguments.timeout_s):
            self._start()
            steps = Progress("training", self.arguments.max_steps, initial=self.state.step, shown=self.main)
            with self.interruption, self.writer, steps as self.bar:
                self._loop()
            self.accelerator.wait_for_everyone()
            pair = self._trained()
        first = self.train.first_batches(min(NUM_BATCHES, self.state.step), self.arguments.batch_size)
        regather(pair.backbone, (batch["signal"].to(pair.device) for batch in first))
        return pair

    def _loop(self) -> None:
        arguments, clock = self.arguments, time.perf_counter()
        if self._waited_enough():
            return  # the run had stopped early before it was resumed
        for batches, waited in self.batches(range(self.state.step, arguments.max_steps)):
            report = self.step.run(self.state.step, batches, self.interruption.number)
            self._settle()
            now = time.perf_counter()
            report.waited, report.elapsed, clock = waited, now - clock, now
            self.state.step, self._pending = report.step, report
            last = report.step == arguments.max_steps
            if last or (arguments.validation_steps and report.step % arguments.validation_steps == 0):
                self._settle(validation_loss=self._validate())
                self._plot()
                last |= self._waited_enough()
            if last or self.stop is not None or report.step % arguments.checkpoint_steps == 0:
                self._settle()
                self._checkpoint()
                if self.stop is not None:
                    raise SystemExit(128 + self.stop)
                if last:
                    return
            clock = now if self._pending else time.perf_counter()

    def _waited_enough(self) -> bool:
        return 0 < self.arguments.early_stopping_patience <= self.state.waited

    def batches(self, steps: range) -> Iterator[tuple[list[dict[str, Tensor]], float]]:
        """Yields the micro-batches of this process for each step, and the seconds spent waiting for them."""
        arguments = self.arguments
        accumulation = arguments.gradient_accumulation_steps
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = StepBatches(steps, self.batch_size, rank, world, accumulation)
        loader = iter(EcgLoader(self.train, batches, arguments.num_workers))
        for _ in steps:
            started = time.perf_counter()
            loaded = [next(loader) for _ in range(accumulation)]
            waited = time.perf_counter() - started
            yield [send_to_device(batch, self.accelerator.device, non_blocking=True) for batch in loaded], waited

    def _settle(self, **measured: float) -> None:
        """Reads the metrics of the last step, unless they have been read, logs them and acts on them."""
        report, self._pending = self._pending, None
        if report is None:
            return
        values, self.stop = report.read()
        finite = math.isfinite(values["grad_norm"])
        self.state.seconds += report.elapsed
        self.state.nonfinite = 0 if finite else self.state.nonfinite + 1
        self.state.skipped += not finite
        row: dict[str, Any] = {
            "step": report.step,
            **values,
            "grad_norm": values["grad_norm"] if finite else None,
            "learning_rate": report.learning_rate,
            "crops_per_second": self.batch_size / report.elapsed,
            "wait_seconds": report.waited,
            "seconds": self.state.seconds,
            "skipped_steps": self.state.skipped,
            **measured,
        }
        self._log(row)
        if self.state.nonfinite >= self.arguments.max_nonfinite_steps:
            raise FloatingPointError(
                f"the gradient was not finite for {self.state.nonfinite} steps in a row, up to step {report.step}; "
                "lower learning_rate, use bf16 or no mixed precision, and start again"
            )
        self.state.collapsed = watch_for_collapse(row, self.state.collapsed, self.arguments)

    def _log(self, row: dict[str, Any]) -> None:
        if self.main:
            self.log.append(row)
        numbers = {name: value for name, value in row.items() if name != "step" and value is not None}
        self.accelerator.log(numbers, step=row["step"])
        self.bar.update(loss=f"{row['loss']:.4g}", crops_s=f"{row['crops_per_second']:.0f}")

    def _plot(self) -> None:
        """Plots the run so far, at most once in `PLOT_SECONDS` because a plot takes a second."""
        if self.main and time.monotonic() - self._plotted > PLOT_SECONDS:
            self._plotted = time.monotonic()
            plot_run(self.log.curve, self.folder / "loss.png")

    def _validate(self) -> float:
        """Computes the validation loss and notes a new best one; with early stopping, its weights are saved."""
        loss = validation_loss(
            self.step.pair, self.validation, self.num_samples, self.arguments.batch_size, self.accelerator
        )
        self.state.waited += 1
        if math.isfinite(loss) and (self.state.best_loss is None or loss < self.state.best_loss):
            self.state.best_loss, self.state.best_step, self.state.waited = loss, self.state.step, 0
            if self.arguments.early_stopping_patience:
                weights = self._weights()
                require_finite(weights)
                if self.main:
                    self.best.save(self.state.step, self.step.pair, weights)
        return loss

    def _weights(self) -> dict[str, Tensor]:
        return {name: whole(value) for name, value in self.step.pair.state_dict().items()}

    def _trained(self) -> Pair:
        """Returns the trained pair, on one device however it was trained."""
        if self.arguments.early_stopping_patience and self.state.best_step is not None:
            best: Pair = self.pair_class.from_pretrained(self.best.folder(self.state.best_step))
            best.to(self.accelerator.device)
            return best
        weights = self._weights()
        if type(self.step.pair) is self.pair_class:
            return self.step.pair
        pair = self.pair_class(self.config)  # the modules of the trained pair stay sharded
        pair.load_state_dict(weights)
        pair.to(self.accelerator.device)
        return pair

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.arguments.trackers:
            config = {name: str(value) for name, value in asdict(self.arguments).items()}
            self.accelerator.init_trackers("ecg_hf", config=config)
        checkpoint = newest_checkpoint(self.writer.root) if self.arguments.resume else None
        if checkpoint is not None:
            self._load(checkpoint)
        elif self.main and not self.arguments.resume and self.writer.root.exists():
            raise EcgCheckpointError(
                f"{self.folder} already holds checkpoints of a run; continue it with resume=True, or choose another "
                "folder"
            )
        manifest = sha256_of(checkpoint / MANIFEST) if checkpoint else None
        require_same(self.accelerator, [self._identity(), self.state.step, manifest], self.folder)
        if self.main:
            self.log.truncate(self.state.step)
            self.best.keep(self.state.best_step)
            remove_partial(self.writer.root)
        self.accelerator.wait_for_everyone()

    def _identity(self) -> dict[str, Any]:
        fingerprints = [split.fingerprint for split in self.train.splits]
        return self.arguments.identity() | {"crops_per_step": self.batch_size, "data": fingerprints}

    def _load(self, checkpoint: Path) -> None:
        saved, own = read_json(checkpoint / "state.json"), self._identity()
        changed = [name for name in own if saved["arguments"].get(name) != own[name]]
        if changed:
            raise EcgCheckpointError(
                f"{checkpoint} belongs to a run with {changed[0]}={saved['arguments'].get(changed[0])!r}, got "
                f"{own[changed[0]]!r}; repeat the run's own arguments, or start in another folder"
            )
        if saved["layout"] != (layout := self._layout()):
            logger.warning(
                "the run resumes with %s from a checkpoint written with %s: the crops and their order stay the same, "
                "but random numbers within a step and sums over the batch differ",
                layout,
                saved["layout"],
            )
        self.snapshot.restore(checkpoint)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.state = TrainingState(**saved["state"])
        self._saved_best = self.state.best_step

    def _layout(self) -> dict[str, int]:
        """Describes how the crops of a step are divided into micro-batches."""
        names = ("batch_size", "gradient_accumulation_steps")
        return {name: getattr(self.arguments, name) for name in names} | {"processes": self.accelerator.num_processes}

    def _checkpoint(self) -> None:
        self.writer.wait()
        if self.main:
            # The best weights that the last checkpoint refers to must stay until the next checkpoint is complete.
            self.best.keep(self._saved_best, self.state.best_step)
        self._saved_best = self.state.best_step
        files = self.snapshot.take(keep=self.main)
        scaler = self.accelerator.scaler
        if self.main:
            state = {
                "state": asdict(self.state),
                "arguments": self._identity(),
                "layout": self._layout(),
                "scaler": scaler and scaler.state_dict(),
            }
            self.writer.submit(self.state.step, files, state)
