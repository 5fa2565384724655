"""What the estimate of a run says before it, and how far a ceiling is kept, through the command line."""

import json
import subprocess
import sys
from pathlib import Path

from engine_report import Report
from engine_runs import PATIENCE, Options, Server, serving

PRICE_IN, PRICE_OUT = 0.15, 0.60  # US dollars per million tokens
SETTINGS = """
[llm]
base_url = "{base_url}"
model = "bench-model"
max_tokens = 512
price_in = {price_in}
price_out = {price_out}
"""


def estimate(options: Options, report: Report) -> None:
    """
    What `synth generate --dry-run` says of the queries for all of the data, before anything is asked and after a sample
    of 30, against what the server has charged in the end. And ceilings on a server with faults, each kept twice.
    """
    with serving("--tokens", options.tokens) as server:
        workspace = _workspace(options, server)
        unasked = _dry_run(workspace)
        rest = _dry_run(workspace, "--sample", "30")
        sampled = _charged(server) + rest
        _synth("generate", "-w", workspace)
        final = _charged(server)
    ceilings, spent = [final / 10, final / 3, final / 2], []
    with serving("--tokens", options.tokens, "--faults") as server:
        workspace = _workspace(options, server)
        for ceiling in [each for each in ceilings for _ in range(2)]:
            _synth("generate", "-w", workspace, "--max-cost", f"{ceiling:.6f}", stops=True)
            spent.append(_charged(server) / ceiling)
    report.figures |= {
        "cost_estimated_unasked": unasked,
        "cost_estimated": sampled,
        "cost_final": final,
        "estimate_off_unasked": abs(unasked - final) / final,
        "estimate_off": abs(sampled - final) / final,
        "budget_spent_vs_ceiling": max(spent),
        "budget_least_used": min(spent),
    }


def _workspace(options: Options, server: Server) -> str:
    workspace = options.folder()
    _synth("init", workspace)
    _synth("ingest", str(options.data), "-w", workspace)
    settings = SETTINGS.format(base_url=server.base_url, price_in=PRICE_IN, price_out=PRICE_OUT)
    (Path(workspace) / "synth.toml").write_text(settings)
    return workspace


def _dry_run(workspace: str, *options: str) -> float:
    """What the estimate says that all that is left will cost."""
    printed = _synth("generate", "-w", workspace, "--dry-run", "--json", *options)
    cost: float = json.loads(printed.strip().splitlines()[-1])["estimate"]["cost"]
    return cost


def _charged(server: Server) -> float:
    """What the server has charged so far, broken replies included."""
    seen = server.stats()
    return float(seen["tokens_in"] * PRICE_IN + seen["tokens_out"] * PRICE_OUT) / 1e6


def _synth(*arguments: str, stops: bool = False) -> str:
    """What a command prints. `stops`: its budget may end it before it is done."""
    synth = str(Path(sys.executable).with_name("synth"))
    try:
        done = subprocess.run([synth, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"synth {' '.join(arguments)} hung: stopped after {PATIENCE:.0f} s") from None
    if done.returncode and not (stops and "--max-cost" in done.stderr + done.stdout):
        raise SystemExit(f"synth {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return done.stdout
