//! The table of object kinds: the one place that knows what each kind looks like.
