"""A history as a drawing: one row for each revision, the newest on top, one lane for each branch."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from freezekit.check.findings import Graph

_ROW, _LANE, _RADIUS, _MARGIN = 34, 26, 6, 20
_TEXT_WIDTH = 720


def svg(graph: Graph) -> str:
    """Return a history as an SVG image that stands inside a page; everything in it is escaped."""
    rows = list(reversed(graph.revisions))
    lanes = _lanes(graph)
    depth = {revision: _MARGIN + index * _ROW for index, (revision, _, _) in enumerate(rows)}
    width = _MARGIN * 2 + (max(lanes.values(), default=0) + 1) * _LANE
    height = _MARGIN * 2 + max(len(rows) - 1, 0) * _ROW
    size = f'width="{width + _TEXT_WIDTH}" height="{height}"'
    label = escape(f"History of {graph.name}")
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">'
    return "\n".join([opening, *_edges(graph, lanes, depth), *_nodes(graph, lanes, depth, width), "</svg>"])


def _lanes(graph: Graph) -> dict[str, int]:
    """Return the lane of each revision: that of its first parent, unless another child took it."""
    lanes: dict[str, int] = {}
    tips: list[str | None] = []
    for revision, parents, _ in graph.revisions:
        lane = next((tips.index(parent) for parent in parents if parent in tips), None)
        if lane is None:
            lane = len(tips)
            tips.append(None)
        tips[lane] = revision
        for merged in parents[1:]:
            if merged in tips:
                tips[tips.index(merged)] = None
        lanes[revision] = lane
    return lanes


def _x(lane: int) -> int:
    return _MARGIN + lane * _LANE


def _edges(graph: Graph, lanes: dict[str, int], depth: dict[str, int]) -> Iterator[str]:
    for revision, parents, _ in graph.revisions:
        x, y = _x(lanes[revision]), depth[revision]
        for parent in parents:
            if parent in depth:
                to_x, to_y = _x(lanes[parent]), depth[parent]
                bend = to_y - _ROW // 2
                yield f'<path class="edge" d="M{x} {y} C{x} {bend} {to_x} {bend} {to_x} {to_y}"/>'
            else:
                yield f'<path class="edge lost" d="M{x} {y} V{y + _ROW // 2}"/>'


def _nodes(graph: Graph, lanes: dict[str, int], depth: dict[str, int], left: int) -> Iterator[str]:
    for revision, parents, doc in graph.revisions:
        kind = "head" if revision in graph.heads else "node"
        title = escape(f"{revision}, after {', '.join(parents) or 'nothing'}")
        yield (
            f'<g class="{kind}"><title>{title}</title>'
            f'<circle cx="{_x(lanes[revision])}" cy="{depth[revision]}" r="{_RADIUS}"/>'
            f'<text x="{left}" y="{depth[revision] + 4}"><tspan class="id">{escape(revision)}</tspan> '
            f"{escape(doc)}</text></g>"
        )
