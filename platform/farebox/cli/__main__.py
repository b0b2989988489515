"""`python -m farebox.cli`: the command where no console script is installed."""

from farebox.cli import main

main()
