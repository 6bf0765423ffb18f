"""The outage before it happens: replay the site's own crawl while faults strike, and measure what visitors get."""
