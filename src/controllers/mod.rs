//! Controllers: each drives the cluster from what is stored towards what is asked.
