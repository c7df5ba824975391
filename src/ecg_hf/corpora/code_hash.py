"""Hashes of source code, so that data made by other code is never read back from a cache."""

import hashlib
import inspect
import sys
import uuid
from collections.abc import Iterable


def code_hash(modules: Iterable[str]) -> str:
    """Hashes the source of modules, given by name, and of all of the library that these draw on."""
    sources: dict[str, str] = {}
    names = list(modules)
    while names:
        module = sys.modules[names.pop()]
        if module.__name__ in sources:
            continue
        try:
            sources[module.__name__] = inspect.getsource(module)
        except (TypeError, OSError):
            return uuid.uuid4().hex  # typed at a prompt: no source to compare, so never served from a cache
        origins = {str(getattr(value, "__module__", "")) for value in vars(module).values()}
        names += [name for name in origins if name.startswith("ecg_hf.")]
    return sha256_of_texts(sources[name] for name in sorted(sources))


def sha256_of_texts(texts: Iterable[str]) -> str:
    """Computes the SHA-256 of several texts, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
