"""Draw the memory guard's states from the table in hotpath/guard/states.py: a picture, and tables in the guard's page.

python tools/state_diagram.py            write guard-states.svg, and in guard.md the part between the two marks
python tools/state_diagram.py --check    write nothing; 1 when one of them is not what would be written
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

from hotpath.guard.states import TABLE, State, Thresholds

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "guard.md"
PICTURE = DOCUMENT.with_name("guard-states.svg")
BEGIN = "<!-- drawn by tools/state_diagram.py -->"
END = "<!-- end of what is drawn -->"

Arrow = tuple[State, State]

# From left to right, by how much is refused; BLIND stands below, since it is no degree of pressure.
CHAIN = (State.NORMAL, State.TRIM, State.SHED, State.BRAKE, State.DRAIN)
FILLS = {
    State.NORMAL: "#ffffff",
    State.TRIM: "#fff3c4",
    State.SHED: "#ffd8a8",
    State.BRAKE: "#ffb3b3",
    State.DRAIN: "#d9d9d9",
    State.BLIND: "#eeeeee",
}

# Pixels; as wide as a page of the documentation shows a picture without making its text smaller.
WIDTH = 800
CARD_WIDTH, GAP, LEFT, TOP = 136, 26, 8, 98
BELOW = 130  # from the cards to that of BLIND: the longest arc has room
BLIND_PLACE = 2  # below the card of this place
LINE_HEIGHT, LINE_CHARACTERS = 14, 20
FIRST_LINE, LAST_LINE = 38, 12  # from the top of a card, and to its bottom
ARROW_GAP = 15  # between two that begin or end at the same edge

COLOURS = {"rise": "#b03030", "calm": "#2e7d32", "end": "#222222", "blind": "#6b6b6b"}
LEGEND = {
    "rise": "memory gets short",
    "calm": "below “leave” for the dwell time",
    "end": "the process finishes requests and leaves",
    "blind": "readings fail, and are good again",
}


def arrows() -> dict[Arrow, list[str]]:
    """Each arrow once, with all that leads along it."""
    found: dict[Arrow, list[str]] = {}
    for row in TABLE:
        for source in row.sources:
            texts = found.setdefault((source, row.target), [])
            if row.text not in texts:
                texts.append(row.text)
    return found


def kind_of(arrow: Arrow) -> str:
    """Which of the four kinds of arrows it is, for its colour."""
    source, target = arrow
    if State.BLIND in arrow:
        return "blind"
    if target is State.DRAIN:
        return "end"
    return "rise" if CHAIN.index(target) > CHAIN.index(source) else "calm"


def draw() -> str:
    """The picture, as SVG."""
    bottom = TOP + max(map(_height, CHAIN))
    blind_top = bottom + BELOW
    shapes = [*_chain_arrows(bottom), *_blind_arrows(bottom, blind_top)]
    for place, state in enumerate(CHAIN):
        shapes += _card(state, _x(place), TOP, bottom - TOP)
    shapes += _card(State.BLIND, _x(BLIND_PLACE), blind_top, _height(State.BLIND))
    height = blind_top + _height(State.BLIND) + LINE_HEIGHT * 2
    for place, (kind, told) in enumerate(LEGEND.items()):
        y = height - 16 - LINE_HEIGHT * 1.2 * (len(LEGEND) - 1 - place)
        shapes.append(_line(kind, f"M {LEFT} {y - 4:g} H {LEFT + 30}"))
        shapes.append(f'<text x="{LEFT + 40}" y="{y:g}">{escape(told)}</text>')
    heads = [
        f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        f' orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="{colour}"/></marker>'
        for kind, colour in COLOURS.items()
    ]
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="system-ui, sans-serif" font-size="11.5" fill="#222222">'
    )
    return "\n".join(
        [
            root,
            f"<title>The memory guard's states: {escape(_names(CHAIN))}, and BLIND</title>",
            f"<defs>{''.join(heads)}</defs>",
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *shapes,
            "</svg>",
            "",
        ]
    )


def tables() -> str:
    """The arrows in words, and the numbers of the three states, as Markdown."""
    thresholds = Thresholds()
    ends = {
        State.TRIM: "",
        State.SHED: f"DRAIN after {thresholds.shed_seconds:g} s that trimming did not help,"
        f" {thresholds.trimmed_seconds:g} s that it did not end",
        State.BRAKE: f"DRAIN after {thresholds.brake_seconds:g} s",
    }
    lines = ["| from | to | when |", "|---|---|---|"]
    lines += [f"| {_names(sources)} | {_names(targets)} | {told} |" for sources, targets, told in _grouped()]
    lines += [
        "",
        "| state | enter at u | or before exhaustion | leave below u | for | in the end |",
        "|---|---|---|---|---|---|",
    ]
    for state, level in zip(ends, thresholds.levels, strict=True):
        lines.append(
            f"| {state.name} | {level.enter:.2f} | {level.seconds_left:g} s | {level.leave:.2f} |"
            f" {level.dwell_seconds:g} s | {ends[state]} |"
        )
    return "\n".join(lines)


def replaced(text: str) -> str:
    """The document with what is drawn now. Raises ``ValueError`` where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{DOCUMENT} needs {BEGIN} and {END}, each on a line")
    picture = f"![The states of the guard and the arrows between them; the table below says the same]({PICTURE.name})"
    return f"{before}{BEGIN}\n\n{picture}\n\n{tables()}\n\n{END}{after}"


def _names(states: Iterable[State]) -> str:
    return ", ".join(state.name for state in sorted(states, key=[*CHAIN, State.BLIND].index))


