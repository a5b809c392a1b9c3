"""Running a program that nobody vouches for; see `docs/tasks.md` for what is promised where.

`runner` is what other code calls. `jail` and `guest` run in the child process, which loads nothing
else of this project, so this file imports nothing.
"""
