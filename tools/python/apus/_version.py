"""The version of the package; libapus says the same of itself."""

__version__ = "0.1.0"
