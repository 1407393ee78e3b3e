"""Plain numbers of a scan and of the structures in its mask, in units: what needs no network."""