def _grouped() -> list[tuple[tuple[State, ...], list[State], str]]:
    """(from, to, when), with arrows together that differ in one end only."""
    sources: dict[tuple[State, str], list[State]] = {}
    for (source, target), texts in arrows().items():
        sources.setdefault((target, " or ".join(texts)), []).append(source)
    targets: dict[tuple[tuple[State, ...], str], list[State]] = {}
    for (target, told), found in sources.items():
        targets.setdefault((tuple(found), told), []).append(target)
    order = [*CHAIN, State.BLIND]
    rows = [(froms, tos, told) for (froms, told), tos in targets.items()]
    return sorted(rows, key=lambda row: ([*LEGEND].index(kind_of((row[0][0], row[1][0]))), order.index(row[1][0])))


def _told_of(state: State) -> list[str]:
    """What leads to a state, for its card; what the legend says of a whole kind is left out."""
    into = {
        source: texts
        for (source, target), texts in arrows().items()
        if target is state and kind_of((source, target)) != "calm" and source is not State.BLIND
    }
    outward = {text for (source, _), texts in arrows().items() if source is state is State.BLIND for text in texts}
    distinct = {" or ".join(texts) for texts in into.values()}
    if len(distinct) <= 1:
        return [*next(iter(into.values()), []), *(f"left for: {text}" for text in sorted(outward))]
    return [f"from {source.name}: {' or '.join(texts)}" for source, texts in into.items()]


def _x(place: int) -> int:
    """The left edge of a card."""
    return LEFT + place * (CARD_WIDTH + GAP)


def _lines(state: State) -> list[str]:
    """What stands in a card, as it is broken there."""
    told: list[str] = []
    for number, text in enumerate(_told_of(state)):
        is_another = number and not text.startswith(("from ", "left "))
        # A number stays beside its sign.
        kept = text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}").replace("< ", "<\N{NO-BREAK SPACE}")
        told += textwrap.wrap(f"or {kept}" if is_another else kept, LINE_CHARACTERS)
    return told


def _height(state: State) -> int:
    return FIRST_LINE + LINE_HEIGHT * max(0, len(_lines(state)) - 1) + LAST_LINE


def _card(state: State, x: int, y: int, height: int) -> list[str]:
    colours = f'fill="{FILLS[state]}" stroke="#555555"'
    shapes = [
        f'<rect x="{x}" y="{y}" width="{CARD_WIDTH}" height="{height}" rx="7" {colours}/>',
        f'<text x="{x + 9}" y="{y + 20}" font-size="14" font-weight="bold">{state.name}</text>',
    ]
    for number, line in enumerate(_lines(state)):
        shapes.append(f'<text x="{x + 9}" y="{y + FIRST_LINE + LINE_HEIGHT * number}">{escape(line)}</text>')
    return shapes


def _line(kind: str, path: str, *, both: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if kind == "blind" else ""
    start = f' marker-start="url(#{kind})"' if both else ""
    return (
        f'<path d="{path}" fill="none" stroke="{COLOURS[kind]}" stroke-width="1.4"{dashes}{start}'
        f' marker-end="url(#{kind})"/>'
    )


def _chain_arrows(bottom: int) -> list[str]:
    """Arcs: to the right above the cards, to the left below them, the longer around the shorter."""
    along = {arrow: kind_of(arrow) for arrow in arrows() if State.BLIND not in arrow}
    shapes = []
    for (source, target), kind in along.items():
        start, end = CHAIN.index(source), CHAIN.index(target)
        is_right = end > start
        step = 1 if is_right else -1
        # Those of one card are ordered by length, so that they do not cross where they begin and end.
        leaving = sorted(
            (CHAIN.index(to) - start) * step for of, to in along if of is source and _right(of, to) == is_right
        )
        coming = sorted(
            (end - CHAIN.index(of)) * step for of, to in along if to is target and _right(of, to) == is_right
        )
        length = (end - start) * step
        middle = CARD_WIDTH / 2
        x_start = _x(start) + middle + step * (middle - 12 - ARROW_GAP * leaving.index(length))
        x_end = _x(end) + middle - step * (middle - 12 - ARROW_GAP * coming.index(length))
        y = TOP if is_right else bottom
        bend = y + (-1 if is_right else 1) * (18 + 34 * length)
        shapes.append(_line(kind, f"M {x_start:g} {y} C {x_start:g} {bend} {x_end:g} {bend} {x_end:g} {y}"))
    return shapes


def _right(source: State, target: State) -> bool:
    return CHAIN.index(target) > CHAIN.index(source)


def _blind_arrows(bottom: int, blind_top: int) -> list[str]:
    """One line for each card that BLIND is entered from or left for, with a head at each end that is led to."""
    found = {arrow for arrow in arrows() if State.BLIND in arrow}
    others = [state for state in CHAIN if (state, State.BLIND) in found or (State.BLIND, state) in found]
    shapes = []
    for place, state in enumerate(others):
        x = _x(CHAIN.index(state)) + CARD_WIDTH / 2
        x_blind = _x(BLIND_PLACE) + CARD_WIDTH * (place + 1) / (len(others) + 1)
        down, up = f"{x:g} {bottom}", f"{x_blind:g} {blind_top}"
        both = {(state, State.BLIND), (State.BLIND, state)} <= found
        path = f"M {down} L {up}" if (state, State.BLIND) in found else f"M {up} L {down}"
        shapes.append(_line("blind", path, both=both))
    return shapes


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    wanted = {DOCUMENT: replaced(DOCUMENT.read_text("utf-8")), PICTURE: draw()}
    if not options.check:
        for path, text in wanted.items():
            path.write_text(text, "utf-8")
        return 0
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for name in stale:
        print(f"docs/explanation/{name} is not what the table says: run python tools/state_diagram.py", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
