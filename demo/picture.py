#!/usr/bin/env python3
"""Runs a command on a terminal of its own and draws what stays there, with its colours: picture.py SVG COMMAND…"""
import fcntl
import html
import os
import pty
import struct
import sys
import termios

import pyte

# As wide as the longest address of a member asks for.
COLUMNS, LINES = 112, 60
FONT, WIDTH, HEIGHT, MARGIN = 14, 8.43, 19, 18
BACKGROUND, FOREGROUND, DIM = "#15191f", "#d6dbe2", "#8b949e"
COLOURS = {
    "red": "#ff7b72", "green": "#5fd38a", "brown": "#e3b341", "blue": "#79b8ff",
    "magenta": "#d2a8ff", "cyan": "#67d6e8", "black": DIM, "white": FOREGROUND,
}


def run(command):
    """The screen of a terminal after the command has ended on it."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        size = struct.pack("HHHH", LINES, COLUMNS, 0, 0)
        fcntl.ioctl(0, termios.TIOCSWINSZ, size)
        os.execvp(command[0], command)
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            break
        if not data:
            break
        stream.feed(data)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit("\n".join(screen.display).rstrip() + f"\n{command[0]} ended with {code}")
    return screen


def style(char):
    """The attributes of an SVG text that looks like this character."""
    colour = char.fg.removeprefix("bright")
    colour = FOREGROUND if colour == "default" else COLOURS.get(colour, f"#{colour}")
    return f' fill="{colour}"' * (colour != FOREGROUND) + ' font-weight="bold"' * char.bold


def texts(line, y):
    """A line as SVG texts: words of one style, each at its column, so that columns stand whatever the font."""
    column = 0
    while column < COLUMNS:
        if line[column].data == " ":
            column += 1
            continue
        start, looks, text = column, style(line[column]), ""
        while column < COLUMNS and style(line[column]) == looks and not text.endswith("  "):
            text += line[column].data
            column += 1
        text = text.rstrip()
        x = MARGIN + start * WIDTH
        yield f'<text x="{x:.1f}" y="{y}" textLength="{len(text) * WIDTH:.1f}"{looks}>{html.escape(text, quote=False)}</text>'


def shown(screen):
    """The lines to draw: all but warnings, which are about the machine that makes the picture."""
    is_warning = False
    for number, line in enumerate("\n".join(screen.display).rstrip().split("\n")):
        # A warning's further lines are indented or wrapped; what comes next begins with its own mark.
        is_warning = line.startswith("!") or is_warning and not line.startswith("✓")
        if not is_warning:
            yield screen.buffer[number]


def svg(command, screen):
    lines = list(shown(screen))
    columns = max((at + 1 for line in lines for at in range(COLUMNS) if line[at].data != " "), default=0)
    width, height = columns * WIDTH + 2 * MARGIN, (len(lines) + 1) * HEIGHT + 2 * MARGIN
    prompt = html.escape(f"$ {' '.join(command)}")
    rows = [f'<text x="{MARGIN}" y="{MARGIN + FONT}" font-weight="bold">{prompt}</text>']
    for number, line in enumerate(lines, 1):
        rows += texts(line, MARGIN + FONT + number * HEIGHT)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
        f' font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="{FONT}" fill="{FOREGROUND}">',
        f"<title>{html.escape(' '.join(command))}</title>",
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>', *rows, "</svg>", "",
    ])


if __name__ == "__main__":
    path, command = sys.argv[1], sys.argv[2:]
    picture = svg(command, run(command))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(picture)
