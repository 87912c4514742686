"""Studies: a YAML file becomes points, points become records. Knows all rooms but the report."""
