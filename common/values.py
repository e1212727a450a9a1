# SPDX-License-Identifier: GPL-2.0-or-later
"""Values of options as people write them. Each parser takes the text and gives the value.

It raises ValueError for a text that is none, and that error's text is the end of the sentence that the user reads.
"""

import ipaddress
import re
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

Network = IPv4Network | IPv6Network

_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([kmg]?)bit")
_SIZE = re.compile(r"([0-9]{1,15})([kKM]?)")
_VOLUME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([kMGT]?)B?")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_DECIMAL = re.compile(r"[0-9]{1,10}")

_RATE_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
_SIZE_UNITS = {"": 1, "k": 1024, "K": 1024, "M": 1024**2}
_VOLUME_UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}
_DSCP_NAMES = (
    {"be": 0, "ef": 46}
    | {f"cs{n}": 8 * n for n in range(8)}
    | {f"af{n}{drop}": 8 * n + 2 * drop for n in range(1, 5) for drop in range(1, 4)}
)


def device(text: str) -> str:
    """A device name: what the kernel takes (dev_valid_name) less what means something else to nft or ip."""
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"'{text}' is not a device name (up to 15 letters, digits and _ . -)")
    return text


def interface(text: str) -> str:
    """A network as /etc/config/network of OpenWrt calls it, or one that a protocol there adds, such as wan_6."""
    if not _INTERFACE.fullmatch(text):
        raise ValueError(f"'{text}' is not the name of an interface (letters, digits and _ . -)")
    return text


_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, section 2.5.5.2


def prefix(text: str) -> Network:
    """An IPv4 or IPv6 prefix, or an address for the prefix of that address alone."""
    address, slash, length = text.partition("/")
    try:
        if "%" in text or (slash and not length.isdigit()):
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"'{text}' is not an IPv4 or IPv6 prefix") from None
    if network.network_address != ipaddress.ip_address(address):
        raise ValueError(f"'{text}' has bits set after its length (did you mean '{network}'?)")
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # as which it would match no packet
        ipv4 = ipaddress.ip_network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        raise ValueError(f"'{text}' is IPv4 in IPv6's words (did you mean '{ipv4}'?)")
    return network


def address(text: str) -> IPv4Address | IPv6Address:
    """An IPv4 or IPv6 address without a zone."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"'{text}' is not an IPv4 or IPv6 address") from None


def ports(text: str) -> range:
    """A port or two with a dash, both inclusive in the text: '5060-5061' is range(5060, 5062)."""
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"'{text}' is not a port or a range of ports such as 5060-5061")
    return range(first, last + 1)


def dscp(text: str) -> int:
    """A code point 0..63 or its name: RFC 2474 (be, cs), RFC 2597 (af), RFC 3246 (ef)."""
    value = _DSCP_NAMES.get(text.lower(), int(text) if _DECIMAL.fullmatch(text) else 64)
    if value > 63:
        raise ValueError(f"'{text}' is not a number from 0 to 63 or one of: be, ef, cs0 to cs7, af11 to af43")
    return value


def rate(text: str) -> int:
    """Bits per second with a unit of tc(8), decimal: '1.5mbit' is 1500000."""
    match = _RATE.fullmatch(text.lower())
    value = int(Decimal(match[1]) * _RATE_UNITS[match[2]]) if match else 0
    if value < 1:
        raise ValueError(f"'{text}' is not a rate such as 500kbit, 20mbit or 1.5gbit")
    return value


def size(text: str) -> int:
    """Bytes; k and M are 1024 and 1024 * 1024."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"'{text}' is not a number of bytes such as 65536, 64k or 1M")
    return int(match[1]) * _SIZE_UNITS[match[2]]


def volume(text: str) -> int:
    """Bytes of traffic, by the decimal units in which it is sold: '50G' and '50GB' are 50000000000."""
    match = _VOLUME.fullmatch(text)
    value = int(Decimal(match[1]) * _VOLUME_UNITS[match[2]]) if match else 0
    if value < 1:
        raise ValueError(f"'{text}' is not a volume such as 500M, 50G or 1.5T")
    return value


def directory(text: str) -> Path:
    """The absolute name of a directory, which need not be there."""
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise ValueError(f"'{text}' is not the absolute name of a directory")
    return Path(text)


def number(low: int, high: int) -> Callable[[str], int]:
    """The parser of whole numbers from `low` to `high`, both included."""

    def parse_number(text: str) -> int:
        if not (_DECIMAL.fullmatch(text) and low <= int(text) <= high):
            raise ValueError(f"'{text}' is not a whole number from {low} to {high}")
        return int(text)

    return parse_number


def switch(text: str) -> bool:
    """'1' or '0'."""
    if text not in ("0", "1"):
        raise ValueError(f"'{text}' is neither '1' nor '0'")
    return text == "1"


def choice(values: type[Enum]) -> Callable[[str], Enum]:
    """The parser of the values of an enum."""

    def parse_choice(text: str) -> Enum:
        try:
            return values(text)
        except ValueError:
            known = ", ".join(str(member.value) for member in values)
            raise ValueError(f"'{text}' is not one of: {known}") from None

    return parse_choice
