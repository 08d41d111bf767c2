//! The port to the container engine, and its Docker adapter.
