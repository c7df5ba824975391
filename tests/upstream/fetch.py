"""Fetches the common tests of the installed transformers into build/upstream; nothing of them is ever committed."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import transformers

FOLDER = Path(__file__).parents[2] / "build" / "upstream" / "transformers_tests"
TESTS = ("modeling", "configuration", "sequence_feature_extraction", "feature_extraction")
# Packages that the tests import and the source distribution lacks. Signals need no generation and no exporters; the
# values are for the fields of every config, in place of theirs, which are for text.
STUBS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": (
        "config_common_kwargs = {'return_dict': False, 'output_hidden_states': True, 'dtype': 'float16',\n"
        "    'chunk_size_feed_forward': 5, 'architectures': ['EcgModel'], 'problem_type': 'regression',\n"
        "    'id2label': {0: 'MI', 1: 'NORM'}, 'label2id': {'MI': 0, 'NORM': 1}}\n"
    ),
}


def download(folder: Path) -> Path:
    """Downloads the source distribution of the installed version; pip compares its hash with the index's."""
    wanted = f"transformers=={transformers.__version__}"
    options = ["--quiet", "--no-binary", ":all:", "--no-deps", "--no-build-isolation", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Writes the tests that are wanted, and the stubs that they import, as one package."""
    (folder / "__init__.py").touch()
    with tarfile.open(archive) as tar:
        for name in (f"test_{test}_common.py" for test in TESTS):
            member = tar.extractfile(f"{archive.name.removesuffix('.tar.gz')}/tests/{name}")
            assert member is not None, name
            (folder / name).write_bytes(member.read())
    for name, text in STUBS.items():
        package = (folder / name).parent
        package.mkdir()
        (package / "__init__.py").touch()
        (folder / name).write_text(text)


def main() -> None:
    """Does nothing if the tests of the installed version are there already."""
    version = FOLDER / "VERSION"
    if version.exists() and version.read_text() == transformers.__version__:
        return
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch) / FOLDER.name
        package.mkdir()
        unpack(download(Path(scratch)), package)
        shutil.rmtree(FOLDER, ignore_errors=True)
        shutil.copytree(package, FOLDER)
    version.write_text(transformers.__version__)


if __name__ == "__main__":
    main()
