# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process holds, seen at this one."""

import os

from bench.footprint import footprint, kernel_slab

MIB = 1 << 20


def test_memory_that_is_touched_counts() -> None:
    before = footprint([os.getpid()])
    block = bytearray(64 * MIB)
    block[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * (len(block) // os.sysconf("SC_PAGE_SIZE"))
    after = footprint([os.getpid()])
    del block
    assert 60 * MIB < after.resident - before.resident < 80 * MIB
    assert 60 * MIB < after.proportional - before.proportional < 80 * MIB
    assert after.proportional <= after.resident


def test_pipes_and_wakeups() -> None:
    before = footprint([os.getpid()])
    reader, writer = os.pipe()
    try:
        after = footprint([os.getpid()])
    finally:
        os.close(reader)
        os.close(writer)
    assert after.pipes == before.pipes + 2
    assert after.wakeups >= before.wakeups > 0


def test_several_processes_are_added_up() -> None:
    one, twice = footprint([os.getpid()]), footprint([os.getpid(), os.getpid()])
    assert twice.pipes == 2 * one.pipes
    assert twice.resident > 1.9 * one.resident
    assert footprint([]).resident == 0


def test_the_kernels_slab() -> None:
    assert kernel_slab() > MIB
