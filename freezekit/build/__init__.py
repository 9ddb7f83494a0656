"""What runs while freezing: it ships the scripts, what they import, and a manifest. Never part of a bundle."""
