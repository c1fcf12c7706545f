// Room for ApusConformance.
