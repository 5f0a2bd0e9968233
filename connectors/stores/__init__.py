"""How the domains' stores keep records: tables and types, derived from the contracts.

Written by the back ends (``services``), read by the exports (``batch``).
"""
