"""The history of the document format, and what its scripts share."""
