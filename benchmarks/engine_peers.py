"""
The benchmark's peers, each as its own documentation has it: curator, distilabel, Data Designer.

Run by the Python of an environment that has the peer (README.md makes them), with a job of engine_job.py. What makes
one wait for the network is turned off by its own settings; limits that it would guess are set out of the way.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from engine_job import MODEL, Job, Prepared, Tally, measured

KEY = "none"
MAX_TOKENS = 512
RETRIES = 10


def curator(job: Job, tally: Tally) -> Prepared:
    """bespokelabs-curator: an LLM class over a data set, with its cache in the job's folder."""
    os.environ.update(TELEMETRY_ENABLED="false", CURATOR_CACHE_DIR=job.folder, HF_HOME=job.folder)
    os.environ["TIKTOKEN_CACHE_DIR"] = _tiktoken_tables()
    from bespokelabs import curator as package

    class Asker(package.LLM):  # type: ignore[misc, name-defined]
        def prompt(self, input: dict[str, str]) -> str:
            return input["prompt"]

        def parse(self, input: dict[str, str], response: str) -> dict[str, str]:
            return {"number": input["number"], "text": response}

    def run() -> None:
        asker = Asker(
            model_name=MODEL,
            backend="openai",
            generation_params={"temperature": 1.0},
            backend_params={
                "base_url": job.base_url,
                "api_key": KEY,
                "max_retries": RETRIES,
                "max_concurrent_requests": job.in_flight,
                "max_requests_per_minute": 10**8,
                "max_tokens_per_minute": 10**10,
                "require_all_responses": False,
            },
        )
        answered = asker([{"number": number, "prompt": prompt} for number, prompt in job.numbered()])
        for row in answered.dataset:
            tally.reply(row["number"], row["text"])
        tally.lost = job.rows - tally.got

    return run


def _tiktoken_tables() -> str:
    """The tables that litellm carries: curator would fetch one of them from the network at its start."""
    import litellm

    return str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")


def _distilabel_llm(job: Job) -> object:
    os.environ.update(HF_HUB_OFFLINE="1", DISTILABEL_CACHE_DIR=job.folder)
    from distilabel.models import OpenAILLM

    return OpenAILLM(
        model=MODEL,
        base_url=job.base_url,
        api_key=KEY,
        max_retries=RETRIES,
        generation_kwargs={"max_new_tokens": MAX_TOKENS},
    )


def distilabel_pipeline(job: Job, tally: Tally) -> Prepared:
    """distilabel: a pipeline of one TextGeneration step, whose batches are what may be in flight."""
    llm = _distilabel_llm(job)
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    def run() -> None:
        rows = [{"number": number, "instruction": prompt} for number, prompt in job.numbered()]
        with Pipeline(name="bench", cache_dir=Path(job.folder)) as pipeline:
            load = LoadDataFromDicts(name="load", data=rows, batch_size=job.in_flight)
            ask = TextGeneration(name="ask", llm=llm, input_batch_size=job.in_flight)
            load.connect(ask)
        answered = pipeline.run(use_cache=True)
        for row in answered["default"]["train"]:
            if row["generation"] is not None:
                tally.reply(row["number"], row["generation"])
        tally.lost = job.rows - tally.got

    return run


def distilabel_llm(job: Job, tally: Tally) -> Prepared:
    """distilabel's LLM class alone, asked by as many workers as may be in flight: no pipeline, no cache."""
    llm = _distilabel_llm(job)
    import openai

    async def run() -> None:
        llm.load()
        rows = job.numbered()

        async def worker() -> None:
            for number, prompt in rows:
                try:
                    made = await llm.agenerate(input=[{"role": "user", "content": prompt}], max_new_tokens=MAX_TOKENS)
                except (openai.OpenAIError, ValueError) as error:
                    tally.failed(error)
                else:
                    tally.reply(number, made["generations"][0] or "")

        async with asyncio.TaskGroup() as group:
            for _ in range(job.in_flight):
                group.create_task(worker())

    return lambda: asyncio.run(run())


def data_designer(job: Job, tally: Tally) -> Prepared:
    """Data Designer: a seed table and one text column of it, resumed where it can be."""
    os.environ.update(NEMO_TELEMETRY_ENABLED="false", HF_HUB_OFFLINE="1")
    import data_designer.config as dd
    import pandas
    from data_designer.config.run_config import RunConfig
    from data_designer.engine.storage.artifact_storage import ResumeMode
    from data_designer.interface.data_designer import DataDesigner

    def run() -> None:
        rows = pandas.DataFrame(job.numbered(), columns=["number", "prompt"])
        seeds = Path(job.folder) / "seeds.parquet"
        rows.to_parquet(seeds)
        inference = dd.ChatCompletionInferenceParams(
            max_parallel_requests=job.in_flight, max_tokens=MAX_TOKENS, timeout=120
        )
        model = dd.ModelConfig(
            alias="bench", model=MODEL, provider="bench", inference_parameters=inference, skip_health_check=True
        )
        designer = DataDesigner(
            artifact_path=Path(job.folder) / "artifacts",
            model_providers=[dd.ModelProvider(name="bench", endpoint=job.base_url, api_key=KEY)],
        )
        designer.set_run_config(RunConfig(disable_early_shutdown=True, otel_metrics_port=None))
        builder = dd.DataDesignerConfigBuilder(model_configs=[model])
        builder.with_seed_dataset(
            dd.LocalFileSeedSource(path=str(seeds)), sampling_strategy=dd.SamplingStrategy.ORDERED
        )
        builder.add_column(dd.LLMTextColumnConfig(name="text", prompt="{{ prompt }}", model_alias="bench"))
        made = designer.create(
            builder, num_records=job.rows, dataset_name="bench", resume=ResumeMode.IF_POSSIBLE
        ).load_dataset()
        for number, text in zip(made["number"], made["text"], strict=True):
            if isinstance(text, str):
                tally.reply(int(number), text)
        tally.lost = job.rows - tally.got

    return run


PEERS: dict[str, Callable[[Job, Tally], Prepared]] = {
    "curator": curator,
    "distilabel": distilabel_pipeline,
    "distilabel LLM": distilabel_llm,
    "data-designer": data_designer,
}

if __name__ == "__main__":
    measured(PEERS)
