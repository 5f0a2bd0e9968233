"""The `tunemesh` command line: parses arguments, calls the product, prints the result."""
