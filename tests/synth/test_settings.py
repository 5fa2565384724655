"""Settings: what is unknown, missing or of the wrong type is named with its place."""

import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from synth.records import UserError
from synth.settings import CONFIG, read_toml, record_of
from synth.stages.mine.settings import MineSettings
from synth.workspace import TEMPLATE, Workspace


@dataclass(frozen=True)
class Sails:
    colour: str
    area: float = 3.5
    reefed: bool = False
    rig: Literal["lug", "sprit"] = "lug"
    extra: dict[str, Any] = field(default_factory=dict)


def test_a_table_becomes_a_record_with_defaults() -> None:
    assert record_of(Sails, {"colour": "red", "area": 4}, "boat.toml") == Sails("red", area=4.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"color": "red"}, "unknown key color: did you mean colour?"),
        ({"colour": "red", "xyz": 1}, "unknown key xyz: known are colour, area, reefed, rig, extra"),
        ({}, "missing colour"),
        ({"colour": 3}, "colour must be a text, not 3"),
        ({"colour": "red", "area": True}, "area must be a number, not True"),
        ({"colour": "red", "reefed": 1}, "reefed must be true or false, not 1"),
        ({"colour": "red", "rig": "gaff"}, "rig must be one of lug, sprit, not 'gaff'"),
        ({"colour": "red", "extra": 1}, "extra must be a table, not 1"),
        ([], "must be a table of settings"),
        ({"colour": "red", "area": 10**400}, "area must be a number of at most 64 bits"),
        ({"colour": 1 << 99999}, "colour must be a text, not a number of more than 64 bits"),
        ({"colour": "red\0"}, "colour must be a text without NUL"),
        ({"colour": "red", "rig": "x" * 5000}, "not '" + "x" * 60 + "…'"),
    ],
)
def test_what_does_not_fit_is_named(table: object, message: str) -> None:
    with pytest.raises(UserError) as raised:
        record_of(Sails, table, "boat.toml")
    assert str(raised.value).startswith("boat.toml")
    assert message in str(raised.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="settings cannot be read"):
        read_toml(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = " + "9" * 5000, "integer string conversion"),
        ("a = '\x80'".encode("latin-1").decode("utf-8", "surrogateescape"), "can't decode"),
        ("'" + "k" * 5000 + "' = 1", "longer than 255 bytes"),
        ("[[a]]\n'" + "中" * 86 + "' = 1", "longer than 255 bytes"),
        ('[a]\n"b\\u0000c" = 1', "NUL character"),
    ],
)
def test_a_hostile_file_is_one_short_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "hostile.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UserError, match=message) as raised:
        read_toml(path)
    assert str(raised.value).startswith(str(path))
    assert len(str(raised.value)) < len(str(path)) + 250


def test_a_byte_order_mark_and_deep_dotted_keys_are_let_pass(tmp_path: Path) -> None:
    path = tmp_path / "notepad.toml"
    path.write_text("colour = 'red'\n", encoding="utf-8-sig")
    assert read_toml(path) == {"colour": "red"}
    path.write_text(".".join("a" * 2000) + " = 1\n")
    assert "a" in read_toml(path)


def test_the_template_of_synth_toml_is_valid_as_it_is_and_with_every_line_uncommented(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path)
    assert workspace.llm(base_url=None, model=None) is None
    bare = [line.removeprefix("# ") for line in TEMPLATE.splitlines()]
    settings = [line for line in bare if " = " in line or line.startswith("[")]
    (tmp_path / CONFIG).write_text("\n".join(settings))
    opened = Workspace.open(tmp_path)
    llm = opened.llm(base_url=None, model=None)
    assert llm is not None
    [endpoint] = llm.endpoints
    assert (endpoint.base_url, endpoint.weight) == ("http://10.0.0.7:8000/v1", 2.0)
    assert (endpoint.price_in, endpoint.batch_price_out, endpoint.tokens_per_minute) == (0.15, 0.30, 200_000)
    named = opened.llm(base_url=None, model="other")  # on the command line: asked alone
    assert named is not None
    assert [(each.base_url, each.model) for each in named.endpoints] == [("http://127.0.0.1:8000/v1", "other")]


