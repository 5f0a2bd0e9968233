"""tunemesh side by side with other systems, on the same bytes and the same machine."""
