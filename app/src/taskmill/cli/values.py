"""Types of the options' values, each read or refused with what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from taskmill.model.plan import NAME, Route
from taskmill.model.thresholds import Requirement

POSITIVE = click.IntRange(min=1)
SECONDS = click.FloatRange(min=0, min_open=True)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


class RouteType(click.ParamType[Route]):
    """``TASK=QUEUE``."""

    name = "TASK=QUEUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Route:
        """Read one."""
        try:
            return value if isinstance(value, Route) else Route.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class JsonType(click.ParamType[list[Any]]):
    """A JSON value, given as ``[value]`` so that ``null`` differs from an option that is not given."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """Read one."""
        if isinstance(value, list):
            return value
        try:
            return [json.loads(value)]
        except ValueError:
            self.fail(f"{value!r} is not JSON", param, ctx)


class RequirementType(click.ParamType[Requirement]):
    """``METRIC OPERATOR NUMBER``."""

    name = "'METRIC>=NUMBER'"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Requirement:
        """Read one."""
        try:
            return value if isinstance(value, Requirement) else Requirement.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class NameType(click.ParamType[str]):
    """The name of a run, fit for a folder's name."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read one."""
        if not NAME.fullmatch(value) or len(value) > 100:
            self.fail(
                f"{value!r} must be made of letters, digits, '.', '_' and '-', begin with a letter or a digit, and "
                f"have no more than 100 of them",
                param,
                ctx,
            )
        return str(value)


class VariableType(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Read one."""
        name, equals, said = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} does not have the form {self.name}", param, ctx)
        return name, said


class FigureType(click.ParamType[tuple[str, float]]):
    """``NAME=NUMBER``."""

    name = "NAME=NUMBER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Read one."""
        name, _, figure = str(value).partition("=")
        try:
            return name, float(figure)
        except ValueError:
            self.fail(f"{value!r} does not have the form {self.name}", param, ctx)
