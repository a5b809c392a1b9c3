"""What the commands of the pipeline share: the run, its recipe, its data, its reporter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aquachat.config.recipes import Recipe
from aquachat.config.resolve import to_toml_document
from aquachat.paths import Home, aqua_directory
from aquachat.pipeline.mixtures import DataFolders
from aquachat.track.logger import MetricSink
from aquachat.track.wandb_sink import WandbOptions, open_wandb
from aquachat.train.session import Reporter, Session
from aquachat.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One run, as a command works on it."""

    home: Home
    run: str
    recipe: Recipe
    world: World
    reporter: Reporter
    resume: bool = False
    origin: str | None = None
    depth: int | None = None
    """`--depth` as it was given, None where it was not."""
    data_dir: Path | None = None
    wandb: WandbOptions = field(default_factory=lambda: WandbOptions("off"))
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def folders(self) -> DataFolders:
        """Where the tasks of this run read their rows."""
        aqua = aqua_directory(self.data_dir, self.home, self.environ)
        return DataFolders(self.home.root / "data", aqua.path)

    def session(self, stage: str) -> Session:
        """The training session of one stage."""
        return Session(
            home=self.home,
            run=self.run,
            stage=stage,
            recipe=self.recipe,
            world=self.world,
            reporter=self.reporter,
            resume=self.resume,
            origin=self.origin,
            depth=self.depth,
            data_dir=self.data_dir,
            make_sinks=self._sink_maker(stage),
        )

    def _sink_maker(self, stage: str) -> Callable[[Path], Sequence[MetricSink]]:
        def make(stage_dir: Path) -> Sequence[MetricSink]:
            sink = open_wandb(
                stage_dir,
                run=self.run,
                stage=stage,
                options=self.wandb,
                config=to_toml_document(self.recipe),
                resume=self.resume,
                environ=self.environ,
            )
            return () if sink is None else (sink,)

        return make
