"""freezekit: Alembic migrations that work inside frozen applications.

Rooms: :mod:`freezekit.build` ships the scripts while freezing, :mod:`freezekit.runtime` finds and runs them in the
frozen program. The names below are the public API; importing them imports neither Alembic nor SQLAlchemy.

Example:
    >>> import freezekit
    >>> migrations = freezekit.locate("sample_app:migrations")
    >>> report = migrations.upgrade("my.notes")
    >>> report.applied
    ('0001', '0002')
"""

from freezekit.errors import (
    DatabaseAhead,
    DatabaseInUse,
    DatabaseUnversioned,
    EnvironmentIgnoredDatabase,
    ForeignDatabase,
    FreezekitError,
    InvalidMigrations,
    MigrationFailed,
    MigrationsNotFound,
    NotADatabase,
    SmokeTestFailed,
    UnreadableBundle,
    UpgradeCancelled,
    UsageError,
)
from freezekit.manifest import Manifest, Revision
from freezekit.runtime.locate import locate
from freezekit.runtime.migrations import Migrations
from freezekit.runtime.reports import Backup, BackupFile, Plan, Progress, Report, State, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from freezekit.fleets import FleetProgress, FleetReport, Outcome, Tenant, upgrade_many

__version__ = "0.1.0"

__all__ = [
    "Backup",
    "BackupFile",
    "DatabaseAhead",
    "DatabaseInUse",
    "DatabaseUnversioned",
    "EnvironmentIgnoredDatabase",
    "FleetProgress",
    "FleetReport",
    "ForeignDatabase",
    "FreezekitError",
    "InvalidMigrations",
    "Manifest",
    "MigrationFailed",
    "Migrations",
    "MigrationsNotFound",
    "NotADatabase",
    "Outcome",
    "Plan",
    "Progress",
    "Report",
    "Revision",
    "SmokeTestFailed",
    "State",
    "Status",
    "Tenant",
    "UnreadableBundle",
    "UpgradeCancelled",
    "UsageError",
    "__version__",
    "locate",
    "upgrade_many",
]


def __getattr__(name: str) -> object:
    """Import what is about many databases when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from freezekit import fleets

    return getattr(fleets, name)
