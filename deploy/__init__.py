"""Running tunemesh: the `tunemesh` command, the laptop platform, replay and accounting."""
