"""Old names of commands and options: refused with the new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = {"letters": "dead-letters", "post": "publish"}


class RenamedError(click.ClickException):
    """An old name; exit code 2, as for any wrong command line."""

    exit_code = 2

    def __init__(self, old: str, new: str) -> None:
        """Take both names as a user types them."""
        super().__init__(f"`{old}` is called `{new}` now")


class Group(click.Group):
    """A group that knows the old names of its commands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; raise ``RenamedError`` for an old name."""
        if args[0] in COMMANDS:
            raise RenamedError(f"taskmill {args[0]}", f"taskmill {COMMANDS[args[0]]}")
        return super().resolve_command(ctx, args)


def renamed_option(
    old: str, new: str, *, takes_value: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that refuses an option's old name, with or without a value behind it."""

    def refuse(_context: click.Context, _parameter: click.Parameter, given: bool | str | None) -> None:
        if given not in (None, False):
            raise RenamedError(old, new)

    return click.option(old, is_flag=not takes_value, hidden=True, is_eager=True, expose_value=False, callback=refuse)
