"""Keeps every test off the network and its caches in a folder of its own. Set before transformers or datasets load."""

import os
import tempfile

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="ecg_hf_tests_")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
