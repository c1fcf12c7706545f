"""Manual pages of the program, made of what it says of itself (`apus --experimental-dump-help`)."""

from __future__ import annotations

import json
from typing import Any


def escaped(text: str) -> str:
    """Text that troff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = "".join(letter if letter.isascii() else f"\\[u{ord(letter):04X}]" for letter in text)
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.splitlines())


def spelled(argument: dict[str, Any]) -> str:
    """An argument as it is typed: `--dim NAME=SIZE`, `[MODEL]`."""
    value = argument.get("valueName", "value").upper()
    if argument["kind"] == "positional":
        return value
    names = [("--" if name["kind"] == "long" else "-") + name["name"] for name in argument["names"]]
    return ", ".join(names) + (f" {value}" if argument["kind"] == "option" else "")


def shown(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry.get("shouldDisplay", True)]


def page(command: dict[str, Any], parents: list[str], version: str) -> str:
    """One page, of a command and its options."""
    name = " ".join([*parents, command["commandName"]])
    lines = [f'.TH "{name.replace(" ", "-").upper()}" 1 "" "Apus {version}" "Apus"', ".SH NAME"]
    lines += [f"{escaped(name.replace(' ', '-'))} \\- {escaped(command.get('abstract', ''))}"]
    arguments = shown(command.get("arguments", []))
    subcommands = shown(command.get("subcommands", []))
    positional = [spelled(argument) for argument in arguments if argument["kind"] == "positional"]
    usage = ["COMMAND"] if subcommands else ["[OPTIONS]", *positional]
    lines += [".SH SYNOPSIS", f".B {escaped(name)}", escaped(" ".join(usage))]
    if command.get("discussion"):
        lines += [".SH DESCRIPTION", ".nf", *map(escaped, command["discussion"].splitlines()), ".fi"]
    if arguments:
        lines.append(".SH OPTIONS")
    for argument in arguments:
        text = argument.get("abstract", "")
        if argument.get("defaultValue"):
            text += f" (default: {argument['defaultValue']})"
        lines += [".TP", f".B {escaped(spelled(argument))}", escaped(text)]
    if subcommands:
        lines.append(".SH COMMANDS")
    for sub in subcommands:
        lines += [".TP", f".BR {escaped('-'.join([*parents, command['commandName'], sub['commandName']]))} (1)"]
        lines += [escaped(sub.get("abstract", ""))]
    return "\n".join(lines) + "\n"


def pages(description: bytes, version: str) -> dict[str, str]:
    """The pages by file name: apus.1, and one for each of its commands."""
    root = json.loads(description)["command"]
    commands = [sub for sub in shown(root.get("subcommands", [])) if sub["commandName"] != "help"]
    result = {"apus.1": page(root | {"subcommands": commands}, [], version)}
    for sub in commands:
        result[f"apus-{sub['commandName']}.1"] = page(sub, [root["commandName"]], version)
    return result
