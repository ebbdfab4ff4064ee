"""Its one Django application."""
