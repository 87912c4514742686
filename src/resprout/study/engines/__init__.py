"""Where a study's points are worked: in this process, in several, or on a Ray cluster."""
