// Room for ApusOptimizerTests.
