"""Reports: one HTML file, readable without a network, about notebooks that ran or about a sweep.

``sources`` finds what was run and ``notebooks`` and ``sweeps`` read it; ``numbers`` holds recorded
numbers against their bands, ``changes`` against those of another run; ``markdown``, ``pictures``
and ``markup`` make pieces of HTML, which ``parts`` and ``pages`` put together. Text that comes from
data or a notebook is escaped where it becomes HTML, and a report carries no script at all.
"""

from recsys_lib.reports.pages import Report, make_report, write_report

__all__ = ["Report", "make_report", "write_report"]
