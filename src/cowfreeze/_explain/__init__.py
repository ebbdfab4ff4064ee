"""Why a page was copied: causes, the owners' names and paths, advice, and the map of all pages."""
