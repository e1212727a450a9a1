# SPDX-License-Identifier: GPL-2.0-or-later
"""What hybridctl shows to people: a configuration, a daemon's status, its flows. Values in, text out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from common.config import Config, CpeConfig, HagConfig
from common.limits import decimal
from ctl.terminal import Bold
from ctl.units import duration, endpoint, number, rate, volume

Answer = Mapping[str, Any]
Line = tuple[str, Any]

# What became of connections so far, by the first word of the counter's name.
_FATES: Final = {
    "opened": "opened",
    "plain": "opened as plain TCP, and why",
    "passed": "passed unbonded",
    "refused": "refused",
    "reset": "reset",
}

_HEADS: Final = {
    "cpe": ("CLIENT", "SERVER", "STATE", "LINKS", "UP", "DOWN", "HELD", "AGE"),
    "hag": ("CLIENT", "SERVER", "STATE", "SUBFLOWS", "UP", "DOWN", "HELD", "AGE"),
}
_RIGHT: Final = ("UP", "DOWN", "HELD")
_ALLOWED: Final = {"full": "yes", "failover only": "for failover", "none": "no"}
_UNDECIDED: Final = ("held", "released")  # whether the peer does Multipath TCP may not be known yet


def configuration(config: Config) -> str:
    """In a line, what a file configures."""
    cpe = _cpe(config.cpe) if config.cpe else None
    hag = _hag(config.hag) if config.hag else None
    return "; ".join(filter(None, (cpe, hag)))


def _cpe(config: CpeConfig) -> str:
    links = ", ".join(f"{link.name} ({link.role.value})" for link in config.links)
    return f"cpe with {'link' if len(config.links) == 1 else 'links'} {links}"


def _hag(config: HagConfig) -> str:
    prefixes = "prefix" if len(config.subscribers) == 1 else "prefixes"
    return f"hag for {len(config.subscribers)} subscriber {prefixes} at {', '.join(config.access)}"


def status(answer: Answer, bold: Bold) -> str:
    """A daemon's answer to 'status': the daemon, a CPE's links, the workers, and what became of connections so far."""
    objects = [_daemon(answer)]
    objects += [_link(link) for link in answer.get("links", ())]
    objects.append(_workers(answer["workers"]))
    objects += _fates(answer["counters"])
    objects += _avoided(answer["avoided"])
    return "\n\n".join(_object(lines, bold) for lines in objects)


def _object(lines: Sequence[Line], bold: Bold) -> str:
    """The first line names the object, the others are indented below it."""
    first, *others = (f"{bold(f'{key}:')} {value}" for key, value in lines)
    return "\n  ".join([first, *others])


def _daemon(answer: Answer) -> list[Line]:
    lines: list[Line] = [
        ("daemon", f"hybrid-{answer['role']}"),
        ("version", answer["version"]),
        ("process", answer["pid"]),
    ]
    if answer["role"] == "cpe":
        lines += [("lan", ", ".join(answer["lan"]) or "none"), ("steering", answer["steering"])]
    else:
        lines += [
            ("access", ", ".join(answer["access"])),
            ("subflows at", ", ".join(endpoint(at["address"], at["port"]) for at in answer["join"])),
            ("subscribers", ", ".join(answer["subscribers"])),
        ]
    return [*lines, ("connections now", f"{answer['flows']} of at most {answer['max_flows']}")]


def _link(link: Answer) -> list[Line]:
    return [
        ("link", link["name"]),
        ("role", link["role"]),
        *([("interface", link["interface"])] if link.get("interface") else []),
        ("device", link["device"] or "none"),
        ("state", f"{'up' if link['up'] else 'down'} for {duration(link['since'])}"),
        *([("why", link["reason"])] if link["reason"] else []),
        *([("addresses", ", ".join(link["addresses"]))] if link["addresses"] else []),
        *_bounds(link.get("bounds")),
    ]


def links(answer: Sequence[Answer], bold: Bold) -> str:
    """A CPE's answer to 'links'."""
    return "\n\n".join(_object([*_link(link), *_vitals(link)], bold) for link in answer)


