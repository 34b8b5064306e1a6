"""Check what `python -m build` made: the contents of the wheel, and that it works in an empty environment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "durabletask_azure"
ROOT = Path(__file__).resolve().parents[1]

SMOKE = """
import importlib, importlib.metadata, sys
import durabletask_azure
loaded = [name for name in sys.modules if name == "azure" or name.startswith("azure.")]
assert not loaded, f"importing the package imports the Azure SDK: {loaded}"
for name in sys.argv[1:]:
    importlib.import_module(name)
from durabletask_azure._version import __version__
assert importlib.metadata.version("durabletask-azure") == __version__
print(f"durabletask-azure {__version__}: imported {len(sys.argv) - 1} modules on Python {sys.version.split()[0]}")
"""


def only(folder: Path, pattern: str) -> Path:
    """Return the one file that matches; anything else means the build went wrong."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{folder} should hold one {pattern}, but holds {[path.name for path in found]}")
    return found[0]


def public_modules(wheel: Path) -> list[str]:
    """Check the wheel's contents and return the names of the public modules at its top."""
    files = [PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()]
    strangers = sorted(
        {file.parts[0] for file in files if file.parts[0] != PACKAGE and ".dist-info" not in file.parts[0]}
    )
    if strangers:
        sys.exit(f"the wheel holds more than {PACKAGE}: {strangers}")
    for wanted in (f"{PACKAGE}/py.typed", f"{PACKAGE}/__init__.py"):
        if PurePosixPath(wanted) not in files:
            sys.exit(f"the wheel lacks {wanted}")
    if not any(file.name == "LICENSE" for file in files):
        sys.exit("the wheel lacks LICENSE")
    tops = [file.stem for file in files if file.parent.name == PACKAGE and file.suffix == ".py"]
    return [f"{PACKAGE}.{name}" for name in sorted(tops) if not name.startswith("_")]


def main(folder: Path) -> None:
    """Check the sdist and the wheel in a folder."""
    only(folder, "*.tar.gz")
    wheel = only(folder, "*.whl")
    modules = public_modules(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = str(Path(scratch) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        needs = str(ROOT / "requirements" / "runtime.txt")
        subprocess.run([*pip, "--require-hashes", "-r", needs], check=True)  # noqa: S603
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel.resolve())], check=True)  # noqa: S603
        subprocess.run([python, "-I", "-c", SMOKE, *modules], check=True, cwd=scratch)  # noqa: S603


if __name__ == "__main__":
    main(Path(sys.argv[1]))
