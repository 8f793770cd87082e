"""`python -m prefdata` is the command line."""

from __future__ import annotations

from prefdata.cli.main import main

main()
