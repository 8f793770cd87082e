"""A command line inside a text, for the programs that tests run in processes of their own."""

from __future__ import annotations

COMMAND = """
import sys
from prefdata.cli.main import main

def command(*arguments):
    sys.argv = ["prefdata", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0
"""
"""Defines `command`, which runs the command line and returns its exit code."""
