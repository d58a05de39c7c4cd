# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demonstration itself: guests on this machine, moved again and again into another QEMU, and watched from outside. Run by script/demo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.watch import StatusPage, Watcher

CACHE = Path(os.environ["HOSTMEM_CACHE"])
ROOT = Path("/var/lib/hostmem-demo")
OLD, NEW = "10.0", "11.1"


class Demo:
    """One run. What it made on this machine is gone when ``close`` returns."""

    def __init__(self, work: Path, guests: int, rounds: int) -> None:
        if Path("/etc/hostmem/config.json").exists():
            raise SystemExit("This machine has guests of its own (/etc/hostmem/config.json): run the demo elsewhere.")
        self._work = work
        self._rounds = rounds
        self.names = [f"demo{number}" for number in range(1, guests + 1)]
        self._longest_ms = 0.0
        self._updates = 0
        ROOT.mkdir(mode=0o755, exist_ok=True)

    def run(self) -> str:
        """All of it; the closing line."""
        self._install(OLD)
        self._write_inventory()
        self._say("Preparing this machine (role hostmem.qemu.hypervisor)")
        self._playbook("prepare_hosts")
        self._say(f"Starting {len(self.names)} guests")
        self._playbook("define_guests")
        pages = [StatusPage(path) for path in self._ram_files()]
        wait_until_ready(pages)
        versions = self._versions()
        for number in range(1, self._rounds + 1):
            if number == 2 or self._rounds == 1:
                self._say(f"A package upgrade puts QEMU {NEW} in the place of {OLD}")
                self._install(NEW)
            self._round(number, pages)
            versions += self._versions()
        errors = sum(page.errors for page in pages)
        if any(page.boots != 1 for page in pages):
            raise SystemExit("A guest was reset.")
        print("QEMU versions involved: " + ", ".join(sorted(set(versions))))
        return f"live updates: {self._updates}, longest pause: {self._longest_ms:.1f} ms, memory errors: {errors}"

    def _round(self, number: int, pages: list[StatusPage]) -> None:
        self._say(f"Round {number}: the playbook hostmem.qemu.live_update")
        before = [page.counter for page in pages]
        watcher = Watcher(self._ram_files(), threshold_ms=5).start()
        stats = self._playbook("live_update", "-e", json.dumps({"hostmem_force": True}))
        results = watcher.stop()
        for name, page, start, result in zip(self.names, pages, before, results, strict=True):
            update = next(item for item in stats if item["guest"] == name)
            self._updates += int(update["changed"])
            self._longest_ms = max(self._longest_ms, result["longest_ms"])
            moved = f"{update['from']['version']} -> {update['to']['version']}"
            print(
                f"  {name}: QEMU {moved}, longest standstill seen {result['longest_ms']:.1f} ms,"
                f" heartbeat {start} -> {page.counter}, wrong pages {page.errors}",
                flush=True,
            )

    def _install(self, version: str) -> None:
        """The "package upgrade": another QEMU under the same path, renamed into place as dpkg does."""
        link = ROOT / "qemu.new"
        link.symlink_to(CACHE / "qemu" / version)
        link.rename(ROOT / "qemu")

    def _write_inventory(self) -> None:
        host: dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "/usr/bin/python3",
            "hypervisor_manager": "direct",
            "hypervisor_packages": ["iproute2"],
            "hypervisor_tls": False,  # one host, from which no guest moves
            "hostmem_guests": [{"definition": definition(name), "power": "on"} for name in self.names],
        }
        inventory = {"all": {"children": {"hypervisors": {"hosts": {"localhost": host}}}}}
        (self._work / "inventory.json").write_text(json.dumps(inventory))

    def _playbook(self, name: str, *words: str) -> list[dict[str, Any]]:
        """Run a playbook of the collection; the live updates it reports, if any."""
        environment = {
            **os.environ,
            "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }
        environment["ANSIBLE_LOCALHOST_WARNING"] = environment["ANSIBLE_INVENTORY_UNPARSED_WARNING"] = "0"
        inventory = str(self._work / "inventory.json")
        command = ["ansible-playbook", "-i", inventory, f"hostmem.qemu.{name}", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
        _before, _marker, stats = done.stdout.partition("CUSTOM STATS:")
        start = stats.find("{")
        found = json.loads(stats[start : stats.rindex("}") + 1]) if start >= 0 else {}
        updates: list[dict[str, Any]] = found.get("hostmem_live_updates", {}).get("localhost", [])
        return updates

    def _info(self) -> list[dict[str, Any]]:
        done = subprocess.run(["hostmem", "info", *self.names], capture_output=True, text=True, check=True)
        results: list[dict[str, Any]] = json.loads(done.stdout)["results"]
        return results

    def _ram_files(self) -> list[str]:
        return [item["layout"][0]["path"] for item in self._info()]

    def _versions(self) -> list[str]:
        return [item["qemu"]["running"]["version"] for item in self._info()]

    @staticmethod
    def _say(text: str) -> None:
        print(f"== {text}", flush=True)

    def close(self) -> None:
        """Stop the guests, take everything back."""
        if Path("/usr/sbin/hostmem").exists():
            subprocess.run(["hostmem", "stop", "--timeout", "0", *self.names], stdout=subprocess.DEVNULL, check=False)
            self._say("Taking everything back (hypervisor_state: absent)")
            self._playbook("prepare_hosts", "-e", "hypervisor_state=absent")
        shutil.rmtree(ROOT, ignore_errors=True)


def definition(name: str) -> dict[str, Any]:
    """The heartbeat guest: it checks its own memory and counts in it, 2000 times a second."""
    return {
        "name": name,
        "qemu": str(ROOT / "qemu" / "usr" / "bin" / "qemu-system-x86_64"),
        "machine": "pc-q35-10.0",
        "accel": "tcg",
        "cpu": {"model": "qemu64"},
        "memory": {"blocks": [{"id": "ram0", "size": "64M", "backing": "tmpfs"}]},
        "consoles": [{"id": "serial0"}],
        "kernel": {"image": str(CACHE / "guests" / "heartbeat"), "cmdline": "32 50 2000"},
    }


def wait_until_ready(pages: list[StatusPage]) -> None:
    """Until every guest has filled the memory that it checks from then on."""
    deadline = time.monotonic() + 60
    while not all(page.ready for page in pages):
        if time.monotonic() > deadline:
            raise SystemExit("A guest did not come up within 60 s.")
        time.sleep(0.1)


def main() -> None:
    work = Path(sys.argv[1])
    numbers = [int(word) for word in sys.argv[2:4]]
    guests, rounds = numbers + [3, 4][len(numbers) :]
    demo = Demo(work, guests, rounds)
    try:
        line = demo.run()
    finally:
        demo.close()
    print(line)


if __name__ == "__main__":
    main()
