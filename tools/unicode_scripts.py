#!/usr/bin/env python3
"""Makes Sources/ApusOperators/Text/UnicodeScripts.swift from the Unicode Character Database.

Usage: tools/unicode_scripts.py [SCRIPTS_TXT]    default: the file of the Debian package unicode-data
"""

import collections
import pathlib
import sys

HEADER = """\
// The scripts of Unicode {version}, for \\p{{Greek}} and its kind. Made by tools/unicode_scripts.py from Scripts.txt.
// https://www.unicode.org/Public/UCD/latest/ucd/Scripts.txt (© Unicode, Inc., under the Unicode License)

enum UnicodeScripts {{
  /// A script a line: its name, then ranges as hexadecimal numbers; the second one of a range is its length less one,
  /// the first one the distance from the end of the range before.
  static let table = \"\"\"
"""


def main() -> None:
    source = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode/Scripts.txt")
    lines = source.read_text().splitlines()
    ranges: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
    for line in lines:
        fields = line.split("#")[0].split(";")
        if len(fields) == 2:
            first, _, last = fields[0].strip().partition("..")
            ranges[fields[1].strip()].append((int(first, 16), int(last or first, 16)))
    text = HEADER.format(version=lines[0].split("-")[1].removesuffix(".txt"))
    for name in sorted(ranges):
        merged: list[list[int]] = []
        for first, last in sorted(ranges[name]):
            if merged and merged[-1][1] + 1 == first:
                merged[-1][1] = last
            else:
                merged.append([first, last])
        words, end = [name], 0
        for first, last in merged:
            words.append(f"{first - end:x}" + (f"+{last - first:x}" if last > first else ""))
            end = last
        row = "   "
        for index, word in enumerate(words):
            if len(row) + len(word) > 116:
                text += row + " \\\n"
                row = "   "
            row += " " + word
        text += row + "\n"
    text += '    """\n}\n'
    target = pathlib.Path(__file__).parent.parent / "Sources/ApusOperators/Text/UnicodeScripts.swift"
    target.write_text(text)


if __name__ == "__main__":
    main()
