"""Upgrade many databases: documents of a folder, tenants of a service; see :func:`upgrade_many`.

Ships only in programs that name ``upgrade_many``.
"""

from freezekit.runtime.fleet.records import FleetProgress, Outcome, Tenant
from freezekit.runtime.fleet.report import FleetReport
from freezekit.runtime.fleet.run import upgrade_many

__all__ = ["FleetProgress", "FleetReport", "Outcome", "Tenant", "upgrade_many"]
