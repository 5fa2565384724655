"""What the tests of reading ask a model for, and the reply that is as asked."""

from pydantic import BaseModel, ConfigDict, Field

from synth.recipes.reading import Repaired, read_reply


class Queries(BaseModel):
    model_config = ConfigDict(strict=True)

    queries: list[str] = Field(min_length=1)


class Scored(BaseModel):
    model_config = ConfigDict(strict=True)

    text: str
    score: float


class Pairs(BaseModel):
    model_config = ConfigDict(strict=True)

    topic: str
    pairs: list[Scored]
    best: int | None = None


OBJECT = '{"queries": ["what is {light}?", "a \\"quoted\\" one"]}'
EXPECTED = ["what is {light}?", 'a "quoted" one']


def queries_of(reply: str) -> tuple[list[str], Repaired]:
    read, repaired = read_reply(reply, Queries)
    return read.queries, repaired
