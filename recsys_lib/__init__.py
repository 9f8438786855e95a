"""The workbook's shared library: what two notebooks need, or what must be tested to be trusted."""
