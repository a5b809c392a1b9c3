"""`aquachat serve`: the API and the web page, from a run to a listening server."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import typer

from aquachat.cli.command import (
    Command,
    chosen_run,
    execute,
    open_context,
    recorded_recipe,
    resolve_recipe,
)
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command
from aquachat.errors import ConfigError, PreflightError

if TYPE_CHECKING:
    from aquachat.serve.service import Service

TOKEN_VARIABLE = "AQUACHAT_SERVE_TOKEN"
MIN_TOKEN_CHARS = 16


@recipe_command(
    "run",
    common=("run", "from_", "data_dir", *OUTPUT_OPTIONS),
    arguments={
        "host": Argument(
            str, "127.0.0.1", typer.Option("--host", help="Address to listen on; this machine only")
        ),
        "port": Argument(
            int, 8000, typer.Option("--port", min=0, max=65_535, help="0 takes any that is free")
        ),
        "max_replies": Argument(
            int, 64, typer.Option("--max-replies", min=1, help="Replies written at a time")
        ),
        "queue": Argument(
            int, 256, typer.Option("--queue", min=0, help="Replies that may wait; then 429")
        ),
        "grace": Argument(
            float,
            10.0,
            typer.Option("--grace", min=0.0, help="Seconds for open replies after Ctrl-C"),
        ),
        "allow_anyone": Argument(
            bool,
            False,
            typer.Option("--allow-anyone", help="Let other machines in without a token"),
        ),
    },
)
def serve(settings: Settings) -> None:
    """Serve a trained model: an OpenAI-compatible API and a web page.

    Other machines get in with `--host 0.0.0.0` and a token in AQUACHAT_SERVE_TOKEN.

    Examples:
        aquachat serve

        aquachat serve --run mine --port 8080
    """
    execute(settings, _serve)


def _serve(command: Command) -> None:
    settings = command.settings
    if missing := [name for name in ("starlette", "uvicorn") if not importlib.util.find_spec(name)]:
        raise PreflightError(
            f"`aquachat serve` needs {' and '.join(missing)}, not installed here",
            hint=f"run `python -m pip install {' '.join(missing)}`",
        )
    from aquachat.serve.server import open_socket, serve, url_of

    host = settings["host"]
    token = check_access(host, command.environ.get(TOKEN_VARIABLE, ""), settings["allow_anyone"])
    run = chosen_run(command)
    listener = open_socket(host, settings["port"])
    with listener:
        service = _make_service(command, run)
        url = url_of(listener)

        def announce() -> None:
            document = {
                "url": url,
                "host": host,
                "port": listener.getsockname()[1],
                "model": service.served.name,
                "needs_token": token is not None,
            }
            command.output.result(document, one_line=True)
            command.output.text(url)
            command.output.note(
                f"serving {service.served.name}: the page at {url}, the API at {url}/v1; "
                "Ctrl-C stops it"
            )

        serve(
            service,
            listener,
            host=host,
            token=token,
            grace_s=settings["grace"],
            on_ready=announce,
        )
    command.output.note("stopped")
    command.output.next_command(f"aquachat chat --run {run}")


def check_access(host: str, token: str, allow_anyone: bool) -> str | None:
    """The token that clients must present, None where none is asked for.

    Raises:
        ConfigError: other machines could use the model without one, or it is easily guessed.
    """
    from aquachat.serve.server import is_loopback

    token = token.strip()
    if token and (len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable()):
        raise ConfigError(
            f"{TOKEN_VARIABLE} must be at least {MIN_TOKEN_CHARS} plain characters",
            hint="make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`",
        )
    if not token and not is_loopback(host) and not allow_anyone:
        raise ConfigError(
            f"on {host} other machines could use the model, and there is no {TOKEN_VARIABLE}",
            hint=f"set {TOKEN_VARIABLE} in the environment or `.env`, or add `--allow-anyone`",
        )
    return token or None


def _make_service(command: Command, run: str) -> Service:
    from aquachat.pipeline.problems import Problems
    from aquachat.pipeline.talk import open_model
    from aquachat.serve.limits import LIMITS
    from aquachat.serve.model import ServedModel
    from aquachat.serve.service import Service
    from aquachat.serve.worker import ModelWorker
    from aquachat.text.render import ChatRenderer

    settings = command.settings
    recipe = resolve_recipe(command, recorded=recorded_recipe(command.home, run)).recipe
    context = open_context(command, recipe, run)
    loaded, engine = open_model(context)
    served = ServedModel(
        run=loaded.origin.run_dir.name,
        checkpoint=loaded.origin.name,
        engine=engine,
        renderer=ChatRenderer(loaded.tokenizer),
        tokenizer=loaded.tokenizer,
        created_s=int(loaded.origin.path.stat().st_mtime),
    )
    worker = ModelWorker(
        engine,
        max_rows=settings["max_replies"],
        max_waiting=settings["queue"],
        max_tokens=LIMITS.new_tokens,
    )
    if worker.max_rows < settings["max_replies"]:
        command.output.note(
            f"{worker.max_rows} replies are written at a time, as many as memory holds"
        )
    problems = Problems(context.folders.data_root, context.folders.aqua_dir)
    return Service(served, worker, problems, command.home.runs)
