"""Engines: how stage jobs are carried out. Each is one file with one function `carry_out(job, context)`."""
