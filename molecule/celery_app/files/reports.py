"""An app that is one file. Nothing runs it; what it imports shows that its requirements are there."""

import click
import vine

app = (click.__name__, vine.__name__)
