"""What runs on a finished bundle, or on the manifests of two releases. Never part of a bundle."""

from freezekit.check.histories import ProjectMigrations, Upgraded, upgrade_from, validate

__all__ = ["ProjectMigrations", "Upgraded", "upgrade_from", "validate"]
