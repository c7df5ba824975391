"""Keeps every test off the network and its caches in a folder of its own. Set before transformers or datasets load."""

import functools
import os
import tempfile

import pytest

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="ecg_hf_tests_")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="module")
def hub():
    """A Hub of our own, to which publishing goes as long as a module's tests run."""
    import huggingface_hub

    from ecg_hf.hub import publishing
    from hub_server import HubServer

    with HubServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        patch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(publishing, "HfApi", functools.partial(huggingface_hub.HfApi, endpoint=server.url))
        patch.setenv("HF_TOKEN", "x")
        yield server
    assert server.unhandled == []
