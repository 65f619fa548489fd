"""``python -m nephi``: the command line."""

from .cli.main import program

program()
