"""Tests of the program `apus`, run by tools/check_command_line.py."""
