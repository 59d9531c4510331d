"""The archives: the same bytes from every build, what they must hold and nothing else, and that they work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("src", "examples/naive_names.py", "README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")
SETTINGS = ("pyproject.toml", "constraints.txt", ".gitignore")
DATA = {
    "unstuck/py.typed",
    "unstuck/lm/data/README.md",
    "unstuck/lm/data/names.txt",
    "unstuck/report/assets/page.css",
    "unstuck/report/assets/page.js",
    "unstuck/report/schema/report-1.json",
    "unstuck/ui/assets/icon.svg",
    "unstuck/ui/assets/live.css",
    "unstuck/ui/assets/live.js",
}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_what_is_built_with_is_pinned():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for package in ("build", "hatchling"):
        assert any(line.startswith(f"{package}==") for line in pinned), package
    assert [need.partition(">")[0] for need in project()["build-system"]["requires"]] == ["hatchling"]


def test_each_extra_is_part_of_dev_or_of_third_party():
    extras = project()["project"]["optional-dependencies"]
    known = {need.partition(">")[0] for name in ("dev", "third-party") for need in extras[name]}
    assert {need.partition(">")[0] for needs in extras.values() for need in needs} <= known


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> list[Path]:
    """Two builds, of copies that lie elsewhere, with other times and rights."""
    folders = []
    for number, mode in enumerate((0o644, 0o600)):
        source = tmp_path_factory.mktemp(f"source{number}") / ("a" * (number + 1))
        for name in (*NEEDED, *SETTINGS):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(
                ROOT / name, target, **({"ignore": ignored} if (ROOT / name).is_dir() else {})
            )
        for file in source.rglob("*"):
            if file.is_file():
                file.chmod(mode)
                os.utime(file, (1_600_000_000 + number * 9_999, 1_600_000_000 + number * 9_999))
        out = tmp_path_factory.mktemp(f"built{number}")
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        folders.append(out)
    return folders


def archive(folder: Path, ending: str) -> Path:
    (found,) = folder.glob(f"*{ending}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".whl", ".tar.gz"])
def test_two_builds_are_equal(built, ending):
    first, second = (archive(folder, ending) for folder in built)
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def modules() -> set[str]:
    return {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}


@pytest.mark.slow
def test_the_wheel_holds_what_it_must_and_nothing_else(built):
    with zipfile.ZipFile(archive(built[0], ".whl")) as wheel:
        names = set(wheel.namelist())
    own = {name for name in names if not name.startswith("unstuck-")}
    assert own == modules() | DATA
    others = {name.partition("/")[2] for name in names - own}
    shared = "data/share/unstuck/examples/naive_names.py"
    assert others == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE", shared}


@pytest.mark.slow
def test_the_source_archive_holds_what_it_must_and_nothing_else(built):
    with tarfile.open(archive(built[0], ".tar.gz")) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    wanted = {f"src/{name}" for name in modules() | DATA} | {name for name in NEEDED if name != "src"}
    assert names == wanted | {*SETTINGS, "PKG-INFO"}


@pytest.mark.slow
def test_the_wheel_works_by_itself(built, tmp_path):
    """In an environment that has the dependencies of this one, by a path, and unstuck from the wheel alone."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env/bin/python"
    where = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    packages = Path(where.stdout.strip())
    (packages / "dependencies.pth").write_text(str(Path(numpy.__file__).parents[1]) + "\n")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*install, archive(built[0], ".whl")], check=True, capture_output=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "UNSTUCK_"))}

    def said(*command: object) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert said(python, "-c", "import unstuck; print(unstuck.__file__)").startswith(str(packages))
    unstuck = tmp_path / "env/bin/unstuck"
    assert said(unstuck, "--version").startswith("unstuck ")
    assert said(unstuck, "rule", "L001").startswith("# L001 ")
    assert '"$schema"' in said(unstuck, "schema")
    table = said(unstuck, "demo", "--quick")
    assert "starting loss (nats)" in table
    assert (tmp_path / ".unstuck/demo/after/report.json").is_file()
