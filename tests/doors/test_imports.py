"""That the Auto classes know the models from their first call on, whatever is imported first."""

import os
import subprocess
import sys

import pytest

OURS, THEIRS = "import ecg_hf", "from transformers import {}"
AUTO = {
    "AutoConfig": "EcgS4CPCConfig",
    "AutoModel": "EcgS4CPCBackbone",
    "AutoModelForPreTraining": "EcgS4ForCPC",
    "AutoModelForSequenceClassification": "EcgS4CPCForSequenceClassification",
    "AutoFeatureExtractor": "EcgFeatureExtractor",
}
# One process imports, and a child of it makes the first call of each class.
CODE = """
import os, sys
{imports}
import torch, transformers.modeling_utils
for name in {names}:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        loaded = globals()[name].from_pretrained(sys.argv[1])
        print(name, type(loaded).__name__, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ecg_hf first", "transformers first"])
def test_every_auto_class_loads_a_model_by_its_first_call(order, small_model):
    imports = "\n".join(order).format(", ".join(AUTO))
    command = [sys.executable, "-c", CODE.format(imports=imports, names=list(AUTO)), str(small_model)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dict(line.split() for line in done.stdout.splitlines()) == AUTO
