// Room for ApusOperators.
