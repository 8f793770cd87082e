"""The command line: parse, call, print. One file for each command, imported when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from types import FrameType

import click

from prefdata.errors import UserError, closest

__all__ = ["main"]

_COMMANDS = {
    "build": "Build the dataset of a recipe; resumes where an earlier run stopped.",
    "check": "Show what a build would do, before anything is spent.",
    "pair": "Make pairs from a table of scored answers, without a recipe.",
    "train": "Train a model on a dataset; resumes where an earlier run stopped.",
    "run": "Carry out a recipe's iterations: sample, score, pair, train; resumes where it stopped.",
    "evaluate": "Evaluate a model: AlpacaEval, benchmarks, held-out preferences; resumes.",
    "compare": "Print evaluated models side by side, beside published numbers.",
    "verify": "Rebuild a dataset from its answers, and report every difference.",
    "push": "Publish a dataset on the Hub: one commit that holds all of it, or none.",
    "inspect": "Summarise a build, a dataset folder or a dataset of the Hub.",
    "audit": "Find ties, equal texts, duplicates, contradictions and leaks in the pairs of any dataset.",
    "diff": "Show what differs between two datasets.",
    "what-if": "Compare pair rules on the same scored answers.",
    "clean": "List old stages of a build with their sizes, or remove them.",
    "replay": "Find out whether a rule makes the pairs of a published dataset.",
    "recipes": "List the shipped recipes.",
    "rules": "List the pair rules in words, with their parameters.",
    "new": "Write a recipe file of your own, a copy of a shipped one.",
}

_STOPPED = 130
"""Exit code after Ctrl-C, as of every command that it ends."""


class _LazyGroup(click.Group):
    """Knows its commands by name and one line, so that `--help` imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            raise UserError(f"{cmd_name!r} is not a command", valid=closest(cmd_name, _COMMANDS))
        module = importlib.import_module(f"prefdata.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            kept = str(stop) or "what was finished is kept"
            sys.stderr.write(f"prefdata: stopped; {kept}; run the same command again\n")
            sys.exit(_STOPPED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prefdata", message="%(version)s")
def _group() -> None:
    """Build preference datasets from typed recipes.

    Data goes to stdout, progress and messages to stderr. A mistake that you can fix exits with 2.
    """


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends what is under way at the first Ctrl-C, and the process at the second: whole files stay whole."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(_STOPPED))
    raise KeyboardInterrupt


def main() -> None:
    """Runs the command line; a `UserError` prints its message, anything else its traceback."""
    before = signal.getsignal(signal.SIGINT)
    # A shell starts what runs in the background with the signal ignored, and other threads can't set it.
    if before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _stop)
    try:
        _group(prog_name="prefdata")
    except UserError as error:
        from prefdata.flow.fitting import on_terminal

        sys.stderr.write("\n".join([*on_terminal(f"prefdata: {error}", sys.stderr), ""]))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of stdout (head, less) has gone; nothing can be printed any more.
        sys.stderr.close()
        sys.exit(141)
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