def _vitals(link: Answer) -> list[Line]:
    lines: list[Line] = []
    if link["not_probed"]:
        lines.append(("probes", f"none, {link['not_probed']}"))
    else:
        silent = "" if link["answers"] else ", no answer so far"
        lines.append(("probes", f"to {link['target']}, {link['sent']} sent, {link['lost']} lost{silent}"))
    if link["rtt_ms"] is not None:
        lines.append(("round trip", f"{link['rtt_ms']:.1f} ms, {link['smoothed_rtt_ms']:.1f} ms smoothed"))
    if link["down_rate"] is not None:
        lines.append(("rate", f"{rate(link['down_rate'])} down, {rate(link['up_rate'])} up"))
    return lines


def policy(answer: Answer, bold: Bold) -> str:
    """A CPE's answer to 'policy'."""
    objects: list[list[Line]] = [[("steering", steering(answer))]]
    objects += [[("mode", mode["mode"]), *map(_used, mode["links"])] for mode in answer["modes"]]
    objects += [_carried(link) for link in answer["links"]]
    objects += [[(it["name"], it["steering"]), *_criteria(it)] for it in answer["policies"]]
    return "\n\n".join(_object(lines, bold) for lines in objects)


def steering(answer: Answer) -> str:
    """The mode, and where it is from unless that is the configuration."""
    mode, configured = answer["steering"], answer["configured"]
    return mode if mode == configured else f"{mode}, for now (the configuration has {configured})"


def _used(link: Answer) -> Line:
    return link["name"], f"{link['use']}, {link['reason']}"


def _carried(link: Answer) -> list[Line]:
    lines: list[Line] = [("link", link["name"])]
    for way in ("down", "up"):
        now, most = link[f"{way}_rate"], link[f"{way}_capacity"]
        of = "not measured now" if now is None else rate(now)
        lines.append((way, of if most is None else f"{of}, of {rate(most)}"))
    return lines


def _criteria(policy: Answer) -> list[Line]:
    given = ((name, policy[name]) for name in ("dport", "dst", "src", "dscp", "device"))
    return [(name, ", ".join(it) if isinstance(it, list) else it) for name, it in given if it is not None and it != []]


def _bounds(bounds: Answer | None) -> list[Line]:
    """What a link may be used for, if anything bounds that, and what it has used of its quota."""
    if bounds is None:
        return []
    reason = f", {bounds['reason']}" if bounds["reason"] else ""
    allowed = _ALLOWED.get(bounds["allowed"], "?")
    lines: list[Line] = [("may be used", f"{allowed}{reason}")]
    if bounds["max_rate"] is not None:
        lines.append(("no more than", f"{bounds['max_rate'] / 1e6:g} Mbit/s"))
    if bounds["limit"] is not None:
        used = f"{decimal(bounds['used'])} of {decimal(bounds['limit'])}"
        lines.append(("quota", f"{used} used, begins anew on {bounds['resets']}"))
    return lines


def _workers(workers: Sequence[Answer]) -> list[Line]:
    lines: list[Line] = [("workers", len(workers))]
    return lines + [(f"process {worker['pid']}", number(worker["flows"], "connection")) for worker in workers]


def _fates(counters: Mapping[str, int]) -> list[list[Line]]:
    """For each fate its sum and the reasons, the most frequent first."""
    groups: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counters.items():
        fate, _, reason = name.partition(": ")
        groups[fate][reason] = count
    known = [fate for fate in _FATES if fate in groups]
    return [_fate(fate, groups[fate]) for fate in [*known, *sorted(groups.keys() - _FATES.keys())]]


def _fate(fate: str, reasons: Mapping[str, int]) -> list[Line]:
    lines: list[Line] = [(_FATES.get(fate, fate), sum(reasons.values()))]
    if reasons.keys() == {""}:
        return lines
    by_count = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return lines + [(reason or "other", count) for reason, count in by_count]


