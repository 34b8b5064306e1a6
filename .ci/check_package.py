"""Check what `python -m build` made: what is in wheel and sdist, and that the wheel works in an empty environment."""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

PACKAGE = "durabletask_azure"
ROOT = Path(__file__).resolve().parents[1]

IMPORT_MS_MAX = 150
_IMPORTS_TIMED = 10

# Packages of other people that the package knows of, or once did: whoever does not use them must not load them, also
# where they are installed. Made as empty packages and put on the path, so that a guarded import shows as well.
STRANGERS = (
    "azure",
    "google",
    "grpc",
    "opentelemetry",
    "pydantic",
    "attr",
    "attrs",
    "fastapi",
    "starlette",
    "durabletask",
)
# Parts of the standard library that cost a start more than they give.
HEAVY = ("email", "http", "multiprocessing", "pdb", "pydoc", "sqlite3", "unittest", "xml")

SMOKE = """
import importlib, sys
strangers, heavy, decoys = sys.argv[1].split(), sys.argv[2].split(), sys.argv[3]
sys.path.insert(0, decoys)
import durabletask_azure
loaded = [name for name in heavy if name in sys.modules]
assert not loaded, f"importing the package imports {loaded}"
for name in durabletask_azure.__all__:
    getattr(durabletask_azure, name)
for name in sys.argv[4:]:
    importlib.import_module(name)
loaded = [name for name in strangers if name in sys.modules]
assert not loaded, f"using the package's names imports {loaded}"
import importlib.metadata
from durabletask_azure._version import __version__
assert importlib.metadata.version("durabletask-azure") == __version__
print(f"durabletask-azure {__version__}: imported {len(sys.argv) - 4} modules on Python {sys.version.split()[0]}")
"""

TIMED = """
import time
begun = time.perf_counter()
import durabletask_azure
imported = time.perf_counter()
for name in durabletask_azure.__all__:
    getattr(durabletask_azure, name)
print((imported - begun) * 1000, (time.perf_counter() - begun) * 1000)
"""

# What a source distribution needs for its tests, benchmarks and documents, and what must never be in one.
SDIST_WANTED = (
    ".ci/check_package.py",
    "LICENSE",
    "Makefile",
    "README.md",
    "azurite/package-lock.json",
    "azurite/start.py",
    "benchmarks/__main__.py",
    "benchmarks/peers/requirements.txt",
    "docs/architecture.md",
    "durabletask_azure/py.typed",
    "pyproject.toml",
    "requirements/dev.txt",
    "samples/hello/main.py",
    "tests/conftest.py",
    "tests/golden/hashes.txt",
)
SDIST_BANNED = (".git", ".venv", "__pycache__", "build", "dist", "node_modules")


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


def check_metadata(wheel: Path) -> None:
    """Check that the wheel carries the README, and says in which form."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(archive.read(name), policy=email.policy.default)
    form = metadata["Description-Content-Type"]
    if form != "text/markdown":
        sys.exit(f"the wheel's description should be text/markdown, but is {form}")
    if (ROOT / "README.md").read_text(encoding="utf-8").strip() != str(metadata.get_payload()).strip():
        sys.exit("the wheel's description is not README.md")


def check_sdist(sdist: Path) -> None:
    """Check that the source distribution has what its tests need, and nothing that was made on the way."""
    with tarfile.open(sdist) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    if lacking := [name for name in SDIST_WANTED if name not in files]:
        sys.exit(f"the sdist lacks {lacking}")
    if strangers := sorted(name for name in files if set(PurePosixPath(name).parts) & set(SDIST_BANNED)):
        sys.exit(f"the sdist holds what was made on the way: {strangers[:5]}")


def check_imports(python: str, modules: list[str], scratch: Path) -> None:
    """Import everything where only the package is installed, among packages that must not be touched; and time it."""
    decoys = scratch / "decoys"
    for name in STRANGERS:
        (decoys / name).mkdir(parents=True)
        (decoys / name / "__init__.py").touch()
    run = [python, "-I", "-c"]
    arguments = [" ".join(STRANGERS), " ".join(HEAVY), str(decoys), *modules]
    subprocess.run([*run, SMOKE, *arguments], check=True, cwd=scratch)  # noqa: S603
    timed = [
        [float(text) for text in subprocess.check_output([*run, TIMED], text=True, cwd=scratch).split()]  # noqa: S603
        for _ in range(_IMPORTS_TIMED)
    ]
    package, names = (min(times) for times in zip(*timed, strict=True))
    print(
        f"import durabletask_azure: {package:.0f} ms, with all its names {names:.0f} ms (best of {_IMPORTS_TIMED})"
    )
    if package >= IMPORT_MS_MAX:
        sys.exit(f"importing the package takes {package:.0f} ms, at most {IMPORT_MS_MAX}")


def main(folder: Path) -> None:
    """Check the sdist and the wheel in a folder."""
    check_sdist(only(folder, "*.tar.gz"))
    wheel = only(folder, "*.whl")
    modules = public_modules(wheel)
    check_metadata(wheel)
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = str(Path(scratch) / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        needs = str(ROOT / "requirements" / "runtime.txt")
        subprocess.run([*pip, "--require-hashes", "-r", needs], check=True)  # noqa: S603
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel.resolve())], check=True)  # noqa: S603
        check_imports(python, modules, Path(scratch))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
