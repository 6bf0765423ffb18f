"""Files for the programs that stand around a site: ``hotpath render``."""
