"""The naive PyFlink job that the product is compared with."""
