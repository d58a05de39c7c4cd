# Copyright (c) 2026, hostmem.qemu authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What will be there by the time of a real run, and is not yet in check mode, because tasks before would have made it.

A module says in its result what it would leave, and is told by the play what those before it would have left. Whatever is presumed for that
reason is warned of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .._host.errors import Refused
from .._host.hugepages import NodePool, Pool
from .._host.packages import distribution_family, package_of
from .._host.pmem import Namespace, Region
from .._host.programs import find_program
from .pool_persistence import PersistentPools, configured_in
from .seen_pools import ForeseenPool, SeenPools


@dataclass(frozen=True)
class Foreseen:
    """What differs from what is there now.

    :param users: names, as are ``groups``, ``files`` (paths) and ``packages``.
    :param configured: our configuration of pools for boots; None when it is as it would be.
    :param regions: all of them with their namespaces; None when they are as they would be.
    :param unmounted: mount points that nothing would be mounted at any more.
    :param undefined: names of guests that would not be defined any more.
    """

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pools: SeenPools = field(default_factory=SeenPools)
    configured: PersistentPools | None = None
    regions: tuple[Region, ...] | None = None
    unmounted: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()

    def brings(self, program: str) -> bool:
        """The program is not installed, and would be by then."""
        return find_program(program) is None and package_of(program, distribution_family()) in self.packages

    def as_dict(self) -> dict[str, Any]:
        """For results; foreseen_in() reads it."""
        found: dict[str, Any] = {name: list(getattr(self, name)) for name in _NAMES}
        found["pools"] = [
            {"page_size": size, "pool": asdict(item.pool), "nodes": [asdict(node) for node in item.nodes.values()]}
            for size, item in self.pools.foreseen.items()
        ]
        if self.configured is not None:
            found["configured"] = self.configured.as_dict()
        if self.regions is not None:
            found["regions"] = [asdict(region) for region in self.regions]
        return {name: value for name, value in found.items() if value or name == "regions"}


NOTHING = Foreseen()
_NAMES = ("users", "groups", "files", "packages", "unmounted", "undefined")


def foreseen_in(data: Mapping[str, Any] | None) -> Foreseen:
    """What a play hands over.

    :raises Refused: it is not what a module gave, or the names that a play may add.
    """
    data = data or {}
    unknown = sorted(set(data) - {*_NAMES, "pools", "configured", "regions"})
    if unknown:
        raise Refused(f"foreseen: {', '.join(unknown)} is not known.", cure="Hand over what the module before gave.")
    try:
        names = {name: tuple(map(str, data.get(name) or ())) for name in _NAMES}
        pools = {int(item["page_size"]): _pool(item) for item in data.get("pools") or ()}
        configured, regions = data.get("configured"), data.get("regions")
        return Foreseen(
            **names,
            pools=SeenPools(pools),
            configured=None if configured is None else configured_in(configured),
            regions=None if regions is None else tuple(map(_region, regions)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(
            "foreseen is not understood.", cause=repr(error), cure="Hand over what the module before gave."
        ) from error


def _pool(data: Mapping[str, Any]) -> ForeseenPool:
    nodes = [NodePool(**item) for item in data["nodes"]]
    return ForeseenPool(Pool(**data["pool"]), {item.node: item for item in nodes})


def _region(data: Mapping[str, Any]) -> Region:
    namespaces = tuple(Namespace(**item) for item in data["namespaces"])
    return Region(**{**data, "dimms": tuple(data["dimms"]), "namespaces": namespaces})
