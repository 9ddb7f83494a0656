"""What runs on a finished bundle, or on the manifests of two releases. Never part of a bundle."""
