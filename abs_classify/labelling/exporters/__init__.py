"""Labels in the formats of other tools: a module a format, and ``exports.export_labels`` for all of them."""
