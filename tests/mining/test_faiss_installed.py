"""FAISS as it is installed: twice, in part, without a library or a GPU, not at all. `make faiss-gpu` takes CUDA's."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mining import MiningError
from mining.faiss_library import load_faiss
from mining.hardware import Hardware
from mining.search import load_searcher
from tests.conftest import REPOSITORY

UNINSTALL = "pip uninstall -y"
INSTALL = r"then pip install 'skiff-embeddings\[cpu\]' \(or \[gpu\]\)$"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that goes before all others from which modules come; no FAISS is loaded before or kept afterwards."""
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("faiss", None)


@pytest.fixture
def alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder from which modules come."""
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def install(folder: Path, name: str, module: str = "") -> None:
    """What pip leaves behind: the module, and a folder that tells what belongs to the distribution."""
    told = folder / f"{name.replace('-', '_')}-1.15.1.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.15.1\n")
    (told / "RECORD").write_text("faiss/__init__.py,sha256=x,1\nfaiss/loader.py,sha256=y,1\n")
    (folder / "faiss").mkdir(exist_ok=True)
    (folder / "faiss" / "__init__.py").write_text(module)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_two_distributions_in_one_folder_are_refused_with_the_remedy(folder: Path, precision: str) -> None:
    install(folder, "faiss-gpu")
    install(folder, "faiss-cpu")
    message = f"^faiss-cpu and faiss-gpu have overwritten each other in .*: {UNINSTALL} faiss-cpu faiss-gpu, {INSTALL}"
    with pytest.raises(MiningError, match=message):
        load_faiss()
    with pytest.raises(MiningError, match=message):
        load_searcher(device="cpu", precision=precision)


def test_a_distribution_in_a_folder_that_goes_before_that_of_another_is_used(folder: Path) -> None:
    install(folder, "faiss-gpu", "__version__ = 'of the folder in front'")
    sys.path.append(str(folder / "behind"))
    (folder / "behind").mkdir()
    install(folder / "behind", "faiss-cpu")
    assert load_faiss().__version__ == "of the folder in front"


def test_another_distribution_whose_name_starts_alike_is_no_second_one(folder: Path) -> None:
    install(folder, "faiss-cpu", "__version__ = 'the only one'")
    install(folder, "faiss-helpers", "__version__ = 'the only one'")
    (folder / "faiss_helpers-1.15.1.dist-info" / "RECORD").write_text("faiss_helpers/__init__.py,sha256=x,1\n")
    assert load_faiss().__version__ == "the only one"


@pytest.mark.parametrize("left", [["_gpu_build.py"], []])
def test_what_the_removal_of_one_distribution_left_of_the_other_is_named_with_the_remedy(
    alone: Path, left: list[str]
) -> None:
    install(alone, "faiss-gpu")
    (alone / "faiss" / "__init__.py").unlink()
    if not left:
        (alone / "faiss").rmdir()
    for name in left:
        (alone / "faiss" / name).touch()
    message = f"^faiss-gpu in .* has lost its files, .*: {UNINSTALL} faiss-gpu, {INSTALL}"
    with pytest.raises(MiningError, match=message):
        load_faiss()
    with pytest.raises(MiningError, match=message):
        load_searcher(device="cpu")


def test_a_folder_of_that_name_which_no_distribution_owns_is_no_faiss(alone: Path) -> None:
    (alone / "faiss").mkdir()
    with zipfile.ZipFile(alone / "modules.zip", "w") as archive:
        archive.writestr("other.py", "")
    sys.path.append(str(alone / "modules.zip"))
    assert load_searcher(device="cpu", precision="fp32").backend == "torch"
    with pytest.raises(MiningError, match=r"^FAISS is not installed: pip install 'skiff-embeddings\[cpu\]'"):
        load_faiss()


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise RuntimeError('nvidia-cublas-cu12 is missing\\nand more')", "nvidia-cublas-cu12 is missing"),
        ("raise OSError('libcublas.so.12: cannot open shared object file')", "cannot open shared object file"),
        ("from faiss import overwritten", "cannot import name 'overwritten'"),
        ("raise ImportError", "ImportError"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_one_line_with_the_reason_and_the_remedy(
    folder: Path, module: str, said: str
) -> None:
    install(folder, "faiss-gpu", module)
    with pytest.raises(MiningError, match=rf"^FAISS cannot be .*{said}.*\): {UNINSTALL} faiss-gpu, {INSTALL}"):
        load_faiss()


def test_a_module_that_no_distribution_owns_is_not_to_be_uninstalled(folder: Path) -> None:
    (folder / "faiss").mkdir()
    (folder / "faiss" / "__init__.py").write_text("raise ImportError('built here')")
    with pytest.raises(MiningError, match=r"\(built here\): pip install 'skiff-embeddings\[cpu\]' \(or \[gpu\]\)$"):
        load_faiss()


def test_a_gpu_that_faiss_does_not_see_is_searched_by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Hardware("cuda:0", "bf16", "as torch sees it")
    monkeypatch.setattr("mining.hardware.choose_hardware", lambda device, precision: seen)
    if load_faiss().get_num_gpus():
        pytest.skip("FAISS sees a GPU here")
    assert load_searcher().backend == "torch"
    with pytest.raises(MiningError, match="FAISS sees no GPU"):
        load_searcher(backend="faiss")


def test_without_faiss_torch_takes_the_gpu(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mining.hardware.choose_hardware", lambda device, precision: Hardware("cuda:0", "fp32", "seen"))
    assert load_searcher().backend == "torch"


def test_a_search_on_the_cpu_leaves_alone_what_faiss_has_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("without a GPU this gives wrong results, or ends the process")

    faiss = load_faiss()
    names = [name for name in dir(faiss) if "gpu" in name.lower() and callable(getattr(faiss, name))]
    assert {"index_cpu_to_all_gpus", "knn_gpu"} < set(names)
    for name in names:
        monkeypatch.setattr(faiss, name, refuse)
    searcher = load_searcher(device="cpu", precision="fp32")
    assert searcher.backend == "faiss"
    _, rows = searcher.search(np.eye(3, 8, dtype=np.float32), np.eye(8, dtype=np.float32), 1)
    assert rows.ravel().tolist() == [0, 1, 2]


def python(*arguments: str, path: str) -> str:
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_is_imported_before_faiss() -> None:
    code = (
        "import json, sys; from mining.faiss_library import load_faiss; load_faiss(); print(json.dumps([*sys.modules]))"
    )
    modules = json.loads(python("-c", code, path=os.environ.get("PYTHONPATH", "")))
    assert modules.index("torch") < modules.index("faiss")


def test_where_faiss_was_never_installed_torch_searches(tmp_path: Path) -> None:
    for site in {Path(np.__file__).parents[1], Path(pytest.__file__).parents[1]}:
        for entry in site.iterdir():
            if not entry.name.startswith("faiss") and not (tmp_path / entry.name).exists():
                (tmp_path / entry.name).symlink_to(entry)
    code = """
import numpy as np
from mining import MiningError
from mining.faiss_library import load_faiss
from mining.search import load_searcher
for precision in ("bf16", "fp32"):
    searcher = load_searcher(device="cpu", precision=precision)
    _, rows = searcher.search(np.eye(3, 8, dtype=np.float32), np.eye(8, dtype=np.float32), 1)
    print(rows.ravel().tolist(), searcher.description)
try:
    load_faiss()
except MiningError as error:
    print(error)
"""
    said = python("-S", "-c", code, path=str(tmp_path)).splitlines()  # -S: nothing comes from where FAISS may be
    assert [line.startswith("[0, 1, 2] exact search with torch ") for line in said] == [True, True, False]
    assert said[2].startswith("FAISS is not installed: pip install 'skiff-embeddings[cpu]' (or [gpu])")


def test_faiss_that_is_asked_for_and_missing_is_refused_at_once(alone: Path) -> None:
    with pytest.raises(MiningError, match="FAISS is not installed"):
        load_searcher(device="cpu", backend="faiss")
