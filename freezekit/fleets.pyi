from freezekit.runtime.fleet import FleetProgress, FleetReport, Outcome, Tenant, upgrade_many

__all__ = ["FleetProgress", "FleetReport", "Outcome", "Tenant", "upgrade_many"]
