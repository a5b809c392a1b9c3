"""The Pipeline panel's first two commands: prepare and tokenize."""

from __future__ import annotations

from pathlib import Path

import typer

from aquachat.cli.command import Command, execute, resolve_recipe, show_recipe, with_names
from aquachat.cli.hygiene import check
from aquachat.cli.options import (
    OUTPUT_OPTIONS,
    RECIPE_OPTIONS,
    SET,
    Argument,
    Settings,
    recipe_command,
)


@recipe_command(
    "run",
    "prepare",
    common=(*RECIPE_OPTIONS, *OUTPUT_OPTIONS),
    arguments={
        "datasets": Argument(
            list[str] | None,
            None,
            typer.Argument(
                help="aqua, gsm8k, arc, mmlu, humaneval, smoltalk, identity, chat, core, fineweb, "
                "climbmix, text, synthetic or all"
            ),
        ),
        "source": Argument(
            str | None,
            None,
            typer.Option(
                "--source",
                help="File, folder, zip or tar, its https://, gs:// or s3:// address, or `hub`",
            ),
        ),
        "data": Argument(
            Path | None,
            None,
            typer.Option("--data", help="Folder of raw sets with a `data.toml` that names them"),
        ),
        "check": Argument(
            bool,
            False,
            typer.Option("--check", help="Report what is wrong with sets that are prepared"),
        ),
        **SET,
    },
)
def prepare(settings: Settings) -> None:
    """Make datasets ready: check the rows, write the splits and a manifest.

    Examples:
        aquachat prepare synthetic

        aquachat prepare aqua --source hub

        aquachat prepare aqua --source gs://nanochat-aquarat-datasets/datasets/aqua/aqua_cache.zip

        aquachat prepare fineweb --shards 8

        aquachat prepare aqua gsm8k text --data ../shared/data

        aquachat prepare --check aqua
    """
    execute(settings, _prepare)


def _prepare(command: Command) -> None:
    from aquachat.pipeline.downloads import DownloadDisplay
    from aquachat.pipeline.preparing import (
        expand_names,
        open_remotes,
        prepare_datasets,
        prepared_document,
        report_rows,
    )

    settings = command.settings
    resolved = resolve_recipe(command, with_data=settings["data"] is not None)
    names = settings["datasets"] or resolved.recipe.prepare.datasets
    if settings["dry_run"]:
        return show_recipe(command, resolved, {"datasets": ", ".join(names)})
    names = expand_names(names, source=settings["source"], data=settings["data"])
    if settings["check"]:
        return check(command, names, resolved.recipe.prepare.output_dir)
    with command.output.progress("prepare", len(names)) as progress:
        display = DownloadDisplay(command.output, progress, "prepare", len(names))
        remotes = open_remotes(command.home, resolved.recipe, display.show)
        reports = prepare_datasets(
            names,
            resolved.recipe,
            command.home,
            source=settings["source"],
            data=settings["data"],
            note=command.output.note,
            on_done=display.end_set,
            remotes=remotes,
        )
    command.output.result(prepared_document(reports, remotes))
    command.output.table("Prepared", *report_rows(reports))
    command.output.next_command("aquachat tokenize --preset tiny")


@recipe_command("run", "tokenize", common=(*RECIPE_OPTIONS, *OUTPUT_OPTIONS), arguments=SET)
def tokenize(settings: Settings) -> None:
    """Train the vocabulary, unless one is named, and write token shards for base training.

    Examples:
        aquachat tokenize --preset tiny

        aquachat tokenize --vocab-size 32768 --set 'tokenize.sources={text=0}'
    """
    execute(settings, _tokenize)


def _tokenize(command: Command) -> None:
    from aquachat.pipeline.tokenizing import tokenize as make_corpus

    preset = command.settings["preset"]
    resolved = resolve_recipe(command)
    recipe = with_names(resolved.recipe, preset or "default")
    if command.settings["dry_run"]:
        return show_recipe(command, resolved, {"corpus": recipe.tokenize.name})
    with command.output.progress("tokenize") as progress:
        result = make_corpus(
            recipe, command.home, note=command.output.note, progress=progress.advance
        )
    command.output.result(result.to_json())
    rows = [
        (name, count.documents, count.text_bytes, count.tokens, round(count.bytes_per_token, 3))
        for name, count in result.corpus.sources.items()
    ]
    title = f"Corpus {recipe.tokenize.name}, vocabulary {result.tokenizer.n_vocab:,}"
    command.output.table(title, ["source", "documents", "bytes", "tokens", "bytes/token"], rows)
    flag = f" --preset {preset}" if preset else ""
    command.output.next_command(f"aquachat train base{flag}")
