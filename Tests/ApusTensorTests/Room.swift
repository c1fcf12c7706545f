// Room for ApusTensorTests.
