"""
How a team signs in: what `.streamlit/secrets.toml` of the workspace says, checked before anything listens.

docs/teams.md tells how to set it up. Streamlit reads the same file; nothing of it is copied anywhere.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synth.records import UserError

SECRETS = Path(".streamlit") / "secrets.toml"
OF_ALL = ("redirect_uri", "cookie_secret")
OF_A_PROVIDER = ("client_id", "client_secret", "server_metadata_url")
CALLBACK = "/oauth2callback"
SHORTEST_SECRET = 32  # characters: nobody guesses one that is random
SECTIONS = ("auth", "skiff")
HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:]+")  # no sign that means something to a list of hosts
PROVIDER_NAME = re.compile(r"[A-Za-z0-9-]+")
HOW = "docs/teams.md says how"


@dataclass(frozen=True, slots=True)
class Team:
    """
    Where a team finds the app, and who may sign in.

    Attributes:
        origin: as in https://reviews.example.org; `{port}` in it stands for the server's.
        host: the one name by which the app may be asked.
        providers: names of those that sign people in; empty if there is one without a name.
        allow: e-mail addresses, or domains with an @ before them; empty: all whom the provider signs in.
    """

    origin: str
    host: str
    providers: tuple[str, ...] = ()
    allow: tuple[str, ...] = field(default=())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_team(workspace: Path) -> Team | None:
    """
    The workspace's team; None if nobody has to sign in. Raises UserError if the file cannot be read, or if what it says
    of signing in is incomplete or unsafe.
    """
    path = workspace / SECRETS
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no TOML"  # which would quote its secrets
        raise UserError(f"{path}: cannot be read ({reason}); {HOW}") from None
    auth = found.get("auth")
    if misspelt := [name for name in found if name.lower() in SECTIONS and name not in SECTIONS]:
        raise UserError(f"{path}: [{misspelt[0]}] is written in small letters; {HOW}")
    if auth is None:
        return None
    fault = "it is no section" if not isinstance(auth, dict) else _fault(auth)
    if fault:
        raise UserError(f"{path}: [auth]: {fault}; {HOW}")
    if find_spec("authlib") is None or find_spec("httpx") is None:
        raise UserError(f"{path}: signing in takes further packages: pip install 'skiff-embeddings[teams]'")
    address = urlsplit(auth["redirect_uri"])
    allow = _allowed(found.get("skiff", {}), path)
    return Team(f"{address.scheme}://{address.netloc}", address.hostname or "", tuple(_named(auth)), allow)


def _named(auth: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: each for name, each in auth.items() if isinstance(each, dict) and name != "client_kwargs"}


def _fault(auth: Mapping[str, Any]) -> str:
    named = _named(auth)
    wanted = {"": (auth, OF_ALL), **{f"{name}.": (each, OF_A_PROVIDER) for name, each in named.items()}}
    if not named:
        wanted[""] = (auth, OF_ALL + OF_A_PROVIDER)
    for name, (section, keys) in wanted.items():
        for key in keys:
            if not isinstance(section.get(key), str) or not section[key]:
                return f"{name}{key} is missing"
    if odd := [name for name in named if not PROVIDER_NAME.fullmatch(name)]:
        return f"a provider's name has letters, digits and hyphens, not {odd[0]!r:.60}"
    if "allow" in auth or any("allow" in each for each in named.values()):
        return "allow stands in [skiff], and here lets everybody in"
    if len("".join(auth["cookie_secret"].split())) < SHORTEST_SECRET:
        return f"cookie_secret has fewer than {SHORTEST_SECRET} characters"
    return _address_fault(auth["redirect_uri"])


def _address_fault(redirect_uri: str) -> str:
    try:
        address = urlsplit(redirect_uri.replace("{port}", "1"))
        port = address.port
    except ValueError:  # half an IPv6 address, or a port that is none
        return f"redirect_uri is no address: {redirect_uri!r:.120}"
    host = address.hostname or ""
    if not HOST.fullmatch(host) or port == 0:
        return f"redirect_uri names no host: {redirect_uri!r:.120}"
    if address.path != CALLBACK or address.username or address.query:
        return f"redirect_uri is the app's address with {CALLBACK} at its end, not {redirect_uri!r:.120}"
    if address.scheme != "https" and not (address.scheme == "http" and is_loopback(host)):
        return "redirect_uri has to begin with https: without TLS anybody on the way can take the cookie"
    return ""


def _allowed(section: Any, path: Path) -> tuple[str, ...]:
    allow = section.get("allow", []) if isinstance(section, dict) else None
    if not isinstance(allow, list) or not all(isinstance(each, str) and "@" in each for each in allow):
        raise UserError(f'{path}: [skiff]: allow is a list of addresses and of domains, as in ["@example.org"]; {HOW}')
    if section.keys() - {"allow"} or section.get("allow") == []:
        raise UserError(f"{path}: [skiff]: has allow alone, which names somebody or is left out; {HOW}")
    return tuple(each.strip().lower() for each in allow)
