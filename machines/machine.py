# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine of its own, emulated by qemu, which boots, does one job and is gone.

The processor is emulated too (TCG): it works everywhere, and is ten to twenty times slower than the machine that
it runs on. The disk's changes are thrown away.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from lab.errors import LabError
from lab.signals import terminable
from machines.image import Image
from machines.root import run, workspace

_END: Final = "job ended with status"  # what the machine says last
_MEMORY: Final = "1536"  # MiB

_RUN: Final = """\
#!/bin/sh
export HOME=/root TERM=dumb PYTHONUNBUFFERED=1 LC_ALL=C.UTF-8
cd /job
stty -F /dev/ttyS1 -onlcr cols 120
{script}
echo "{end} $?"
sync
exec systemctl poweroff --force --force
"""


def perform(
    image: Image, script: str, files: Mapping[str, Path], say: Callable[[str], None], timeout: float, console: Path
) -> int:
    """Boots, runs a line of shell in the directory with the files (trees or files, by name), gives its exit status.

    Each line of output goes to `say` as it comes. LabError if it takes more than `timeout` seconds, or the machine
    dies. What the machine says on its console is in that file afterwards.
    """
    with terminable(), workspace() as directory:
        console.parent.mkdir(parents=True, exist_ok=True)
        machine = subprocess.Popen(
            # gone with us, whatever ends us
            ["setpriv", "--pdeathsig", "KILL", "--", *_command(image, console, _job(directory, script, files))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a ^C at the terminal is for us
        )
        try:
            status = _listen(machine, say, time.monotonic() + timeout)
        finally:
            machine.kill()
            machine.wait()
        if status is None:
            how = "has died" if machine.returncode != -signal.SIGKILL else f"has not done its job within {timeout:g} s"
            last = console.read_text(errors="replace").splitlines()[-20:] if console.exists() else []
            raise LabError("\n".join([f"the machine {how}; its console ({console}) ends with:", *last]))
        return status


def _job(directory: Path, script: str, files: Mapping[str, Path]) -> Path:
    """The archive that becomes the second disk."""
    job = directory / "job"
    job.mkdir()
    program = job / "run"
    program.write_text(_RUN.format(script=script, end=_END))
    program.chmod(0o755)
    for name, path in files.items():
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).symlink_to(path.resolve())
    archive = directory / "job.tar"
    run("tar", "-C", str(job), "--dereference", "--owner=root", "--group=root", "-cf", str(archive), ".")
    return archive


def _command(image: Image, console: Path, job: Path) -> list[str]:
    """The root of the file system is the disk itself; a kernel that panics ends the machine.

    The kernel distrusts an emulated TSC and would ask an emulated timer for the time, which takes longer. Page tables
    of five levels take longer than those of four.
    """
    kernel = "root=/dev/vda rw console=ttyS0 loglevel=4 panic=-1 mitigations=off systemd.show_status=no"
    clock = "tsc=reliable clocksource=tsc"
    options = {
        "accel": "tcg,thread=multi",
        "machine": "q35",
        "cpu": "max,la57=off",
        "smp": "2",
        "m": _MEMORY,
        "kernel": str(image.kernel),
        "initrd": str(image.initrd),
        "append": f"{kernel} {clock}",
        "display": "none",
        "nic": "none",
        "device": "virtio-rng-pci",
    }
    return [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-reboot",
        *(word for name, value in options.items() for word in (f"-{name}", value)),
        *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
        *("-drive", f"file={job},format=raw,if=virtio,readonly=on"),
        *("-serial", f"file:{console}"),
        *("-chardev", "stdio,id=job,signal=off", "-serial", "chardev:job"),
    ]


def _listen(machine: subprocess.Popen[bytes], say: Callable[[str], None], deadline: float) -> int | None:
    """The job's exit status; None if the machine ends without it, or the time is over."""
    assert machine.stdout
    unfinished = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([machine.stdout], [], [], left)[0]:
        data = os.read(machine.stdout.fileno(), 1 << 16)
        if not data:
            break
        *lines, unfinished = (unfinished + data).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]  # of a line written over, the last
            if text.startswith(_END):
                return int(text.removeprefix(_END))
            say(text)
    return None
