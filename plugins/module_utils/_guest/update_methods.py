# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which methods of a live update a guest can take, and which one is chosen; asked while the guest runs, under the verb lock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .command_line import parse_command_line
from .definition import Definition
from .errors import Blocked, Refused, refuse
from .handover import blocked_reasons
from .lasting_memory import left_in_place
from .preflight import Preflight
from .qemu_options import parse_options
from .qmp import Qmp

AUTO, TRANSFER, CHECKPOINT, EXEC = "auto", "transfer", "checkpoint", "exec"
METHODS = (AUTO, TRANSFER, CHECKPOINT, EXEC)

# MigMode in qapi/migration.json: cpr-reboot since QEMU 8.2, cpr-transfer since 10.0, cpr-exec since 10.2.
FIRST_VERSIONS = {"cpr-reboot": (8, 2, 0), "cpr-transfer": (10, 0, 0), "cpr-exec": (10, 2, 0)}

_Version = tuple[int, int, int]


@dataclass(frozen=True)
class Choice:
    """The method of one live update, and why it is this one."""

    method: str
    reason: str


async def choose(found: Preflight, qmp: Qmp, wanted: str) -> Choice:
    """The method that was asked for, or the first that is possible; ``exec`` only when asked for.

    :raises Refused: none is; with all blockers.
    """
    refusals = await refusals_of(found, qmp, TRANSFER if wanted == AUTO else wanted)
    if wanted != AUTO:
        refuse(found.blockers + refusals)
        return Choice(wanted, "asked for")
    if not refusals:
        refuse(found.blockers)
        return Choice(TRANSFER, "cpr-transfer is possible, which pauses the guest for the shortest time")
    others = await refusals_of(found, qmp, CHECKPOINT)
    if others:
        refuse(found.blockers + refusals + [item for item in others if str(item) not in map(str, refusals)])
    refuse(found.blockers)
    return Choice(CHECKPOINT, "cpr-transfer is not possible: " + "; ".join(_because(item) for item in refusals))


async def blockers(found: Preflight, qmp: Qmp) -> list[Refused]:
    """What keeps the guest from every live update that is not asked for by method; empty when one is possible."""
    try:
        await choose(found, qmp, AUTO)
    except Blocked as blocked:
        return blocked.refusals
    return []


def _because(refusal: Refused) -> str:
    return f"{refusal.message} {refusal.cause}".strip()


async def refusals_of(found: Preflight, qmp: Qmp, method: str) -> list[Refused]:
    """What a method does not do with this guest, beside what none does; empty when it is possible."""
    return await _EXAMINERS[method](found, qmp)


async def _transfer(found: Preflight, qmp: Qmp) -> list[Refused]:
    new, old = found.installed, found.running_version
    refusals = _too_old(found, "cpr-transfer")
    if new.inode and new.version < old:
        refusals.append(
            Refused(
                f"QEMU {new.version_text} at {new.path} is older than the running {_text(old)}.",
                "cpr-transfer to an older QEMU fails in load (vmstate_load_state error -2).",
                "Install the newer package again, or restart the guest.",
            )
        )
    refusals += [_private(block.id) for block in found.definition.blocks if block.mmap == "private"]
    if found.live["machine"]["aux_ram_share"] is not True:
        refusals.append(
            Refused(
                "aux-ram-share is off in the running QEMU.",
                "cpr-transfer would lose VRAM and ROMs, and it cannot be turned on later.",
                "Restart the guest.",
            )
        )
    return refusals + await _qemus_own(found, qmp, "cpr-transfer")


async def _checkpoint(found: Preflight, qmp: Qmp) -> list[Refused]:
    refusals = _too_old(found, "cpr-reboot")
    for block in found.definition.blocks:
        if block.mmap == "private":
            refusals.append(_private(block.id))
        elif not left_in_place(block):
            refusals.append(
                Refused(
                    f"Memory block {block.id} is a memfd.",
                    "A checkpoint leaves only memory in files in its place (x-ignore-shared); the rest would be copied"
                    " while the guest is paused.",
                    "Restart the guest with memory of another backing, such as tmpfs.",
                )
            )
    return refusals + await _qemus_own(found, qmp, "cpr-reboot")


async def _exec(found: Preflight, qmp: Qmp) -> list[Refused]:
    """All that cpr-transfer needs, too: QEMU itself names no blockers for cpr-exec, and a guest it cannot take is lost."""
    refusals = _too_old(found, "cpr-exec")
    if not may_spawn(found.generation.record["argv"]):
        refusals.append(
            Refused(
                "The sandbox of the running QEMU lets it start no program.",
                "Its -sandbox has spawn=deny: execve(2), by which QEMU replaces itself, is forbidden for good.",
                "Use another method; or restart the guest with sandbox: {spawn: true} in its definition, which lets a QEMU"
                " that was broken into start programs, too.",
            )
        )
    return refusals + await _transfer(found, qmp)


_EXAMINERS: dict[str, Callable[[Preflight, Qmp], Awaitable[list[Refused]]]] = {
    TRANSFER: _transfer,
    CHECKPOINT: _checkpoint,
    EXEC: _exec,
}


def _private(block: str) -> Refused:
    return Refused(
        f"Memory block {block} is mapped private.",
        "QEMU hands over only memory that both QEMUs can share.",
        "Restart the guest with mmap: shared, or plan a restart for the new QEMU.",
    )


def _text(version: _Version) -> str:
    return ".".join(str(part) for part in version)


def _too_old(found: Preflight, mode: str) -> list[Refused]:
    """A QEMU that is missing is refused as such."""
    lower = min(found.installed.version if found.installed.inode else found.running_version, found.running_version)
    first = FIRST_VERSIONS[mode]
    if lower >= first:
        return []
    return [
        Refused(
            f"QEMU {_text(lower)} knows no {mode}.",
            f"It came with QEMU {first[0]}.{first[1]}.",
            "Restart the guest in a newer QEMU.",
        )
    ]


async def _qemus_own(found: Preflight, qmp: Qmp, mode: str) -> list[Refused]:
    if found.running_version < FIRST_VERSIONS[mode]:
        return []
    return [
        Refused(
            f"QEMU refuses {mode} for this guest.",
            reason,
            "Remove the device or restart the guest with a definition that can be updated.",
        )
        for reason in await blocked_reasons(qmp, mode)
    ]


def may_spawn(argv: list[str]) -> bool:
    """Whether a QEMU with these arguments may replace itself; without -sandbox, or with its defaults, it may (qemu(1))."""
    values = [parse_options(option.value, "enable") for option in parse_command_line(argv) if option.name == "sandbox"]
    return all(value.get("enable") != "on" or value.get("spawn", "allow") == "allow" for value in values)


def stays(definition: Definition) -> set[str]:
    """Names of the RAMBlocks that a checkpoint leaves in their places."""
    blocks = {block.id for block in definition.blocks if left_in_place(block)}
    return blocks | {nvdimm.id for nvdimm in definition.nvdimms}
