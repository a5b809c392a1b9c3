"""`python -m aquachat` is the `aquachat` command."""

from aquachat.cli.app import main

if __name__ == "__main__":
    main()
