// Room for ApusFormats.
