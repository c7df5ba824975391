"""ONNX export: one file with a network, and with metadata that describe the input it expects."""

import copy
import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecg_hf.errors import EcgIntegrityError
from ecg_hf.models.backbones.base import Backbone
from ecg_hf.models.backbones.dynamics import impulse_response
from ecg_hf.models.backbones.kernel import CHUNK, StateSpace
from ecg_hf.models.classification import EcgForSequenceClassification
from ecg_hf.signals.feature_extraction import EcgFeatureExtractor

TOLERANCE = 1e-5  # largest error of an output, relative to the greater of 1 and its largest absolute value


def export_onnx(
    model: Backbone | EcgForSequenceClassification, path: Path, num_samples: int, contract: EcgFeatureExtractor
) -> None:
    """Writes a model to an ONNX file, for any batch size and one signal length, and checks it with onnxruntime.

    The input of the file is `signal`, float32 (B, L, T), as the feature extractor returns it. The outputs of a backbone
    are `last_hidden_state`, (B, N, D), and `pooler_output`, (B, D); the output of a classifier is `logits`, (B, C).
    State spaces become constants, so that the graph needs neither complex numbers nor Fourier transforms.

    Args:
        model: Backbone or classifier, of any dtype and on any device; it is not changed. The file holds it in
            evaluation mode and in float32.
        path: Path of the file; an existing file is replaced.
        num_samples: Samples T of a signal, at the sampling rate of `contract`.
        contract: Feature extractor that the model was trained with, its input contract. The metadata of the file hold
            all of it as "preprocessor_config", and repeat sampling rate, leads, unit (before normalisation) and
            normalisation as entries of their own.

    Raises:
        TypeError: If the model is neither a backbone nor a classifier.
        ValueError: If the feature extractor has another number of leads than the model, or needs longer signals.
        EcgIntegrityError: If the outputs of the file differ from those of the model.
        ImportError: If the extra "export" is not installed.

    Example:
        >>> from pathlib import Path
        >>> from ecg_hf import CLASSIFIERS, EcgFeatureExtractor
        >>> kind = CLASSIFIERS["s4"]
        >>> classifier = kind(kind.config_class(**kind.backbone_class.sizes["20k"], num_labels=5))
        >>> extractor = EcgFeatureExtractor(sampling_rate=240, num_samples=600)
        >>> export_onnx(classifier, Path("model.onnx"), 600, extractor)  # doctest: +SKIP
        >>> import onnxruntime  # doctest: +SKIP
        >>> onnxruntime.InferenceSession("model.onnx").get_inputs()[0].shape  # doctest: +SKIP
        ['batch', 12, 600]
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export_onnx needs onnx, onnxruntime and onnxscript; install them with pip install 'ecg_hf[export]'"
        ) from error
    _check(model, num_samples, contract)
    network = _Network(model, num_samples).eval()
    example = torch.zeros(2, model.config.num_leads, num_samples)
    program: Any = torch.onnx.export(
        network,
        (example,),
        input_names=["signal"],
        output_names=list(network.outputs),
        dynamic_shapes={"signal": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props.update(_metadata(model, num_samples, contract))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        program.save(written, external_data=False)
        _compare(written, model, network.outputs, num_samples)
        written.replace(path)


def _check(model: nn.Module, num_samples: int, contract: EcgFeatureExtractor) -> None:
    if not isinstance(model, Backbone | EcgForSequenceClassification):
        raise TypeError(
            f"model must be a backbone or a classifier, got {type(model).__name__}; for a pair, export pair.backbone"
        )
    if len(contract.leads) != model.config.num_leads:
        raise ValueError(
            f"the contract must have the model's {model.config.num_leads} leads, got {contract.leads}; load both from "
            "one folder"
        )
    if num_samples < (contract.num_samples or 1):
        raise ValueError(
            f"num_samples must be at least the contract's {contract.num_samples or 1}, got {num_samples}; export for "
            "longer signals"
        )


def _metadata(
    model: Backbone | EcgForSequenceClassification, num_samples: int, contract: EcgFeatureExtractor
) -> dict[str, str]:
    """Collects the metadata of the file; values other than plain text are JSON."""
    facts = contract.to_dict()
    metadata = {
        "ecg_hf_version": version("ecg_hf"),
        "model_type": model.config.model_type,
        "num_samples": str(num_samples),
        "sampling_rate": str(facts["sampling_rate"]),
        "leads": ",".join(facts["leads"]),
        "unit": str(facts["unit"]),
        "normalization": str(facts["normalization"]),
        "preprocessor_config": json.dumps(facts),
    }
    if isinstance(model, EcgForSequenceClassification):
        metadata["id2label"] = json.dumps(model.config.id2label)
        metadata["problem_type"] = model.config.problem_type or "multi_label_classification"
    return metadata


def _compare(
    path: Path, model: Backbone | EcgForSequenceClassification, names: tuple[str, ...], num_samples: int
) -> None:
    """Checks that the file and the model agree on noise, at another batch size than that of the export."""
    from onnxruntime import InferenceSession

    signal = torch.randn(3, model.config.num_leads, num_samples, generator=torch.Generator().manual_seed(0))
    found = InferenceSession(path, providers=["CPUExecutionProvider"]).run(list(names), {"signal": signal.numpy()})
    with torch.no_grad():
        expected = copy.deepcopy(model).cpu().float().eval()(signal, return_dict=True)
    for name, values in zip(names, found, strict=True):
        wanted = expected[name].numpy()
        difference = np.abs(values - wanted).max() / max(1.0, float(np.abs(wanted).max()))
        if not difference <= TOLERANCE:
            raise EcgIntegrityError(
                f"{name} of the file must equal the model's to {TOLERANCE:g}, got a difference of {difference:g}; "
                "report it with the model's config"
            )


class _Network(nn.Module):
    """A copy of a model that takes a signal and returns plain tensors, with state spaces as constants."""

    def __init__(self, model: Backbone | EcgForSequenceClassification, num_samples: int):
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float()
        classifies = isinstance(model, EcgForSequenceClassification)
        self.outputs = ("logits",) if classifies else ("last_hidden_state", "pooler_output")
        backbone = model.backbone if isinstance(model, EcgForSequenceClassification) else model
        num_tokens = -(-num_samples // backbone.embed_stride)
        for module in list(self.model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, StateSpace):
                    setattr(module, name, FixedStateSpace(child, num_tokens))

    def forward(self, signal: Tensor) -> tuple[Tensor, ...]:
        output = self.model(signal, return_dict=True)
        return tuple(output[name] for name in self.outputs)


class FixedStateSpace(nn.Module):
    """A state space for inference, which only multiplies by real constants, within chunks of tokens and between them.

    Args:
        space: State space to copy.
        num_tokens: Number of tokens N of the input.

    Source:
        Dao and Gu 2024 (arXiv:2405.21060), section 6; states are summed by doubling, as in Hillis and Steele 1986.
    """

    within: Tensor
    enter: Tensor
    leave: Tensor
    jumps: Tensor

    @torch.no_grad()
    def __init__(self, space: StateSpace, num_tokens: int):
        super().__init__()
        self.num_tokens = num_tokens
        self.num_chunks = -(-num_tokens // CHUNK)
        state, drive = (part.double() for part in space.discretise())
        readout = space.readout().double()
        transposed = state.transpose(1, 2)
        response = impulse_response(state, drive, CHUNK)
        # Weights from a state to the tokens after it or, for the state that sums later tokens, before it.
        leave = [impulse_response(transposed, transposed @ readout[0][..., None], CHUNK)]
        leave += [impulse_response(transposed, side[..., None], CHUNK).flip(-1) for side in readout[1:]]
        jump, jumps = torch.linalg.matrix_power(transposed, CHUNK), []
        for _ in range((self.num_chunks - 1).bit_length()):
            jumps.append(jump)
            jump = jump @ jump
        self.register_buffer("within", _toeplitz(space, torch.einsum("cds,dsn->cdn", readout, response)).float())
        enter = torch.stack([response.flip(-1), response][: len(readout)]).transpose(2, 3)
        self.register_buffer("enter", enter.float().contiguous())
        self.register_buffer("leave", torch.stack(leave).float())
        self.register_buffer("jumps", torch.stack(jumps).float() if jumps else torch.zeros(0))

    def forward(self, signal: Tensor) -> Tensor:
        """Runs the state space, including its direct term `D`, over signals (D, B, N).

        Raises:
            ValueError: If the signals do not have `num_tokens` tokens.
        """
        width, _, num_tokens = signal.shape
        if num_tokens != self.num_tokens:
            raise ValueError(f"signal must have {self.num_tokens} tokens, got {num_tokens}; export for that length")
        padded = nn.functional.pad(signal, (0, self.num_chunks * CHUNK - num_tokens))
        chunks = padded.reshape(width, -1, CHUNK)
        mixed = chunks @ self.within
        for direction in range(len(self.enter)):
            entering = (chunks @ self.enter[direction]).reshape(width, -1, self.num_chunks, self.enter.shape[-1])
            states = self._sum_before(entering) if direction == 0 else self._sum_before(entering.flip(2)).flip(2)
            mixed = mixed + states.flatten(1, 2) @ self.leave[direction]
        return mixed.reshape(width, -1, self.num_chunks * CHUNK)[..., :num_tokens]

    def _sum_before(self, entering: Tensor) -> Tensor:
        """Sums the contributions of chunks to the state, (D, B, chunks, state), into the state before each chunk."""
        for step in range(len(self.jumps)):
            moved = entering[:, :, : -(2**step)] @ self.jumps[step][:, None]
            entering = entering + nn.functional.pad(moved, (0, 0, 2**step, 0))
        return nn.functional.pad(entering[:, :, :-1], (0, 0, 1, 0))


def _toeplitz(space: StateSpace, kernels: Tensor) -> Tensor:
    """Arranges kernels (1 or 2, D, CHUNK) and the direct term as weights between tokens, (D, CHUNK, CHUNK)."""
    lag = torch.arange(CHUNK) - torch.arange(CHUNK)[:, None]
    weights = kernels[0][:, lag.clamp(min=0)] * (lag >= 0) + space.D.double()[:, None, None] * (lag == 0)
    return weights + kernels[1][:, (-lag - 1).clamp(min=0)] * (lag < 0) if len(kernels) == 2 else weights
