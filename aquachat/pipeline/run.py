"""`aquachat run`: the stages in order, in one process, with what each took."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aquachat.data.manifest import MANIFEST_NAME
from aquachat.pipeline.context import RunContext
from aquachat.pipeline.downloads import DownloadDisplay
from aquachat.pipeline.evaluation import evaluate_run, sample_answers
from aquachat.pipeline.names import TRAINING
from aquachat.pipeline.preparing import expand_names, open_remotes, prepare_datasets
from aquachat.pipeline.progress import ProgressBar
from aquachat.pipeline.tokenizing import tokenize
from aquachat.pipeline.training import train_stage
from aquachat.text.tokenizer import Tokenizer


class Sink(Protocol):
    """The part of the command's output that the pipeline uses."""

    def note(self, text: str) -> None:
        """Say what is being done."""
        ...

    def progress(self, description: str, total: float | None = None) -> Any:
        """A context manager that shows how far a task is."""
        ...


@dataclass(slots=True)
class _Pipeline:
    context: RunContext
    preset: str
    data: Path | None
    output: Sink
    stages: list[dict[str, Any]] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)

    def prepare(self) -> Mapping[str, Any]:
        """Make the recipe's data sets ready."""
        recipe, home = self.context.recipe, self.context.home
        wanted = []
        for name in expand_names(recipe.prepare.datasets, data=self.data):
            is_there = (home.data(name) / MANIFEST_NAME).is_file()
            if is_there and self.data is None and name != "synthetic":
                self.output.note(f"prepare: {name} is there; `aquachat prepare {name}` renews it")
            else:
                wanted.append(name)
        with self.output.progress("prepare", len(wanted)) as progress:
            display = DownloadDisplay(self.output, progress, "prepare", len(wanted))
            reports = prepare_datasets(
                wanted,
                recipe,
                home,
                source=None,
                data=self.data,
                note=self.output.note,
                on_done=display.end_set,
                remotes=open_remotes(home, recipe, display.show),
            )
        return {"metrics": {f"rows/{r.dataset}": r.num_rows for r in reports}}

    def tokenize(self) -> Mapping[str, Any]:
        """Train the vocabulary and write the corpus, unless an earlier start did."""
        context, name = self.context, self.context.recipe.tokenize.name
        done = (context.home.corpus(name) / "index.json").is_file()
        if context.resume and done and context.home.tokenizer(name).is_dir():
            tokenizer = Tokenizer.load(context.home.tokenizer(name))
            return {"metrics": {"vocab_size": tokenizer.n_vocab}}
        result = tokenize(context.recipe, context.home, note=self.output.note)
        metrics = {
            f"bytes_per_token/{source}": count.bytes_per_token
            for source, count in result.corpus.sources.items()
        }
        tokens = result.corpus.num_tokens("train")
        return {"tokens": tokens, "metrics": {"vocab_size": result.tokenizer.n_vocab, **metrics}}

    def train(self, stage: str) -> Mapping[str, Any]:
        """Train one stage; one that is finished is only read."""
        self.context.reporter.note(f"{stage}: training")
        result = train_stage(self.context, stage)
        return {
            "seconds": result.seconds,
            "tokens": result.tokens,
            "metrics": dict(result.metrics),
            "steps": result.step,
        }

    def evaluate(self) -> Mapping[str, Any]:
        """Evaluate the checkpoints that there are."""
        with self.output.progress("eval") as progress:
            bar: ProgressBar = progress
            self.evaluation = evaluate_run(self.context, bar)
        return {"metrics": {}}


def run_pipeline(
    context: RunContext,
    stages: Sequence[str],
    *,
    preset: str,
    data: Path | None,
    output: Sink,
    origins: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run `stages` in order.

    Args:
        context: the run and its recipe.
        stages: some of `aquachat.pipeline.names.PIPELINE`.
        preset: named in the report.
        data: folder of raw sets with a `data.toml`; None to use what the recipe says.
        output: notes and progress.
        origins: `section.key` -> where its value came from, for the report.

    Returns:
        The document of `aquachat run --json`.

    Raises:
        AquachatError: what a stage raises; stages before it keep their results.
    """
    started = time.perf_counter()
    pipeline = _Pipeline(context, preset, data, output)
    document: dict[str, Any] = {"run": context.run, "preset": preset}
    for stage in stages:
        if stage == "report":
            continue
        began = time.perf_counter()
        entry = dict(_run_stage(pipeline, stage))
        seconds = time.perf_counter() - began
        context.world.barrier()
        pipeline.stages.append({"stage": stage, "tokens": 0, **entry, "seconds": round(seconds, 2)})
    document |= {
        "seconds": round(time.perf_counter() - started, 2),
        "peak_rss_bytes": peak_rss_bytes(),
        "stages": pipeline.stages,
        "eval": pipeline.evaluation.get("results", []),
        "comparisons": pipeline.evaluation.get("comparisons", []),
        "samples": sample_answers(context, pipeline.evaluation),
        "report": None,
    }
    if "scores" in pipeline.evaluation:
        document["scores"] = pipeline.evaluation["scores"]
    if "report" in stages and context.world.is_main:
        from aquachat.track.report import write_report

        report = write_report(
            context.home.run(context.run), document | {"origins": dict(origins or {})}
        )
        document["report"] = str(report.markdown)
        from aquachat.track.wandb_report import publish_report

        publish_report(context.home.run(context.run), context.wandb, environ=context.environ)
    return document


def _run_stage(pipeline: _Pipeline, stage: str) -> Mapping[str, Any]:
    if stage == "prepare":
        return _on_main(pipeline, pipeline.prepare)
    if stage == "tokenize":
        return _on_main(pipeline, pipeline.tokenize)
    if stage in TRAINING:
        return pipeline.train(stage)
    return pipeline.evaluate()


def _on_main(pipeline: _Pipeline, function: Any) -> Mapping[str, Any]:
    """Run on the main process while the others wait."""
    result: Mapping[str, Any] = function() if pipeline.context.world.is_main else {}
    pipeline.context.world.barrier()
    return result


def peak_rss_bytes() -> int | None:
    """The most memory this process has held; None on Windows, which has no such count."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