ENDPOINTS = """
[llm]
temperature = 0.5
price_in = 1
price_out = 2
[[llm.endpoints]]
base_url = "http://one/v1"
model = "small"
[[llm.endpoints]]
base_url = "http://two/v1"
model = "large"
weight = 0.25
price_in = 10.0
price_out = 20.0
"""


def test_endpoints_have_the_settings_of_all_and_their_own_over_them(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text(ENDPOINTS)
    llm = Workspace.open(tmp_path).llm(base_url=None, model=None)
    assert llm is not None and llm.temperature == 0.5
    assert [(each.model, each.weight, each.price_in) for each in llm.endpoints] == [
        ("small", 1.0, 1.0),
        ("large", 0.25, 10.0),
    ]
    assert str(llm) == "small at http://one/v1, large at http://two/v1"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('model = "small"', 'modle = "small"', r"endpoint 1: unknown key modle: did you mean model\?"),
        ('model = "small"', "", r"both its server and its name: .* in synth.toml$"),
        ("weight = 0.25", "weight = 0", "weight must be 0.000001 to 1,000,000"),
        ("weight = 0.25", 'weight = "much"', "endpoint 2: weight must be a number"),
        (
            'base_url = "http://two/v1"\nmodel = "large"',
            'base_url = "http://one/v1"\nmodel = "small"',
            "the same base_url",
        ),
        ("[[llm.endpoints]]", "[llm.endpoints]", "cannot be read"),
        ("temperature = 0.5", "temprature = 0.5", "did you mean temperature"),
    ],
)
def test_a_slip_in_the_endpoints_is_one_line_that_names_it(tmp_path: Path, old: str, new: str, said: str) -> None:
    Workspace.create(tmp_path)
    assert old in ENDPOINTS
    (tmp_path / CONFIG).write_text(ENDPOINTS.replace(old, new))
    with pytest.raises(UserError, match=said) as caught:
        Workspace.open(tmp_path).llm(base_url=None, model=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"model": "large"}, ["large at http://two/v1: 10.0"]),
        ({"base_url": "http://one/v1"}, ["small at http://one/v1: 1.0"]),
        ({"model": "small"}, ["small at http://one/v1: 1.0", "small at http://three/v1: 1.0"]),
        ({"model": "small", "base_url": "http://three/v1"}, ["small at http://three/v1: 1.0"]),
        ({"model": "new", "base_url": "http://one/v1"}, ["new at http://one/v1: None"]),
        ({"model": "large", "base_url": "http://one/v1"}, ["large at http://one/v1: None"]),
    ],
)
def test_an_option_asks_the_endpoints_that_it_names_alone_and_with_their_settings(
    tmp_path: Path, options: dict[str, str], asked: list[str]
) -> None:
    Workspace.create(tmp_path)
    third = '[[llm.endpoints]]\nbase_url = "http://three/v1"\nmodel = "small"\n'
    (tmp_path / CONFIG).write_text(ENDPOINTS + third)
    llm = Workspace.open(tmp_path).llm(**{"base_url": None, "model": None, **options})
    assert llm is not None
    assert [f"{each.model} at {each.base_url}: {each.price_in}" for each in llm.endpoints] == asked


ONE = """
[llm]
base_url = "http://one/v1"
model = "small"
api_key_env = "MY_KEY"
temperature = 0.5
concurrency = 7
requests_per_minute = 500
tokens_per_minute = 90000
price_in = 1
price_out = 2
batch_price_in = 0.5
batch_price_out = 1
"""


