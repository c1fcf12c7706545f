// Room for CApusKernelsTests.
