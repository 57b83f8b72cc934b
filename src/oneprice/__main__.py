"""`python -m oneprice`: the command, where no script of that name is on the path."""

from oneprice.app.cli import main

main()
