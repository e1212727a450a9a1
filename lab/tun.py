# SPDX-License-Identifier: GPL-2.0-or-later
"""TUN: a network device whose packets a process reads and writes (Documentation/networking/tuntap.rst)."""

import fcntl
import os
import struct

from lab.errors import SystemLacksError

TUNSETIFF = 0x400454CA  # linux/if_tun.h
TUNSETCARRIER = 0x400454E2
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000  # packets without a header of the device's own


def open_tun(name: str) -> int:
    """Makes the device in the calling thread's namespace; gives its descriptor, which does not block.

    The device lives as long as the descriptor. Each read gives one IP packet, each write takes one.
    """
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SystemLacksError(f"cannot emulate an access: /dev/net/tun: {error.strerror}") from None
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def set_carrier(descriptor: int, on: bool) -> None:
    """Plugs the device's cable in or pulls it out."""
    fcntl.ioctl(descriptor, TUNSETCARRIER, struct.pack("i", on))
