"""The report's charts, as plotly figures. A module draws one topic, from plain data.

``style`` has what they share: colours, axes, :class:`~taskmill.report.charts.style.Chart`. ``series`` turns single
moments into what a chart shows, without plotly. What depends on light or dark is left to the page. plotly reads markup
and ``%{...}`` in labels, so every name goes through :func:`taskmill.report.text.label`.
"""