def _avoided(avoided: Sequence[Answer]) -> list[list[Line]]:
    if not avoided:
        return []
    lines = [(f"to {it['destination']}" if "destination" in it else f"from {it['host']}", it) for it in avoided]
    return [[("not bonded for now", len(lines)), *((name, duration(it["seconds"])) for name, it in lines)]]


def findings(found: Sequence[Answer], bold: Bold) -> str:
    """A doctor's, as a table."""
    return table(("WHAT", "STATE", "HOW"), [[it["what"], _state(it), it["text"]] for it in found], bold)


def _state(finding: Answer) -> str:
    if finding["found"] is None:
        return "unknown"
    if finding["found"]:
        return "ok"
    return "MISSING" if finding["needed"] else "without"


def reloaded(role: str, answer: Answer, _bold: Bold) -> str:
    """A daemon's answer to 'reload'; its errors are shown elsewhere."""
    if "waiting" in answer:
        return f"hybrid-{role} tries again at once what it was waiting for: {answer['waiting']}"
    if answer["errors"]:
        return f"hybrid-{role} goes on with the configuration that it has."
    return f"hybrid-{role} has changed: {', '.join(answer['changed']) or 'nothing'}"


def events(answer: Sequence[Answer], bold: Bold) -> str:
    """A daemon's answer to 'events', a line each, the oldest first."""
    return "\n".join(event(one, bold) for one in answer)


def event(one: Answer, bold: Bold) -> str:
    """In a line: local time, whose, how grave, what."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["time"]))
    return f"{bold(when)}  {one['role']}  {one['level']:<7}  {one['what']}"


def flows(role: str, answer: Sequence[Answer], bold: Bold) -> str:
    """A daemon's answer to 'flows' as a table, the oldest first."""
    if not answer:
        return f"hybrid-{role} relays no connections."
    oldest_first = sorted(answer, key=lambda flow: flow["age"], reverse=True)
    rows = [_flow(role, flow) for flow in oldest_first]
    if not any(flow["why"] for flow in oldest_first):
        return table(_HEADS[role], rows, bold)
    whys = [flow["why"] or "" for flow in oldest_first]
    return table((*_HEADS[role], "WHY"), [[*row, why] for row, why in zip(rows, whys, strict=True)], bold)


def titled_flows(role: str, answer: Sequence[Answer], bold: Bold) -> str:
    """The same below the name of the daemon, for when another one's table follows."""
    text = flows(role, answer, bold)
    return f"{bold(f'hybrid-{role}:')}\n{text}" if answer else text


def _flow(role: str, flow: Answer) -> list[str]:
    return [
        endpoint(flow["client"], flow["client_port"]),
        endpoint(flow["server"], flow["server_port"]),
        flow["state"],
        _links(flow) if role == "cpe" else _subflows(flow),
        volume(flow["up_bytes"]),
        volume(flow["down_bytes"]),
        volume(flow["up_held"] + flow["down_held"]),
        duration(flow["age"]),
    ]


def _links(flow: Answer) -> str:
    links = "+".join(f"({link})" if link in flow["backups"] else link for link in flow["links"])
    return links if flow["bonded"] or flow["state"] in _UNDECIDED else f"{links} (plain TCP)"


def _subflows(flow: Answer) -> str:
    if flow["bonded"]:
        return str(flow["subflows"])
    return "-" if flow["state"] in _UNDECIDED else "plain TCP"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], bold: Bold) -> str:
    """Columns two spaces apart, volumes to the right; no space at the ends of lines."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Iterable[str]) -> str:
        columns = zip(head, cells, widths, strict=True)
        return "  ".join(f"{cell:{'>' if name in _RIGHT else '<'}{width}}" for name, cell, width in columns).rstrip()

    return "\n".join([bold(line(head)), *map(line, rows)])
