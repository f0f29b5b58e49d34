//! Tables of what custom kinds do: decoding, defaults, rules, columns.
