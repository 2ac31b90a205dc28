"""Which version of DCGM this stand-in is for; FakeDcgm writes another one for other versions."""

VERSION = (4, 6, 0)
