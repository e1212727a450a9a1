# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts a daemon, whose command is given as arguments; a hybrid-hag bonds whatever comes, for tests of the kernel."""

import sys

from common.packet import Segment
from common.role import BOND, Decision
from cpe.daemon import main as cpe_main
from hag.admit import Admission, InboundAdmission
from hag.daemon import main as hag_main


def bond(_admission: Admission | InboundAdmission, _syn: Segment, _device: int) -> Decision:
    return BOND


def main() -> int:
    _python, _m, role, *arguments = sys.argv[1:]
    Admission.decide = bond  # type: ignore[method-assign,assignment]
    InboundAdmission.decide = bond  # type: ignore[method-assign,assignment]
    return (hag_main if role == "hag" else cpe_main)(arguments)


if __name__ == "__main__":
    sys.exit(main())
