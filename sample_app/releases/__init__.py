"""One small document written by each past release."""
