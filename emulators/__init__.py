"""Emulators of AWS services for one machine; they import nothing from tunemesh."""
