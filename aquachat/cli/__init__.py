"""The command line: flags from recipes, output, exit codes."""
