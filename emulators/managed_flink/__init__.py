"""An emulator of kinesisanalyticsv2, by botocore's service model."""
