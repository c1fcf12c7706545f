// Room for Apus.
