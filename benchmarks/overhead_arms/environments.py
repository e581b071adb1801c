"""Virtual environments for the arms whose pins clash with this project's, each made once."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

DEFAULT = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "mfed_ray_benchmarks"
MADE = "requirements.txt"


def interpreter(folder: Path, name: str, requirement: str | None) -> Path:
    """The Python of the arm: this one, or that of an environment in ``folder``, with this one's torch and numpy."""
    if requirement is None:
        return Path(sys.executable)
    wanted = "\n".join([*(f"{package}=={_public(package)}" for package in ("torch", "numpy")), requirement])
    environment = folder / name
    python, made = environment / "bin/python", environment / MADE
    if not made.is_file() or made.read_text(encoding="utf-8") != wanted:
        print(f"making {environment} with {', '.join(wanted.splitlines())}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)  # noqa: S603
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted.splitlines()], check=True)  # noqa: S603
        made.write_text(wanted, encoding="utf-8")  # last: an environment without it is not whole
    return python


def _public(package: str) -> str:
    """The installed version without its local part, such as +cpu."""
    return version(package).split("+")[0]
