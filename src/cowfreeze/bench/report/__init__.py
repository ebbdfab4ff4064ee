"""From the cells of a bench to a file, tables, a chart and sentences."""
