"""
The floor of benchmarks/review.py: one page without a framework, which posts every decision and is answered with the
next sample. Nothing is fetched before it is needed, nothing is checked, and nobody else is kept from a sample.

Example: python benchmarks/review_bare.py samples.sqlite 8600
"""

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

PAGE = """<!doctype html>
<title>A bare page</title>
<div class="query"><p class="text"></p></div><p id="positive"></p><ol id="negatives"></ol>
<script>
const reviewer = new URLSearchParams(location.search).get("reviewer")
let current = null
const show = (sample) => {
  current = sample.sample_id
  document.querySelector(".query .text").textContent = sample.query
  document.querySelector("#positive").textContent = sample.positive
  document.querySelector("#negatives").replaceChildren(...sample.negatives.map((text) => {
    const item = document.createElement("li")
    item.textContent = text
    return item
  }))
}
const decide = async (verdict) => {
  const body = JSON.stringify({ reviewer, sample_id: current, verdict })
  show(await (await fetch("/decisions", { method: "POST", body })).json())
}
addEventListener("keydown", (event) => { if (event.key === "a" && !event.repeat) decide("approve") })
fetch(`/next?reviewer=${reviewer}`).then((answer) => answer.json()).then(show)
</script>
"""
TABLES = """
CREATE TABLE sample (sample_id TEXT PRIMARY KEY, query TEXT, positive TEXT, negative TEXT, hardness REAL);
CREATE TABLE decision (reviewer TEXT, sample_id TEXT, verdict TEXT, PRIMARY KEY (reviewer, sample_id));
"""
NEXT = """
SELECT s.sample_id, s.query, s.positive, s.negative FROM sample s
WHERE NOT EXISTS (SELECT 1 FROM decision d WHERE d.reviewer = ? AND d.sample_id = s.sample_id)
ORDER BY s.hardness DESC, s.sample_id LIMIT 1
"""


def fill(path: Path, rows: list[tuple[str, str, str, str, float]]) -> None:
    """Make the database of (sample id, query, positive, negative, hardness)."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(TABLES)
        database.executemany("INSERT INTO sample VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("CREATE INDEX hardest ON sample (hardness DESC, sample_id)")
    database.close()


def main() -> None:
    """Serve the page on this machine until the process is stopped."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse, JSONResponse
    from starlette.routing import Route

    database = sqlite3.connect(Path(sys.argv[1]), isolation_level=None)  # every statement is a transaction

    def next_of(reviewer: str) -> "Response":
        sample_id, query, positive, negative = database.execute(NEXT, [reviewer]).fetchone()
        return JSONResponse({"sample_id": sample_id, "query": query, "positive": positive, "negatives": [negative]})

    async def page(request: "Request") -> "Response":
        return HTMLResponse(PAGE)

    async def first(request: "Request") -> "Response":
        return next_of(request.query_params["reviewer"])

    async def decisions(request: "Request") -> "Response":
        said = await request.json()
        database.execute("INSERT INTO decision VALUES (:reviewer, :sample_id, :verdict)", said)
        return next_of(said["reviewer"])

    routes = [Route("/", page), Route("/next", first), Route("/decisions", decisions, methods=["POST"])]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
