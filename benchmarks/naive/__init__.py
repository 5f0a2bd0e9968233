"""A PyFlink job in its simplest form, as a comparison."""
