"""Hashes of source code, so that a cache never serves data that other code has made."""

import hashlib
import inspect
import sys
import uuid
from collections.abc import Iterable


def code_hash(modules: Iterable[str]) -> str:
    """Computes one SHA-256 of the source of the given modules and of all library modules that they depend on.

    Args:
        modules: Names of modules that are imported already.

    Returns:
        The hash in hexadecimal; a random one if a module has no source, such as one typed at a prompt.
    """
    sources: dict[str, str] = {}
    names = list(modules)
    while names:
        module = sys.modules[names.pop()]
        if module.__name__ in sources:
            continue
        try:
            sources[module.__name__] = inspect.getsource(module)
        except (TypeError, OSError):
            return uuid.uuid4().hex  # without a source to compare, nothing may be served from a cache
        origins = {str(getattr(value, "__module__", "")) for value in vars(module).values()}
        names += [name for name in origins if name.startswith("ecg_hf.")]
    return sha256_of_texts(sources[name] for name in sorted(sources))


def sha256_of_texts(texts: Iterable[str]) -> str:
    """Computes the SHA-256 of several texts, in hexadecimal."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
