"""What ships in the bundle and runs in the user's program.

Nothing here imports :mod:`freezekit.build` or :mod:`freezekit.check`; only :mod:`freezekit.runtime.environment` imports
Alembic, and it is imported when a script has to run.
"""
