"""`aquachat prepare`: which data sets, from where, and a table of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aquachat.config.recipes import PrepareRecipe, Recipe
from aquachat.data.addresses import HTTP_SCHEMES, scheme_of
from aquachat.data.catalogue import (
    CORE,
    DATASETS,
    GROUPS,
    IDENTITY,
    KNOWN_NAMES,
    SHARDED_TEXTS,
    SYNTHETIC,
    TEXT,
    unknown_name,
)
from aquachat.data.download import Downloader, DownloadEvent
from aquachat.data.fetch import KNOWN_SUFFIXES, LocalSource, SourceFetcher
from aquachat.data.hub import HubRows, ResolveRevision, hub_rows, resolve_revision
from aquachat.data.manifest import PrepareReport
from aquachat.data.prepare import HygienePolicy, prepare_dataset
from aquachat.data.prepare_core import CORE_URL, core_summary, prepare_core
from aquachat.data.prepare_identity import DEFAULT_COUNT, prepare_identity
from aquachat.data.prepare_shards import prepare_shards
from aquachat.data.prepare_synthetic import prepare_synthetic
from aquachat.data.sources import SplitFiles, find_bundle_files, read_data_toml
from aquachat.data.text_documents import find_bundle_texts, find_shards, prepare_text
from aquachat.errors import ConfigError, MissingFileError
from aquachat.paths import Home
from aquachat.pipeline.hygiene import hygiene_notes

HUB: Final[Literal["hub"]] = "hub"
SYNTHETIC_TRAIN_ROWS = 5000
"""Training problems written to be looked at; training generates its own, without end."""

COLUMNS = ("dataset", "split", "rows", "left out", "flagged", "licence")


@dataclass(frozen=True, slots=True)
class Remotes:
    """What `prepare` reaches over the network; tests put others in their place."""

    fetcher: SourceFetcher
    hub: HubRows = hub_rows
    resolve: ResolveRevision = resolve_revision
    core_url: str = CORE_URL


def open_remotes(
    home: Home, recipe: Recipe, on_event: Callable[[DownloadEvent], None] | None = None
) -> Remotes:
    """The network, with downloads kept in `home`; `on_event` is told of their progress."""
    downloader = Downloader(num_workers=recipe.prepare.downloads_at_once, on_event=on_event)
    return Remotes(SourceFetcher(home.downloads, downloader, on_event=on_event))


def prepare_datasets(
    names: Sequence[str],
    recipe: Recipe,
    home: Home,
    *,
    source: str | None,
    data: Path | None,
    note: Callable[[str], None],
    on_done: Callable[[], None],
    remotes: Remotes | None = None,
) -> list[PrepareReport]:
    """Prepare each data set; those that are ready stay ready if a later one fails.

    Args:
        names: data sets, or names for several of them (`arc`, `all`).
        recipe: its `prepare` section and seed.
        home: where data sets go, unless the recipe names an output folder.
        source: a path, an address, or `hub`; None for `data`, else the hub.
        data: a folder with a `data.toml`.
        note: told what is being done.
        on_done: called after each data set.
        remotes: the network; by default the real one.

    Raises:
        ConfigError: an unknown data set, or one output folder for several.
        MissingFileError: a source is not there.
        DataError: a source cannot be used; what was prepared before is as it was.
        RemoteError: the hub or an address could not be reached.
    """
    section = recipe.prepare
    names = expand_names(names, source=source, data=data)
    if section.output_dir and len(names) > 1:
        raise ConfigError(
            f"{len(names)} data sets cannot share `--output-dir {section.output_dir}`",
            hint="prepare them one at a time",
        )
    repos = {repo for repo in map(_repo_of, names) if repo is not None}
    if section.revision and len(repos) > 1:
        raise ConfigError(
            f"`--revision {section.revision}` is of one set on the hub, not of {len(repos)}",
            hint="prepare them one at a time",
        )
    if TEXT in names and data is None and source in (None, HUB):
        raise ConfigError(
            "text for base training is read from files, and none were named",
            hint="add `--source PATH`, `--data DIR`, or run `aquachat prepare fineweb`",
        )
    preparation = _Preparation(home, recipe, source, data, remotes or open_remotes(home, recipe))
    reports = []
    for name in names:
        note(f"prepare: {name}")
        folder = Path(section.output_dir).expanduser() if section.output_dir else home.data(name)
        report = preparation.prepare(name, folder)
        if name == CORE:
            note(core_summary(report))
        for line in hygiene_notes(report):
            note(line)
        reports.append(report)
        on_done()
    return reports


def expand_names(
    names: Sequence[str], *, source: str | None = None, data: Path | None = None
) -> list[str]:
    """Data sets, with `arc` and `all` replaced by what they stand for, each once and in order.

    With `data`, `all` is what its `data.toml` names, and what is generated.

    Raises:
        ConfigError: a name that is not known, or `all` from one source.
    """
    found: dict[str, None] = {}
    for name in names:
        if name != "all":
            found.update(dict.fromkeys(GROUPS.get(name, (name,))))
        elif data is not None:
            found.update(dict.fromkeys((*read_data_toml(data), IDENTITY, SYNTHETIC)))
        elif source not in (None, HUB):
            raise ConfigError(
                "`all` needs a source for each data set, and `--source` names one",
                hint="use `--data DIR` with a `data.toml`, or leave `--source` out",
            )
        else:
            found.update(dict.fromkeys(GROUPS["all"]))
    for name in found:
        if name not in KNOWN_NAMES:
            raise unknown_name("data set", name, (*KNOWN_NAMES, *GROUPS))
    return list(found)


def _repo_of(name: str) -> str | None:
    """Where a set is on the hub."""
    if name in SHARDED_TEXTS:
        return SHARDED_TEXTS[name].repo
    spec = DATASETS.get(name)
    return None if spec is None or spec.hub is None else spec.hub.repo


@dataclass(frozen=True, slots=True)
class _Preparation:
    """One call of `prepare`: its settings, and where it reads."""

    home: Home
    recipe: Recipe
    source: str | None
    data: Path | None
    remotes: Remotes

    @property
    def _section(self) -> PrepareRecipe:
        return self.recipe.prepare

    def prepare(self, name: str, folder: Path) -> PrepareReport:
        """Prepare one data set into `folder`."""
        if name == SYNTHETIC:
            return self._synthetic(folder)
        local = self._local(name)
        if name == IDENTITY and local is None:
            count = self._section.max_train or DEFAULT_COUNT
            return prepare_identity(folder, self.recipe.run.seed, count)
        if name == CORE:
            local = local or self.remotes.fetcher.fetch(self.remotes.core_url)
            return prepare_core(local.path, folder, origin=local.origin)
        if name in SHARDED_TEXTS:
            return self._shards(name, folder, local)
        if name == TEXT:
            assert local is not None, "checked before the first set is prepared"
            return prepare_text(_text_files(local), folder)
        return self._rows(name, folder, local)

    def _local(self, name: str) -> LocalSource | None:
        """The source of a set, brought here; None for the hub, or what else the set comes from."""
        if self.source is None and self.data is not None:
            return self._from_data(name, self.data)
        if self.source in (None, HUB) or (name in SHARDED_TEXTS and self._is_shard_folder):
            return None
        assert self.source is not None
        return self.remotes.fetcher.fetch(self.source)

    def _from_data(self, name: str, data: Path) -> LocalSource | None:
        files = read_data_toml(data)
        if name == CORE and name in files:
            return LocalSource(files[CORE]["bundle"][0], str(data), is_copy=False)
        if name == CORE:
            raise MissingFileError(
                f"`{data / 'data.toml'}` has no [core]",
                hint='add it with a line `bundle = ["core/core.yaml"]`',
            )
        if name == IDENTITY and name not in files:
            return None
        return LocalSource(data, str(data), is_copy=False)

    @property
    def _is_shard_folder(self) -> bool:
        """Whether the source is a web address below which the shards lie."""
        source = self.source or ""
        is_file = source.partition("?")[0].lower().endswith(KNOWN_SUFFIXES)
        return scheme_of(source) in HTTP_SCHEMES and not is_file

    def _synthetic(self, folder: Path) -> PrepareReport:
        section = self._section
        counts: Mapping[str, int] = {
            "train": section.max_train or SYNTHETIC_TRAIN_ROWS,
            "new_numbers": section.synthetic_eval_rows,
            "new_phrasings": section.synthetic_eval_rows,
            "more_steps": section.synthetic_eval_rows,
        }
        return prepare_synthetic(folder, self.recipe.run.seed, counts)

    def _shards(self, name: str, folder: Path, local: LocalSource | None) -> PrepareReport:
        if local is not None:
            return prepare_text(find_shards(name, local.path, local.origin), folder, name=name)
        return prepare_shards(
            SHARDED_TEXTS[name],
            folder,
            self._section.shards,
            self.remotes.fetcher.fetch_all,
            base_url=self.source if self._is_shard_folder else None,
            revision=self._section.revision or None,
            resolve=self.remotes.resolve,
        )

    def _rows(self, name: str, folder: Path, local: LocalSource | None) -> PrepareReport:
        section = self._section
        where: Literal["hub"] | Path | SplitFiles = HUB
        if local is not None and local.is_copy:
            where = find_bundle_files(name, local.path, local.origin)
        elif local is not None:
            where = local.path
        return prepare_dataset(
            name,
            source=where,
            output_dir=folder,
            max_train=section.max_train or None,
            max_validation=section.max_validation or None,
            max_test=section.max_test or None,
            revision=section.revision or None,
            hub=self.remotes.hub,
            resolve=self.remotes.resolve,
            policy=HygienePolicy(
                self.home.root / "data", section.keep_contaminated, section.heldout_rows
            ),
        )


def report_rows(
    reports: Sequence[PrepareReport],
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Columns and rows of the table that `aquachat prepare` prints."""
    rows: list[tuple[object, ...]] = []
    for report in reports:
        for name, split in report.splits.items():
            rejected = ", ".join(f"{count} {reason}" for reason, count in split.rejected.items())
            flagged = len(split.flagged)
            rows.append((report.dataset, name, split.rows, rejected or 0, flagged, report.licence))
        rows += [
            (report.dataset, name, None, "absent", 0, report.licence) for name in report.absent
        ]
    return COLUMNS, rows


def prepared_document(reports: Sequence[PrepareReport], remotes: Remotes) -> dict[str, object]:
    """The document of `aquachat prepare --json`: what was prepared, its files, and downloads."""
    return {
        "datasets": [report.to_json() for report in reports],
        "files": [file for report in reports for file in report.files()],
        "downloads": [
            {
                "url": file.url,
                "path": str(file.path),
                "bytes": file.num_bytes,
                "sha256": file.sha256,
                "was_there": file.was_there,
            }
            for file in remotes.fetcher.fetched
        ],
    }


def _text_files(local: LocalSource) -> Path | SplitFiles:
    return find_bundle_texts(local.path, local.origin) if local.is_copy else local.path