@pytest.mark.parametrize(
    ("options", "prices", "rates"),
    [
        ({}, (1.0, 2.0, 0.5, 1.0), (500, 90_000)),
        ({"model": "small"}, (1.0, 2.0, 0.5, 1.0), (500, 90_000)),
        ({"base_url": "http://one/v1", "model": "small"}, (1.0, 2.0, 0.5, 1.0), (500, 90_000)),
        ({"model": "huge"}, (None, None, None, None), (500, 90_000)),
        ({"base_url": "http://two/v1"}, (None, None, None, None), (None, None)),
        ({"base_url": "http://two/v1", "model": "huge"}, (None, None, None, None), (None, None)),
    ],
)
def test_another_model_has_no_price_and_another_server_no_limits_that_are_stated_of_the_first(
    tmp_path: Path, options: dict[str, str], prices: tuple[float | None, ...], rates: tuple[int | None, ...]
) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text(ONE)
    llm = Workspace.open(tmp_path).llm(**{"base_url": None, "model": None, **options})
    assert llm is not None
    [found] = llm.endpoints
    assert (found.price_in, found.price_out, found.batch_price_in, found.batch_price_out) == prices
    assert (found.requests_per_minute, found.tokens_per_minute) == rates
    assert (found.concurrency, found.api_key_env, llm.temperature) == (7, "MY_KEY", 0.5)


@pytest.mark.parametrize("stated", ["", 'base_url = "http://one/v1"\n', 'model = "small"\n'])
def test_an_option_that_only_completes_what_is_stated_keeps_its_price(tmp_path: Path, stated: str) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text(f"[llm]\n{stated}price_in = 1\nprice_out = 2\nrequests_per_minute = 9\n")
    llm = Workspace.open(tmp_path).llm(base_url="http://one/v1", model="small")
    assert llm is not None
    assert (llm.endpoints[0].price_in, llm.endpoints[0].requests_per_minute) == (1.0, 9)


def test_the_limits_of_listed_servers_are_not_those_of_one_that_is_not_listed(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text(ENDPOINTS.replace("price_in = 1\n", "requests_per_minute = 9\nprice_in = 1\n"))
    opened = Workspace.open(tmp_path)
    for server, rate in (("http://one/v1", 9), ("http://elsewhere/v1", None)):
        llm = opened.llm(base_url=server, model="new")
        assert llm is not None
        assert (llm.endpoints[0].price_in, llm.endpoints[0].requests_per_minute) == (None, rate)


def test_an_option_that_names_no_endpoint_is_told_those_that_there_are(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text(ENDPOINTS)
    with pytest.raises(UserError, match=r"which lists small at http://one/v1, large at http://two/v1$"):
        Workspace.open(tmp_path).llm(base_url=None, model="medium")


def test_making_a_workspace_again_keeps_what_is_there(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    (tmp_path / CONFIG).write_text("[mine]\nencoder = 'mine'\n")
    assert Workspace.create(tmp_path).config.mine.encoder == "mine"


def test_the_settings_file_that_init_writes_names_every_setting_of_mine_with_its_default(tmp_path: Path) -> None:
    Workspace.create(tmp_path)
    table = (tmp_path / CONFIG).read_text().partition("[mine]\n")[2]
    stated = "\n".join(re.findall(r"^# (\w+ = .*)$", table, re.MULTILINE))
    (tmp_path / CONFIG).write_text(f"[mine]\n{stated}\n")
    found, usual = asdict(Workspace.open(tmp_path).config.mine), asdict(MineSettings())
    assert re.findall(r"^\w+", stated, re.MULTILINE) == list(usual)
    no_default = {"dimensions", "query_instruction", "passage_instruction", "max_length", "absolute_cap"}
    examples = no_default | {"base_url", "miners", "reranker"}
    assert {name for name in usual if found[name] != usual[name]} == examples


@pytest.mark.parametrize("name", [b"\xff\xfe", b"what?", b"one\ntwo"])
def test_a_folder_whose_path_duckdb_cannot_be_told_is_refused_and_left_alone(tmp_path: Path, name: bytes) -> None:
    root = tmp_path / os.fsdecode(name)
    for make in (Workspace.create, Workspace.open):
        with pytest.raises(UserError, match="no workspace can be in a folder with a question mark"):
            make(root)
    assert not root.exists()
